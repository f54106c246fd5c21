//! Real time: subscribers of the gateway receive every event once and in order, and none that they may not receive.

mod commands;
mod edges;
mod ending;
mod states;
mod streams;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use optimist_tests::live::{Transport, connect, subscribe, ticket};
use optimist_tests::proxy::{Mode, Proxy};
use optimist_tests::system::address;
use optimist_tests::{Client, Options, System};
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
    let deadline = Instant::now() + Duration::from_secs(10);
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

/// What a client has seen over all its connections.
#[derive(Default)]
struct Record {
    ids: Vec<String>,
    /// Whether it was told that its history had ended.
    was_told: bool,
}

/// How a client's connections end.
#[derive(Clone, Copy, Debug)]
enum Manner {
    Clean,
    Cut,
    HalfOpen,
    Slow,
}

/// Listens until it has seen the last event, with connections that end.
async fn wander(
    gateway: String,
    client: Client,
    transport: Transport,
    manner: Manner,
    last: Arc<OnceLock<String>>,
) -> Record {
    let proxy = Proxy::start(&gateway).await;
    let mut record = Record::default();
    let mut position: Option<String> = None;
    let mut turn = 0u64;
    let mut refused = std::collections::BTreeMap::new();
    let mut since_end: Option<Instant> = None;
    loop {
        if last.get().is_some() {
            let waited = since_end.get_or_insert_with(Instant::now).elapsed();
            if waited > Duration::from_secs(45) {
                eprintln!(
                    "{transport:?} {manner:?}: {} events to {position:?}, refused {refused:?}",
                    record.ids.len()
                );
                return record;
            }
        }
        proxy.set(Mode::Open);
        let query = position.as_ref().map_or_else(String::new, |id| format!("?last_event_id={id}"));
        let answer =
            client.try_send(reqwest::Method::POST, "/v1/realtime/tickets", &[], Some(b"{}".to_vec())).await;
        let connected = match answer {
            Ok(answer) if answer.status == 201 => {
                let ticket = answer.text("/ticket");
                let address = proxy.address();
                let attempt = connect(&address, transport, &ticket, &query);
                tokio::time::timeout(Duration::from_secs(5), attempt).await.unwrap_or(Err(1))
            }
            Ok(answer) => Err(answer.status),
            Err(_) => Err(2),
        };
        if let Err(status) = &connected {
            *refused.entry(*status).or_insert(0) += 1;
        }
        let Ok(mut listener) = connected else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        turn += 1;
        let ends = Instant::now() + Duration::from_millis(300 + turn * 211 % 700);
        loop {
            let Some(frame) = listener.within(ends.saturating_duration_since(Instant::now())).await else {
                break;
            };
            if matches!(manner, Manner::Slow) && turn.is_multiple_of(3) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            if let Some(id) = frame["id"].as_str() {
                position = Some(id.to_owned());
            }
            if frame["type"] == "message.deleted" {
                record.ids.push(frame["id"].as_str().unwrap().to_owned());
            }
            record.was_told |= frame["type"] == "ready" && frame["data"]["recovered"] == false;
            if record.ids.last().is_some_and(|id| last.get() == Some(id)) {
                return record;
            }
        }
        match manner {
            Manner::Clean | Manner::Slow => {}
            Manner::Cut => proxy.cut(),
            Manner::HalfOpen => {
                proxy.set(Mode::HalfOpen);
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_gap_whoever_dies() {
    const EVENTS: u32 = 5_000;
    let mut system = System::with(Options { origins: 2, ..Options::default() }).await;
    let ada = system.register("Ada").await;
    let circles = [ada.create_circle("private").await, ada.create_circle("private").await];
    // The second origin lives: subscribers connect to it. The first dies, and Redis restarts.
    let gateway = gateway(&system, 1);
    let last = Arc::new(OnceLock::new());
    let mut clients = Vec::new();
    let manners = [Manner::Clean, Manner::Cut, Manner::HalfOpen, Manner::Slow];
    for (index, manner) in manners.into_iter().cycle().take(8).enumerate() {
        let transport = BOTH[index / 4];
        let wanderer = wander(gateway.clone(), ada.clone(), transport, manner, last.clone());
        clients.push(tokio::spawn(wanderer));
    }
    let steps = EVENTS / 100;
    for step in 0..steps {
        for (index, circle) in circles.iter().enumerate() {
            let from = step * 100 + index as u32 * 50;
            system.sql(&events_of(circle, from..from + 50));
        }
        system.forget_limits_of(&ada).await;
        match step {
            _ if step == steps / 5 || step == steps * 3 / 5 => {
                system.origins[0].kill();
                system.replace_origin(0);
            }
            _ if step == steps * 2 / 5 => {
                system.redis.kill();
                system.redis.launch();
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let expected: Vec<String> = {
        let rows = circles.iter().flat_map(|circle| ids_of(&system, circle));
        let mut rows: Vec<(Vec<u64>, String)> = rows.map(|id| (number(&id), id)).collect();
        rows.sort();
        rows.into_iter().map(|(_, id)| id).collect()
    };
    assert_eq!(expected.len(), EVENTS as usize);
    // One more, since a client may have heard the last before it knows that.
    system.sql(&events_of(&circles[0], EVENTS..EVENTS + 1));
    let end = ids_of(&system, &circles[0]).pop().unwrap();
    last.set(end.clone()).unwrap();
    let expected = [expected, vec![end]].concat();
    let deadline = Duration::from_secs(60);
    for (index, client) in clients.into_iter().enumerate() {
        let record = tokio::time::timeout(deadline, client).await.unwrap().unwrap();
        assert!(!record.was_told, "{index}: history had not ended");
        let from = expected.iter().position(|id| Some(id) == record.ids.first()).unwrap();
        assert!(from < 2_000, "{index} came too late to judge: {from}");
        assert_eq!(record.ids.len(), expected.len() - from, "{index}");
        assert!(record.ids == expected[from..], "{index}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_comes_past_the_end_of_a_right() {
    const TRIES: u32 = 12;
    let system = System::start().await;
    let gateway = gateway(&system, 0);
    let ada = system.register("Ada").await;
    for turn in 0..TRIES {
        let bo = system.register("Bo").await;
        let circle = ada.create_circle("private").await;
        bo.join(&circle, &ada).await;
        system.forget_limits_of(&ada).await;
        let mut listeners = Vec::new();
        for transport in BOTH {
            let mut listener = subscribe(&gateway, transport, &bo, "").await;
            listener.expect("ready").await;
            listeners.push(listener);
        }
        // Events come all the time, before, at and after the end of the right.
        let database = system.database.clone();
        let sql: Vec<String> = (0..40).map(|n| events_of(&circle, n * 25..n * 25 + 25)).collect();
        let flood = std::thread::spawn(move || {
            sql.iter().for_each(|sql| drop(optimist_tests::stores::SHARED.sql(&database, sql)));
        });
        tokio::time::sleep(Duration::from_millis(u64::from(turn * 37 % 200))).await;
        let (kind, is_closed) = match turn % 4 {
            0 => {
                ada.delete(&format!("/v1/circles/{circle}/members/{}", bo.user)).await.expect(204);
                ("member.removed", false)
            }
            1 => {
                ada.delete(&format!("/v1/circles/{circle}/members/{}?ban=true", bo.user)).await.expect(204);
                ("member.removed", false)
            }
            2 => {
                bo.delete(&format!("/v1/circles/{circle}/members/me")).await.expect(204);
                ("member.left", false)
            }
            _ => {
                bo.post("/v1/auth/logout", json!({})).await.expect(204);
                ("session.revoked", true)
            }
        };
        let ended = system.sql(&format!(
            "select xid::text || '-' || seq from outbox where kind = '{kind}' and topics @> array['{}']::uuid[]
             order by xid desc, seq desc limit 1",
            bo.user
        ));
        let ended = number(&format!("1.{ended}"));
        flood.join().unwrap();
        system.sql(&events_of(&circle, 0..5));
        for (transport, listener) in BOTH.into_iter().zip(&mut listeners) {
            let mut told = false;
            while let Some(frame) = listener.within(Duration::from_millis(700)).await {
                if frame["type"] == "message.deleted" {
                    let at = number(frame["id"].as_str().unwrap());
                    assert!(at < ended, "{turn} {transport:?} {kind}: {frame} after {ended:?}");
                }
                told |= frame["type"] == if is_closed { "closed" } else { kind };
                if is_closed && frame["type"] == "closed" {
                    assert_eq!(frame["data"]["code"], 4401);
                }
            }
            assert!(told, "{turn} {transport:?}: not told of {kind}");
        }
    }
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
