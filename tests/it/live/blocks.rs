//! Blocks, as subscribers see them: from the event of a block on nothing comes of whom it is about.

use optimist_tests::live::{Transport, subscribe};
use optimist_tests::{Client, Options, System};
use reqwest::Method;
use serde_json::{Value, json};

use super::gateway;

async fn types(client: &Client, circle: &str) {
    client.send(Method::PUT, &format!("/v1/circles/{circle}/typing"), &[], None).await.expect(200);
}

async fn block(client: &Client, other: &Client, is_on: bool) {
    let method = if is_on { Method::PUT } else { Method::DELETE };
    client.send(method, &format!("/v1/me/blocks/{}", other.user), &[], None).await.expect(204);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_somebody_blocked_is_told() {
    let system = System::with(Options { origins: 2, ..Options::default() }).await;
    let [ada, bob, carol] =
        [system.register("Ada").await, system.register("Bob").await, system.register("Carol").await];
    let circle = ada.create_circle("public").await;
    for member in [&bob, &carol] {
        member.join(&circle, &ada).await;
    }
    // Of somebody blocked before one listens, and while one does.
    for (index, transport) in [Transport::Events, Transport::Socket].into_iter().enumerate() {
        let is_early = index == 0;
        if is_early {
            block(&ada, &bob, true).await;
        }
        let mut listener = subscribe(&gateway(&system, index), transport, &ada, "").await;
        let mut other = subscribe(&gateway(&system, index), transport, &bob, "").await;
        listener.expect("notifications").await;
        other.expect("notifications").await;
        if !is_early {
            block(&ada, &bob, true).await;
            // A state has no place among events: the gateway knows of the block once a later event has come.
            carol.say(&circle, "Wait.").await;
            while listener.expect("message.posted").await["data"]["shown"]["body"] != "Wait." {}
        }
        types(&bob, &circle).await;
        let said = bob.say(&circle, "A canary.").await;
        types(&carol, &circle).await;
        carol.say(&circle, "No canary of his.").await;
        let (mut hidden, mut typing) = (Value::Null, Vec::new());
        loop {
            let frame = listener.next().await.unwrap();
            match frame["type"].as_str().unwrap() {
                "message.posted" if frame["data"]["message"] == said.as_str() => {
                    hidden = frame["data"].clone()
                }
                "message.posted" => {
                    assert_eq!(frame["data"]["shown"]["body"], "No canary of his.");
                    break;
                }
                "typing" => typing.push(frame["data"].clone()),
                _ => assert!(!frame.to_string().contains(&bob.user), "{frame}"),
            }
        }
        let number = &hidden["number"];
        let shown = json!({"id": said, "number": number, "hidden": true});
        assert_eq!(hidden, json!({"circle": circle, "message": said, "number": number, "shown": shown}));
        assert!(!json!(typing).to_string().contains(&bob.user), "{typing:?}");
        // Bob sees what Ada writes, and nothing of her presence.
        types(&ada, &circle).await;
        ada.say(&circle, "I am here.").await;
        loop {
            let frame = other.next().await.unwrap();
            match frame["type"].as_str().unwrap() {
                "message.posted" if frame["data"]["shown"]["author"]["id"] == ada.user.as_str() => break,
                "typing" | "live" => assert!(!frame.to_string().contains(&ada.user), "{frame}"),
                _ => {}
            }
        }
        // Both again, from the end of the block on.
        block(&ada, &bob, false).await;
        bob.say(&circle, "No canary.").await;
        while listener.expect("message.posted").await["data"]["shown"]["body"] != "No canary." {}
    }
}
