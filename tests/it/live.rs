//! Real time: subscribers of the gateway receive every event once and in order, and none that they may not receive.

mod blocks;
mod commands;
mod edges;
mod ending;
mod gaps;
mod ghosts;
mod memory;
mod rights;
mod states;
mod streams;

use std::time::{Duration, Instant};

use optimist_tests::live::{Transport, connect, subscribe, ticket};
use optimist_tests::proxy::Mode;
use optimist_tests::system::address;
use optimist_tests::{Client, System};
use serde_json::{Value, json};

const BOTH: [Transport; 2] = [Transport::Events, Transport::Socket];

fn gateway(system: &System, index: usize) -> String {
    address(&system.origins[index].gateway).to_owned()
}

async fn two_in_a_circle(system: &System) -> (Client, Client, String) {
    let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
    let circle = ada.create_circle("private").await;
    bo.join(&circle, &ada).await;
    (ada, bo, circle)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_in_a_circle_comes_at_once_to_its_members() {
    let system = System::start().await;
    let (ada, bo, circle) = two_in_a_circle(&system).await;
    let gateway = gateway(&system, 0);
    let mut listeners = Vec::new();
    for transport in BOTH {
        let mut listener = subscribe(&gateway, transport, &bo, "").await;
        let ready = listener.expect("ready").await;
        assert_eq!(ready["data"], json!({"recovered": true, "reload": []}), "{ready}");
        listeners.push(listener);
    }
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        let message = ada.say(&circle, "Good morning.").await;
        let said = Instant::now();
        for listener in &mut listeners {
            let frame = listener.expect("message.posted").await;
            slowest = slowest.max(said.elapsed());
            assert_eq!(frame["circle"], circle.as_str());
            assert_eq!(frame["data"]["message"], message.as_str());
            assert_eq!(frame["data"]["shown"]["body"], "Good morning.", "{frame}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(slowest < Duration::from_millis(1_500), "the slowest took {slowest:?}");
    // A stranger hears nothing, and the narrowed hears what it asks for.
    let stranger = system.register("Cy").await;
    let mut elsewhere = subscribe(&gateway, Transport::Events, &stranger, "").await;
    let mut narrowed =
        subscribe(&gateway, Transport::Socket, &bo, &format!("?circles={}", uuid::Uuid::now_v7())).await;
    elsewhere.expect("ready").await;
    narrowed.expect("ready").await;
    ada.say(&circle, "Is anybody here?").await;
    listeners[0].expect("message.posted").await;
    for listener in [&mut elsewhere, &mut narrowed] {
        let heard = listener.within(Duration::from_millis(300)).await;
        assert!(heard.is_none_or(|frame| frame["type"] != "message.posted"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_message_travels_as_its_id() {
    let system = System::start().await;
    let (ada, bo, circle) = two_in_a_circle(&system).await;
    let mut listener = subscribe(&gateway(&system, 0), Transport::Socket, &bo, "").await;
    listener.expect("ready").await;
    let message = ada.say(&circle, &"x".repeat(4_000)).await;
    let frame = listener.expect("message.posted").await;
    assert_eq!((&frame["data"]["message"], &frame["data"]["shown"]), (&json!(message), &Value::Null));
    assert!(frame.to_string().len() < 4_096);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_receives_what_they_missed_once_and_in_order() {
    let system = System::start().await;
    let (ada, bo, circle) = two_in_a_circle(&system).await;
    let gateway = gateway(&system, 0);
    let mut listener = subscribe(&gateway, Transport::Events, &bo, "").await;
    listener.expect("ready").await;
    // Once it has come, the joining before it is settled too.
    ada.say(&circle, "Welcome.").await;
    let mut last = listener.expect("message.posted").await["id"].as_str().unwrap().to_owned();
    drop(listener);
    for (index, transport) in BOTH.into_iter().cycle().take(4).enumerate() {
        let mut missed = Vec::new();
        for _ in 0..3 {
            system.forget_limits_of(&ada).await;
            missed.push(ada.say(&circle, "While you were out.").await);
        }
        let mut listener = subscribe(&gateway, transport, &bo, &format!("?last_event_id={last}")).await;
        assert_eq!(listener.expect("ready").await["data"], json!({"recovered": true, "reload": []}));
        for message in missed {
            let frame = listener.expect("message.posted").await;
            assert_eq!(frame["data"]["message"], message.as_str(), "{index}");
            last = frame["id"].as_str().unwrap().to_owned();
        }
    }
    // Those who joined meanwhile load the circle anew.
    let other = ada.create_circle("private").await;
    system.forget_limits_of(&ada).await;
    let mut watching = subscribe(&gateway, Transport::Socket, &bo, "").await;
    watching.expect("ready").await;
    bo.join(&other, &ada).await;
    watching.expect("member.joined").await;
    let mut listener = subscribe(&gateway, Transport::Events, &bo, &format!("?last_event_id={last}")).await;
    assert_eq!(listener.expect("ready").await["data"], json!({"recovered": true, "reload": [other]}));
    assert_eq!(listener.expect("member.joined").await["data"]["user"], bo.user.as_str());
    // A position of another timeline means nothing.
    let mut listener = subscribe(&gateway, Transport::Events, &bo, "?last_event_id=7.1-1").await;
    assert_eq!(listener.expect("ready").await["data"]["recovered"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_admits_once_and_bounds_are_kept() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let gateway = gateway(&system, 0);
    let once = ticket(&ada).await;
    let mut kept = vec![connect(&gateway, Transport::Events, &once, "").await.ok().unwrap()];
    for transport in BOTH {
        assert_eq!(connect(&gateway, transport, &once, "").await.err(), Some(401));
        assert_eq!(connect(&gateway, transport, "nonsense", "").await.err(), Some(401));
    }
    for bad in ["?circles=x", "?last_event_id=x", "?from=1"] {
        assert_eq!(connect(&gateway, Transport::Events, &ticket(&ada).await, bad).await.err(), Some(400));
    }
    for _ in 1..10 {
        kept.push(subscribe(&gateway, Transport::Socket, &ada, "").await);
    }
    for transport in BOTH {
        assert_eq!(connect(&gateway, transport, &ticket(&ada).await, "").await.err(), Some(429));
    }
    // A place is free again once its connection has gone.
    kept.pop();
    let deadline = optimist_tests::patience();
    while connect(&gateway, Transport::Socket, &ticket(&ada).await, "").await.is_err() {
        assert!(Instant::now() < deadline, "its place is not free");
    }
    for (command, code) in [("{\"type\":\"shout\"}".to_owned(), 4400), ("x".repeat(5_000), 4400)] {
        let mut listener = kept.pop().unwrap();
        listener.expect("ready").await;
        listener.command("{\"type\":\"ping\"}");
        listener.expect("pong").await;
        listener.command(&command);
        assert_eq!(listener.expect("closed").await["data"]["code"], code);
    }
    let mut hasty = kept.pop().unwrap();
    for _ in 0..12 {
        hasty.command("{\"type\":\"ping\"}");
    }
    assert_eq!(hasty.expect("closed").await["data"]["code"], 4429);
}

/// SQL that inserts rows about a circle, each in the order of its number.
fn events_of(circle: &str, numbers: std::ops::Range<u32>) -> String {
    format!(
        "insert into outbox (region, request_id, keys, kind, payload, topics)
         select 'test', 'test', '{{}}', 'message.deleted',
             jsonb_build_object('circle', '{circle}', 'message', '{circle}', 'number', n), array['{circle}']::uuid[]
         from generate_series({}, {}) n order by n",
        numbers.start,
        numbers.end - 1
    )
}

/// The ids of the outbox's events of a circle, in their order.
fn ids_of(system: &System, circle: &str) -> Vec<String> {
    let rows = system.sql(&format!(
        "select '1.' || xid::text || '-' || seq from outbox
         where kind = 'message.deleted' and topics @> array['{circle}']::uuid[] order by xid, seq"
    ));
    rows.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_go_on_by_themselves_after_redis_was_away() {
    let mut system = System::start().await;
    let (ada, bo, circle) = two_in_a_circle(&system).await;
    let gateway = gateway(&system, 0);
    let mut listeners = Vec::new();
    for transport in BOTH {
        let mut listener = subscribe(&gateway, transport, &bo, "").await;
        listener.expect("ready").await;
        listeners.push(listener);
    }
    for fault in ["restarted", "emptied", "stopped"] {
        system.sql(&events_of(&circle, 0..1));
        for listener in &mut listeners {
            listener.expect("message.deleted").await;
        }
        match fault {
            "restarted" => {
                system.redis.kill();
                system.redis.launch();
            }
            "emptied" => {
                let mut redis = system.redis.connect().await;
                let _: () = redis::cmd("FLUSHALL").query_async(&mut redis).await.unwrap();
            }
            _ => {
                system.origin_to_redis.set(Mode::HalfOpen);
                tokio::time::sleep(Duration::from_secs(10)).await;
                system.origin_to_redis.set(Mode::Open);
            }
        }
        system.sql(&events_of(&circle, 1..4));
        for (transport, listener) in BOTH.into_iter().zip(&mut listeners) {
            for _ in 0..3 {
                let frame =
                    tokio::time::timeout(Duration::from_secs(30), listener.expect("message.deleted")).await;
                assert!(frame.is_ok(), "{transport:?} after Redis was {fault}");
            }
        }
        system.forget_limits_of(&ada).await;
    }
}

fn number(id: &str) -> Vec<u64> {
    id.split(['.', '-']).map(|part| part.parse().unwrap()).collect()
}
