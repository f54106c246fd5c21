//! States: they come whole after each connect, and anew after each change.

use optimist_tests::live::{Subscriber, Transport, subscribe};
use optimist_tests::{Options, System};
use reqwest::Method;
use serde_json::{Value, json};

use super::{gateway, two_in_a_circle};

/// The next value of a state that is as wanted: values before it may come as well.
async fn until(listener: &mut Subscriber, name: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    loop {
        let frame = listener.expect(name).await;
        assert!(frame["id"].is_null(), "a state has no id: {frame}");
        if is_wanted(&frame["data"]) {
            return frame["data"].clone();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_unread_notifications_follows_each_change() {
    let system = System::with(Options { origins: 2, ..Options::default() }).await;
    let (ada, bo, circle) = two_in_a_circle(&system).await;
    // Whichever origin tells, each gateway hears of it.
    let mut listeners = Vec::new();
    for (index, transport) in [Transport::Events, Transport::Socket].into_iter().enumerate() {
        let mut listener = subscribe(&gateway(&system, index), transport, &bo, "").await;
        let first = until(&mut listener, "notifications", |_| true).await;
        assert_eq!(first, json!({"unread": 0, "newest": null}));
        listeners.push(listener);
    }
    let message = ada.say(&circle, "Good morning.").await;
    for listener in &mut listeners {
        let told = until(listener, "notifications", |data| data["unread"] == 1).await;
        assert_eq!(told["newest"]["id"], message.as_str());
    }
    bo.post("/v1/notifications/read", json!({})).await.expect(200);
    for listener in &mut listeners {
        until(listener, "notifications", |data| data["unread"] == 0).await;
    }
    // A reaction is told once it is flushed; what is withdrawn is not counted any more.
    let mine = bo.say(&circle, "Good morning to you.").await;
    let path = format!("/v1/circles/{circle}/messages/{mine}/reactions/heart");
    ada.send(Method::PUT, &path, &[], None).await.expect(202);
    for listener in &mut listeners {
        until(listener, "notifications", |data| data["unread"] == 1).await;
    }
    bo.delete(&format!("/v1/circles/{circle}/messages/{mine}")).await.expect(204);
    for listener in &mut listeners {
        until(listener, "notifications", |data| data["unread"] == 0).await;
    }
    // Whoever comes back receives the state whole.
    let mut again = subscribe(&gateway(&system, 0), Transport::Socket, &bo, "").await;
    until(&mut again, "notifications", |data| data["unread"] == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_is_told_though_a_wake_was_lost() {
    let system = System::start().await;
    let (ada, bo, circle) = two_in_a_circle(&system).await;
    let gateway = gateway(&system, 0);
    let mut listener = subscribe(&gateway, Transport::Socket, &bo, "").await;
    until(&mut listener, "notifications", |data| data["unread"] == 0).await;
    system.origins[0].disable("wake", true).await;
    ada.say(&circle, "Good morning.").await;
    listener.expect("message.posted").await;
    optimist_tests::until("Bo is told", async || {
        bo.get("/v1/notifications/unread-count").await.expect(200).body["unread"] == 1
    })
    .await;
    // Its topics are known here still.
    let mut again = subscribe(&gateway, Transport::Events, &bo, "").await;
    until(&mut again, "notifications", |data| data["unread"] == 1).await;
}

/// How many messages Redis has published on shard channels.
async fn published(redis: &mut redis::aio::MultiplexedConnection) -> u64 {
    let info: String = redis::cmd("INFO").arg("commandstats").query_async(redis).await.unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_spublish:calls="));
    line.map_or(0, |line| line.split_once(',').unwrap().0.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn people_who_are_notified_together_share_a_wake() {
    const PEOPLE: usize = 24;
    let system = System::start().await;
    let (ada, bo, circle) = two_in_a_circle(&system).await;
    for _ in 2..PEOPLE {
        let member = system.register("Cy").await.user;
        system.sql(&format!(
            "insert into memberships (circle_id, user_id, role) values ('{circle}', '{member}', 'member')"
        ));
    }
    let mut listener = subscribe(&gateway(&system, 0), Transport::Socket, &bo, "").await;
    until(&mut listener, "notifications", |_| true).await;
    let before = bo.get("/v1/notifications/unread-count").await.expect(200).body["unread"].as_u64().unwrap();
    let mut redis = system.redis.connect().await;
    let first = published(&mut redis).await;
    ada.say(&circle, "Good morning.").await;
    until(&mut listener, "notifications", |data| data["unread"] == before + 1).await;
    // Beside it those of the event itself.
    let published = published(&mut redis).await - first;
    assert!(published < PEOPLE as u64 / 2, "{published} messages");
}
