//! Commands through a socket: admitted and charged like the requests that they stand for.

use optimist_tests::System;
use optimist_tests::live::{Subscriber, Transport, subscribe};
use serde_json::{Value, json};

use super::{gateway, two_in_a_circle};

/// Sends a command, and returns its answer.
async fn ask(listener: &mut Subscriber, command: Value) -> Value {
    listener.command(&command.to_string());
    let frame = listener.expect("answer").await;
    assert_eq!(frame["data"]["ref"], command["ref"], "{frame}");
    frame["data"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_does_what_its_request_does() {
    let system = System::start().await;
    let (ada, bo, circle) = two_in_a_circle(&system).await;
    let gateway = gateway(&system, 0);
    let mut ada_hears = subscribe(&gateway, Transport::Socket, &ada, "").await;
    let mut bo_says = subscribe(&gateway, Transport::Socket, &bo, "").await;
    ada_hears.expect("ready").await;
    bo_says.expect("ready").await;

    let typed = ask(&mut bo_says, json!({"type": "typing", "circle": circle, "ref": 1})).await;
    assert_eq!((&typed["status"], &typed["body"]["promise"]), (&json!(200), &json!("redis-only")), "{typed}");
    loop {
        let frame = ada_hears.expect("typing").await;
        if frame["data"]["typing"][0]["user_id"] == bo.user.as_str() {
            break;
        }
    }
    let said = json!({"type": "presence", "state": "busy", "device": "laptop", "ref": "p"});
    assert_eq!(ask(&mut bo_says, said).await["body"]["state"], "busy");
    assert_eq!(ada.get(&format!("/v1/users/{}/presence", bo.user)).await.expect(200).text("/state"), "busy");

    ada.say(&circle, "Good morning.").await;
    loop {
        let frame = bo_says.expect("notifications").await;
        if frame["data"]["unread"] == 1 {
            let read = json!({"type": "read", "notification": frame["data"]["newest"]["id"], "ref": null});
            let read = ask(&mut bo_says, read).await;
            assert_eq!((&read["status"], &read["body"]["unread"]), (&json!(200), &json!(0)), "{read}");
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_refused_like_its_request() {
    let system = System::start().await;
    let (ada, bo, circle) = two_in_a_circle(&system).await;
    let gateway = gateway(&system, 0);
    // The stranger, the other user, who left, and the banned.
    let cy = system.register("Cy").await;
    let (left, banned) = (system.register("Di").await, system.register("Ed").await);
    left.join(&circle, &ada).await;
    left.delete(&format!("/v1/circles/{circle}/members/me")).await.expect(204);
    banned.join(&circle, &ada).await;
    ada.delete(&format!("/v1/circles/{circle}/members/{}?ban=true", banned.user)).await.expect(204);
    ada.say(&circle, "Good morning.").await;
    let mut bos = subscribe(&gateway, Transport::Socket, &bo, "").await;
    let note = loop {
        let frame = bos.expect("notifications").await;
        if frame["data"]["unread"] == 1 {
            break frame["data"]["newest"]["id"].clone();
        }
    };
    for anyone in [&cy, &left, &banned] {
        let mut socket = subscribe(&gateway, Transport::Socket, anyone, "").await;
        let typed = ask(&mut socket, json!({"type": "typing", "circle": circle, "ref": 1})).await;
        assert_eq!((&typed["status"], &typed["body"]["code"]), (&json!(404), &json!("not-found")), "{typed}");
        let read = ask(&mut socket, json!({"type": "read", "notification": note, "ref": 2})).await;
        assert_eq!(read["status"], 404, "{read}");
    }
    // A field that is wrong is named, and what is no command ends the connection.
    let said = json!({"type": "presence", "state": "asleep", "device": "laptop", "ref": 3});
    let refused = ask(&mut bos, said).await;
    assert_eq!((&refused["status"], &refused["body"]["errors"][0]["field"]), (&json!(422), &json!("state")));
    // The limit is the request's: what is used up there is used up here.
    let mut last = Value::Null;
    for _ in 0..1_000 {
        let answer = bo.send(reqwest::Method::PUT, &format!("/v1/circles/{circle}/typing"), &[], None).await;
        if answer.status == 429 {
            last = ask(&mut bos, json!({"type": "typing", "circle": circle, "ref": 4})).await;
            break;
        }
    }
    assert_eq!(last["status"], 429, "{last}");
    assert!(last["retry_after"].as_u64().is_some_and(|after| after > 0), "{last}");
    for bad in [
        json!({"type": "typing", "circle": format!("{circle}/../draft")}),
        json!({"type": "typing"}),
        json!({"type": "ping", "circle": circle}),
        json!({"type": "ping", "ref": "x".repeat(100)}),
        json!({"type": "ping", "ref": {}}),
    ] {
        let mut socket = subscribe(&gateway, Transport::Socket, &cy, "").await;
        socket.expect("ready").await;
        socket.command(&bad.to_string());
        assert_eq!(socket.expect("closed").await["data"]["code"], 4400, "{bad}");
    }
}
