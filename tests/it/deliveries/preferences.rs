//! Preferences: whole, one's own, and obeyed when a notification is made and again when it is sent.

use super::*;
use optimist_tests::until;

const PATH: &str = "/v1/me/notification-preferences";

fn changed(preferences: &Value, pointer: &str, value: Value) -> Value {
    let mut changed = preferences.clone();
    *changed.pointer_mut(pointer).expect("a field") = value;
    changed
}

#[tokio::test(flavor = "multi_thread")]
async fn preferences_are_replaced_whole_and_are_ones_own() {
    let system = System::start().await;
    let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
    let defaults = ada.get(PATH).await.expect(200);
    for kind in ["message", "mention", "reaction", "role", "invite"] {
        let expected = json!({"in_app": true, "push": true, "email": false, "webhook": true});
        assert_eq!(defaults.body["kinds"][kind], expected);
    }
    assert_eq!((&defaults.body["quiet"], &defaults.body["mutes"]), (&Value::Null, &json!([])));
    let circle = ada.create_circle("public").await;
    let mut new = changed(&defaults.body, "/kinds/message/push", json!(false));
    new["quiet"] = json!({"from": "22:30", "to": "07:00"});
    new["mutes"] = json!([
        {"circle_id": circle, "until": "2099-01-01T00:00:00Z"},
        {"circle_id": uuid::Uuid::now_v7(), "until": "2001-01-01T00:00:00Z"},
    ]);
    put(&ada, PATH, &new).await.expect(200);
    let kept = ada.get(PATH).await.expect(200);
    assert_eq!((&kept.body["kinds"], &kept.body["quiet"]), (&new["kinds"], &new["quiet"]));
    assert_eq!(kept.body["mutes"].as_array().unwrap().len(), 1, "the one that is over is dropped");
    assert_eq!(ada.get(PATH).await.expect(200).is_hit(), !has_shards());
    assert_eq!(bo.get(PATH).await.expect(200).body, defaults.body);
    // The version that a client has seen is the only one that it replaces.
    let old = [("if-match", defaults.header("etag"))];
    ada.send(Method::PUT, PATH, &old, Some(new.to_string().into_bytes())).await.expect(412);
    let current = [("if-match", kept.header("etag"))];
    ada.send(Method::PUT, PATH, &current, Some(defaults.body.to_string().into_bytes())).await.expect(200);
    assert_eq!(ada.get(PATH).await.expect(200).body, defaults.body);
    for (pointer, value) in [
        ("/kinds/message/push", json!("yes")),
        ("/quiet", json!({"from": "25:00", "to": "07:00"})),
        ("/quiet", json!({"from": "22:00"})),
        ("/mutes", json!([{"circle_id": "here", "until": "2099-01-01T00:00:00Z"}])),
        ("/kinds/message", Value::Null),
    ] {
        put(&ada, PATH, &changed(&defaults.body, pointer, value)).await.expect(422);
    }
    let mute = json!({"circle_id": circle, "until": "2099-01-01T00:00:00Z"});
    put(&ada, PATH, &changed(&defaults.body, "/mutes", json!(vec![mute; 501]))).await.expect(422);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_wanted_is_not_planned_and_in_app_is_the_record() {
    let system = System::with(hurried()).await;
    let pair = Pair::new(&system).await;
    let receiver = Receiver::start("127.0.0.2").await;
    webhook(&pair.bo, &receiver, "ok/hook").await;
    let defaults = pair.bo.get(PATH).await.expect(200).body;
    let mute = json!([{"circle_id": pair.circle, "until": "2099-01-01T00:00:00Z"}]);
    for silent in
        [changed(&defaults, "/kinds/message/webhook", json!(false)), changed(&defaults, "/mutes", mute)]
    {
        put(&pair.bo, PATH, &silent).await.expect(200);
        let message = pair.say().await;
        ended(&pair.bo, &message, 0).await;
    }
    put(&pair.bo, PATH, &changed(&defaults, "/kinds/message/in_app", json!(false))).await.expect(200);
    let unseen = pair.say().await;
    until("it is followed", async || system.sql("select sum(posts) from activity") == "3").await;
    put(&pair.bo, PATH, &defaults).await.expect(200);
    let seen = pair.say().await;
    assert_eq!(ended(&pair.bo, &seen, 1).await[0]["state"], "sent");
    pair.bo.get(&format!("/v1/notifications/{unseen}/delivery")).await.expect(404);
    let told: Vec<String> =
        receiver.received("/ok/hook").iter().skip(1).map(|request| request.id().to_owned()).collect();
    assert_eq!(told, [seen]);
}

/// What changes between the record and the sending counts.
#[tokio::test(flavor = "multi_thread")]
async fn rights_and_preferences_are_checked_again_before_sending() {
    let system = System::with(hurried()).await;
    let pair = Pair::new(&system).await;
    let receiver = Receiver::start("127.0.0.2").await;
    let hook = webhook(&pair.bo, &receiver, "ok/hook").await;
    let defaults = pair.bo.get(PATH).await.expect(200).body;
    let origin = &system.origins[0];
    // Until released, no delivery gets from its claim to the check.
    let held = async || {
        let mut message = String::new();
        origin.hold("outgoing.claimed", async || message = pair.say().await).await;
        message
    };
    let message = held().await;
    pair.bo.post(&format!("/v1/notifications/{message}/read"), Value::Null).await.expect(200);
    origin.release().await;
    assert_eq!(ended(&pair.bo, &message, 1).await[0]["reason"], "read");

    let message = held().await;
    put(&pair.bo, PATH, &changed(&defaults, "/kinds/message/webhook", json!(false))).await.expect(200);
    origin.release().await;
    assert_eq!(ended(&pair.bo, &message, 1).await[0]["reason"], "preferences");
    put(&pair.bo, PATH, &defaults).await.expect(200);

    let message = held().await;
    let mute = json!([{"circle_id": pair.circle, "until": "2099-01-01T00:00:00Z"}]);
    put(&pair.bo, PATH, &changed(&defaults, "/mutes", mute)).await.expect(200);
    origin.release().await;
    assert_eq!(ended(&pair.bo, &message, 1).await[0]["reason"], "muted");
    put(&pair.bo, PATH, &defaults).await.expect(200);

    // Of these the notification goes as well.
    let state = |message: &str| {
        system.sql(&format!("select state || ' ' || reason from deliveries where subject = '{message}'"))
    };
    let message = held().await;
    pair.ada.delete(&format!("/v1/circles/{}/messages/{message}", pair.circle)).await.expect(204);
    origin.release().await;
    until("it is withdrawn", async || state(&message).starts_with("withdrawn")).await;
    assert!(["withdrawn deleted", "withdrawn notification"].contains(&state(&message).as_str()));

    let message = held().await;
    pair.bo.delete(&format!("/v1/me/push-tokens/{}", hook.text("/id"))).await.expect(204);
    origin.release().await;
    assert_eq!(ended(&pair.bo, &message, 1).await[0]["reason"], "place");
    webhook(&pair.bo, &receiver, "ok/other").await;

    let message = held().await;
    pair.ada.delete(&format!("/v1/circles/{}/members/{}", pair.circle, pair.bo.user)).await.expect(204);
    origin.release().await;
    until("it is withdrawn", async || state(&message).starts_with("withdrawn")).await;
    assert!(["withdrawn left", "withdrawn notification"].contains(&state(&message).as_str()));
    let sent = receiver.received("/ok/");
    assert!(sent.iter().all(|request| request.json()["type"] == "challenge"), "{sent:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_hours_wait_and_are_no_attempt() {
    let system = System::with(hurried()).await;
    let pair = Pair::new(&system).await;
    let receiver = Receiver::start("127.0.0.2").await;
    webhook(&pair.bo, &receiver, "ok/hook").await;
    pair.bo.patch("/v1/me", json!({"time_zone": "Asia/Kathmandu"})).await.expect(200);
    // All day but this minute: Kathmandu is 5:45 ahead.
    let now = chrono::Utc::now() + chrono::Duration::minutes(5 * 60 + 45);
    let at = |minutes: i64| (now + chrono::Duration::minutes(minutes)).format("%H:%M").to_string();
    let mut quiet = pair.bo.get(PATH).await.expect(200).body;
    quiet["quiet"] = json!({"from": at(-60), "to": at(60)});
    put(&pair.bo, PATH, &quiet).await.expect(200);
    let message = pair.say().await;
    let path = format!("/v1/notifications/{message}/delivery");
    let mut item = Value::Null;
    until("it waits", async || {
        item = pair.bo.get(&path).await.body["items"][0].clone();
        item["state"] == "queued" && item["attempts"] == 0 && due_in(&item) > 50
    })
    .await;
    assert!((58..=61).contains(&due_in(&item)), "{item:#}");
    // When the hours end, it is sent.
    quiet["quiet"] = Value::Null;
    put(&pair.bo, PATH, &quiet).await.expect(200);
    system.sql("update deliveries set due_at = now() - interval '1 minute' where ended_at is null");
    let item = &ended(&pair.bo, &message, 1).await[0];
    assert_eq!((&item["state"], &item["attempts"]), (&json!("sent"), &json!(1)));
}

/// In minutes.
fn due_in(item: &Value) -> i64 {
    let due = item["due_at"].as_str().and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
    due.map_or(0, |due| (due.to_utc() - chrono::Utc::now()).num_minutes())
}
