//! Events: each committed write's event is in the streams of its topics once and in order, whichever process dies
//! meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use optimist_shared::ids::Partition;
use optimist_shared::keys::Key;
use optimist_tests::events::{Place, expected, streams};
use optimist_tests::{Client, Options, System};
use reqwest::Method;
use serde_json::{Value, json};

const CIRCLES: usize = 4;
const WRITERS: usize = 16;
const MESSAGES: usize = 15;

/// SQL that inserts an outbox row about a circle, as a transaction would.
fn event_of(circle: &str, kind: &str) -> String {
    format!(
        "insert into outbox (region, request_id, keys, kind, payload, topics)
         values ('test', 'test', '{{}}', '{kind}', '{{}}', array['{circle}']::uuid[])"
    )
}

/// Waits until the streams hold exactly the events of the outbox.
async fn wait_for_all(system: &System) -> BTreeMap<Place, BTreeMap<String, String>> {
    let deadline = optimist_tests::patience();
    loop {
        let (expected, found) = (expected(system), streams(system).await);
        let places: BTreeSet<Place> = found.keys().cloned().collect();
        if places == expected {
            return found;
        }
        if Instant::now() > deadline {
            let missing: Vec<&Place> = expected.difference(&places).collect();
            let surplus: Vec<&Place> = places.difference(&expected).collect();
            panic!("missing: {missing:?}, surplus: {surplus:?}; {}", system.origins[0].log());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn write(system: Arc<tokio::sync::RwLock<System>>, client: Client, circle: String, writer: usize) {
    for number in 0..MESSAGES {
        let body = json!({"body": "Hello."}).to_string().into_bytes();
        let key = format!("{writer}-{number}");
        let path = format!("/v1/circles/{circle}/messages");
        loop {
            system.read().await.forget_limits_of(&client).await;
            let answer =
                client.try_send(Method::POST, &path, &[("idempotency-key", &key)], Some(body.clone())).await;
            match answer {
                Ok(answer) if answer.status == 201 => break,
                Ok(answer) if answer.status < 500 && answer.status != 429 => panic!("{answer:#?}"),
                _ => tokio::time::sleep(Duration::from_millis(30)).await,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_is_lost_or_doubled_whoever_dies() {
    let system = System::with(Options { origins: 2, ..Options::default() }).await;
    let mut circles = Vec::new();
    for _ in 0..CIRCLES {
        let owner = system.register("Ada").await;
        let circle = owner.create_circle("private").await;
        circles.push((owner, circle));
    }
    let system = Arc::new(tokio::sync::RwLock::new(system));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (owner, circle) = circles[writer % CIRCLES].clone();
            tokio::spawn(write(system.clone(), owner, circle, writer))
        })
        .collect();
    // Pairs of concurrent transactions, in which alternately the lower or the higher id commits late.
    let late = {
        let (system, circle) = (system.clone(), circles[0].1.clone());
        tokio::spawn(async move {
            for round in 0..8 {
                let (lower, higher) = if round % 2 == 0 { (0.7, 0.1) } else { (0.3, 0.8) };
                let both = [("lower", 0.0, lower), ("higher", 0.15, higher)].map(|(which, begins, lasts)| {
                    format!(
                        "select pg_sleep({begins}); begin; {}; select pg_sleep({lasts}); commit",
                        event_of(&circle, &format!("late.{which}"))
                    )
                });
                let database = system.read().await.database.clone();
                let [one, other] = both.map(|sql| {
                    let database = database.clone();
                    tokio::task::spawn_blocking(move || optimist_tests::stores::SHARED.sql(&database, &sql))
                });
                one.await.unwrap();
                other.await.unwrap();
            }
        })
    };
    // Kill relays before they append, after it, and before they have told Postgres.
    for (turn, step) in
        ["relay.append", "relay.appended", "relay.append", "relay.appended"].iter().enumerate()
    {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut system = system.write().await;
        let index = turn % 2;
        system.origins[index].arm(step, "abort", 0, 1).await;
        // Add a row, in case the writers are done.
        system.sql(&event_of(&circles[turn].1, "nudge"));
        let deadline = optimist_tests::patience();
        while system.origins[index].is_running() {
            // The other relay may have handled every row so far.
            assert!(Instant::now() < deadline, "the relay never came to {step}");
            system.sql(&event_of(&uuid::Uuid::new_v4().to_string(), "nudge"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        system.replace_origin(index);
    }
    // Kill at arbitrary moments, sometimes both at once.
    for turn in 0..6u64 {
        tokio::time::sleep(Duration::from_millis(200 + turn * 137 % 400)).await;
        let mut system = system.write().await;
        for index in [turn % 2, 1 - turn % 2].into_iter().take(if turn % 3 == 0 { 2 } else { 1 }) {
            system.origins[index as usize].kill();
        }
        for index in 0..2 {
            if !system.origins[index].is_running() {
                system.replace_origin(index);
            }
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    late.await.unwrap();
    let system = system.read().await;
    let entries = wait_for_all(&system).await;
    for which in ["late.lower", "late.higher"] {
        assert_eq!(entries.values().filter(|fields| fields["kind"] == which).count(), 8, "{which}");
    }
    let metrics = reqwest::get(format!("{}/metrics", system.origins[0].internal)).await.unwrap();
    assert!(metrics.text().await.unwrap().contains("optimist_relay_lag_seconds"), "lag is measured");
    for (_, circle) in &circles {
        let numbers = numbers_told(&entries, circle);
        let all: Vec<u64> = (1..=(WRITERS / CIRCLES * MESSAGES) as u64).collect();
        assert_eq!(numbers, all, "in order, without a gap");
    }
}

/// The numbers of a circle's messages in the order of its stream.
fn numbers_told(entries: &BTreeMap<Place, BTreeMap<String, String>>, circle: &str) -> Vec<u64> {
    let partition = Partition::of(circle.parse().unwrap()).index() as u16;
    // In the stream's order, which is that of the ids.
    let mut posted: Vec<(Vec<u64>, u64)> = entries
        .iter()
        .filter(|((of, _), fields)| *of == partition && fields["kind"] == "message.posted")
        .map(|((_, id), fields)| {
            let payload: Value = serde_json::from_str(&fields["payload"]).unwrap();
            (id.split('-').map(|part| part.parse().unwrap()).collect(), payload)
        })
        .filter(|(_, payload)| payload["circle"] == circle)
        .map(|(id, payload)| (id, payload["number"].as_u64().unwrap()))
        .collect();
    posted.sort();
    posted.into_iter().map(|(_, number)| number).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_holds_for_writes_without_redis() {
    let system = System::start().await;
    let owner = system.register("Ada").await;
    let circle = owner.create_circle("private").await;
    let mut writers = vec![owner.clone()];
    for _ in 1..8 {
        let member = system.register("Bo").await;
        system.forget_limits_of(&owner).await;
        member.join(&circle, &owner).await;
        writers.push(member);
    }
    system.origin_to_redis.cut();
    // The first write waits until nobody trusts Redis; then all write concurrently, several times.
    owner.say(&circle, "Alone.").await;
    let path = format!("/v1/circles/{circle}/messages");
    let at_work = writers.iter().map(|writer| async {
        for _ in 0..5 {
            writer.post(&path, json!({"body": "Together."})).await.expect(201);
        }
    });
    futures_util::future::join_all(at_work).await;
    system.origin_to_redis.send_to(&format!("127.0.0.1:{}", system.redis.port));
    let entries = wait_for_all(&system).await;
    assert_eq!(numbers_told(&entries, &circle), (1..=41).collect::<Vec<u64>>());
}

/// A transaction that begins before ten messages and commits after them.
async fn overtaken(system: &System) {
    let ada = system.register("Ada").await;
    let circle = ada.create_circle("private").await;
    let late = format!("begin; {}; select pg_sleep(1); commit", event_of(&circle, "late"));
    std::thread::scope(|scope| {
        scope.spawn(|| system.sql(&late));
        scope.spawn(|| {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            for _ in 0..10 {
                runtime.block_on(ada.say(&circle, "Hello."));
            }
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_others_overtake_is_not_left_out() {
    let system = System::start().await;
    overtaken(&system).await;
    wait_for_all(&system).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_may_read_a_replica() {
    let system = System::with(Options { own_postgres: true, replica: true, ..Options::default() }).await;
    overtaken(&system).await;
    wait_for_all(&system).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_restarts_gets_what_it_lost() {
    let mut system = System::start().await;
    let ada = system.register("Ada").await;
    let circle = ada.create_circle("private").await;
    for _ in 0..3 {
        ada.say(&circle, "Before.").await;
    }
    wait_for_all(&system).await;
    // The last second may not be on disk: the cursor goes back with the stream.
    system.redis.kill();
    system.redis.launch();
    system.forget_limits_of(&ada).await;
    ada.say(&circle, "After.").await;
    wait_for_all(&system).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_was_emptied_says_where_its_history_begins() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let circle = ada.create_circle("private").await;
    ada.say(&circle, "Before.").await;
    let before = wait_for_all(&system).await;
    let mut redis = system.redis.connect().await;
    let _: () = redis::cmd("FLUSHALL").query_async(&mut redis).await.unwrap();
    ada.say(&circle, "After.").await;
    let partition = Partition::of(circle.parse().unwrap());
    let deadline = optimist_tests::patience();
    let since = loop {
        let since: Option<String> = redis::cmd("HGET")
            .arg(Key::Cursor.of_partition(partition))
            .arg("since")
            .query_async(&mut redis)
            .await
            .unwrap();
        let found = streams(&system).await;
        let is_there = found.values().any(|fields| fields["kind"] == "message.posted");
        if let Some(since) = since.filter(|_| is_there) {
            break since;
        }
        assert!(Instant::now() < deadline, "the event after the flush did not come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let number = |id: &str| -> Vec<u64> { id.split('-').map(|part| part.parse().unwrap()).collect() };
    // Postgres may know an older position than Redis did: from there on events are appended again.
    let found = streams(&system).await;
    for key in before.keys().filter(|(of, _)| usize::from(*of) == partition.index()) {
        let is_after = number(&key.1) > number(&since);
        assert_eq!(found.contains_key(key), is_after, "{key:?}, and history is whole from {since} on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_was_silent_for_a_day_begins_anew() {
    let mut system = System::start().await;
    let ada = system.register("Ada").await;
    let circle = ada.create_circle("private").await;
    let path = format!("/v1/circles/{circle}");
    wait_for_all(&system).await;
    ada.until_hit(&path).await;
    let epoch =
        |system: &System| system.sql("select epoch from regions where name = 'test'").parse::<u64>().unwrap();
    let before = epoch(&system);
    system.origins[0].kill();
    // Another region goes on for more than a day; the outbox keeps nothing for an absent region.
    system.sql(&format!(
        "{0};
         update circles set name = 'Elsewhere' where id = '{circle}';
         update outbox set created_at = now() - interval '25 hours';
         update regions set seen_at = now() - interval '25 hours';
         insert into regions (name, cursor_xid, cursor_seq) select 'elsewhere', xid, seq from outbox
         order by xid desc, seq desc limit 1;
         update projections set (xid, seq) = (select cursor_xid, cursor_seq from regions where name = 'elsewhere')",
        event_of(&circle, "missed")
    ));
    // As a dropped partition leaves it.
    system.sql(
        "update outbox_floor set (xid, seq) = (select xid, seq from outbox order by xid desc, seq desc limit 1);
         delete from outbox",
    );
    let floor = system.sql("select xid || '-' || seq from outbox_floor");
    system.replace_origin(0);
    // The old origin's vouching lasts for three more seconds.
    let mut redis = system.redis.connect().await;
    let deadline = optimist_tests::patience();
    loop {
        let vouch = Key::Vouch.of_partition(Partition::of(circle.parse().unwrap()));
        let vouched: Option<String> = redis::cmd("GET").arg(vouch).query_async(&mut redis).await.unwrap();
        if vouched == Some(format!("{:016x}", before + 1)) {
            break;
        }
        assert!(Instant::now() < deadline, "{vouched:?} is vouched for, after {before}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(epoch(&system), before + 1);
    system.forget_limits_of(&ada).await;
    // Copies from before are not used, and the stream does not claim history from before the gap.
    assert_eq!(ada.get(&path).await.expect(200).body["name"], "Elsewhere");
    ada.say(&circle, "I am back.").await;
    let partition = Partition::of(circle.parse().unwrap());
    let deadline = optimist_tests::patience();
    let is_there = async || streams(&system).await.values().any(|fields| fields["kind"] == "message.posted");
    while !is_there().await {
        assert!(Instant::now() < deadline, "events do not go on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let since: String = redis::cmd("HGET")
        .arg(Key::Cursor.of_partition(partition))
        .arg("since")
        .query_async(&mut redis)
        .await
        .unwrap();
    assert_eq!(since, floor);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_the_relay_is_behind_is_known_while_it_gets_nowhere() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    wait_for_all(&system).await;
    let behind = async || -> f64 {
        let page = reqwest::get(format!("{}/metrics", system.origins[0].internal)).await.unwrap();
        let page = page.text().await.unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix("optimist_relay_behind_seconds "));
        line.expect("the gauge").parse().unwrap()
    };
    system.origin_to_redis.cut();
    system.sql(&event_of(&ada.user, "waits"));
    let deadline = optimist_tests::patience();
    while behind().await < 2.0 {
        assert!(Instant::now() < deadline, "{} s", behind().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    system.origin_to_redis.send_to(&format!("127.0.0.1:{}", system.redis.port));
    wait_for_all(&system).await;
    while behind().await > 0.5 {
        assert!(Instant::now() < deadline, "{} s", behind().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
