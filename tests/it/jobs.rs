//! Jobs: one origin of the region runs each, when it is due or on request.

use std::time::{Duration, Instant};

use optimist_shared::ids::Partition;
use optimist_shared::keys::Key;
use optimist_tests::{Options, Origin, System, until};
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_is_run_once_by_one_of_several_origins() {
    let system = System::with(Options { origins: 2, ..Options::default() }).await;
    let finished = "select count(*) from jobs where finished_at is not null and error is null";
    let all = Origin::command(&system.environment(), &["jobs", "list"]).1.lines().count();
    let deadline = optimist_tests::patience();
    while system.sql(finished) != all.to_string() {
        assert!(Instant::now() < deadline, "{}", system.sql("select * from jobs"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Both origins have looked again meanwhile: a job that is not due is not claimed.
    let started = "select max(started_at) from jobs where every_seconds > 60";
    let before = system.sql(started);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(system.sql(started), before);
    let mut runs = 0;
    for origin in &system.origins {
        let metrics =
            reqwest::get(format!("{}/metrics", origin.internal)).await.unwrap().text().await.unwrap();
        runs += metrics
            .lines()
            .filter(|line| line.starts_with("optimist_jobs_total{job=\"outbox.clean\""))
            .count();
    }
    assert_eq!(runs, 1, "one of the two has run it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_may_be_run_by_hand() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let key = [("idempotency-key", "old")];
    let body = json!({"name": "A circle", "visibility": "private"}).to_string().into_bytes();
    ada.send(reqwest::Method::POST, "/v1/circles", &key, Some(body)).await.expect(201);
    // More rows than one statement deletes.
    system.sql(&format!(
        "insert into idempotency (user_id, route, key, request_hash, status, resource)
         select '{0}', 'circles.create', n, '', 201, '{0}' from generate_series(1, 4500) n;
         update idempotency set created_at = now() - interval '25 hours'",
        ada.user
    ));
    let (succeeded, output) = Origin::command(&system.environment(), &["jobs", "run", "idempotency.clean"]);
    assert!(succeeded && output.lines().any(|line| line == "4501"), "{output}");
    assert_eq!(system.sql("select count(*) from idempotency"), "0");
    assert!(!Origin::command(&system.environment(), &["jobs", "run", "nothing"]).0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_may_be_flushed_by_hand() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let circle = ada.create_circle("private").await;
    let message = ada.say(&circle, "Good morning.").await;
    // The origin itself flushes nothing.
    for step in ["flush.read", "drafts.flush"] {
        system.origins[0].arm(step, "pause", 60_000, 1_000).await;
    }
    let heart = format!("/v1/circles/{circle}/messages/{message}/reactions/heart");
    ada.send(Method::PUT, &heart, &[], None).await.expect(202);
    let draft = format!("/v1/journal/drafts/{}", uuid::Uuid::now_v7());
    let body = json!({"body": "Dear", "base_version": null}).to_string().into_bytes();
    ada.send(Method::PUT, &draft, &[], Some(body)).await.expect(200);
    let stored =
        || system.sql("select (select count(*) from reactions) || ' ' || (select count(*) from drafts)");
    assert_eq!(stored(), "0 0");
    for (job, after) in [("writes.flush", "1 0"), ("drafts.flush", "1 1")] {
        let (succeeded, output) = Origin::command(&system.environment(), &["jobs", "run", job]);
        assert!(succeeded && output.lines().any(|line| line == "1"), "{output}");
        assert_eq!(stored(), after);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_refreshes_by_hand_leaves_no_key_cold() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let circle = ada.create_circle("private").await;
    ada.say(&circle, "Good morning.").await;
    let deadline = optimist_tests::patience();
    while system.sql("select count(*) from activity") != "1" {
        assert!(Instant::now() < deadline, "the post is not counted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let circle = circle.parse().unwrap();
    let keys = [
        Key::discovery(),
        Key::circle(circle),
        Key::circle_access(circle),
        Key::circle_members(circle),
        Key::circle_messages(circle),
    ]
    .map(|key| key.name());
    let redis = system.redis.connect().await;
    // The relay may still be about to drop copies of before the post.
    until("all keys are there", async || {
        let (succeeded, output) = Origin::command(&system.environment(), &["jobs", "run", "cache.refresh"]);
        assert!(succeeded, "{output}");
        let there: usize = redis::cmd("EXISTS").arg(&keys).query_async(&mut redis.clone()).await.unwrap();
        there == keys.len()
    })
    .await;
}

/// A copy of an epoch that the relay can no longer check would outlive it.
#[tokio::test(flavor = "multi_thread")]
async fn who_refreshes_by_hand_keeps_nothing_while_the_vouching_is_marked() {
    let mut system = System::start().await;
    let prompts = Key::prompts().name();
    let vouch = Key::Vouch.of_partition(Partition::COMMON);
    let mut redis = system.redis.connect().await;
    let vouched: String = redis::cmd("GET").arg(&vouch).query_async(&mut redis).await.unwrap();
    system.origins[0].kill();
    for (mark, kept) in [("d", 0), ("", 1)] {
        let set =
            redis::cmd("SET").arg(&vouch).arg(format!("{vouched}{mark}")).arg("PX").arg(60_000).to_owned();
        let _: () = set.query_async(&mut redis).await.unwrap();
        let (succeeded, output) = Origin::command(&system.environment(), &["jobs", "run", "cache.refresh"]);
        assert!(succeeded, "{output}");
        let there: i64 = redis::cmd("EXISTS").arg(&prompts).query_async(&mut redis).await.unwrap();
        assert_eq!(there, kept, "vouched for with the mark {mark:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_of_the_outbox_is_dropped_once_every_living_region_is_past_it() {
    const PARTITION: u64 = 1 << 24;
    let mut system = System::with(Options { own_postgres: true, ..Options::default() }).await;
    let ada = system.register("Ada").await;
    let circle = ada.create_circle("private").await;
    assert_eq!(system.sql("select count(*) from outbox_0"), "2");
    system.sql("insert into regions (name, cursor_xid) values ('elsewhere', '1')");
    // Three partitions later. The relay and the projections step over those without rows.
    system.own_postgres.as_mut().unwrap().skip_to_transaction(3 * PARTITION + 100);
    let system = system;
    let later = |what: &str, query: &str, wanted: &str| {
        let deadline = optimist_tests::patience();
        while system.sql(query) != wanted {
            assert!(Instant::now() < deadline, "{what}: {}", system.sql(query));
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    later("the relay", "select cursor_xid >= '33554432' from regions where name = 'test'", "t");
    later("the projections", "select xid >= '33554432' from projections", "t");
    let path = format!("/v1/circles/{circle}/messages");
    let deadline = optimist_tests::patience();
    while ada.post(&path, json!({"body": "Hello."})).await.status != 201 {
        assert!(Instant::now() < deadline, "posts succeed again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(system.sql("select count(*) from outbox_3"), "1");
    let clean = || {
        let (succeeded, output) = Origin::command(&system.environment(), &["jobs", "run", "outbox.clean"]);
        assert!(succeeded, "{output}");
        system.sql("select min(leaf) from leaves('outbox') leaf")
    };
    assert_eq!(clean(), "0", "another region has not seen its rows, and they are young");
    system.sql("update regions set seen_at = now() - interval '25 hours' where name = 'elsewhere'");
    assert_eq!(clean(), "0", "they are kept for a day");
    system.sql("update outbox set created_at = now() - interval '25 hours' where xid < '16777216'");
    assert_eq!(clean(), "3", "those without rows go as well");
    assert_eq!(system.sql("select xid, seq from outbox_floor"), "50331648|0");
    let partitions = "select string_agg(leaf::text, ' ' order by leaf) from leaves('outbox') leaf";
    let report = Origin::command(&system.environment(), &["jobs", "run", "regions.report"]);
    assert!(report.0 && report.1.contains("elsewhere"), "{}", report.1);
    // An origin makes them when it starts, and each minute.
    let mut system = system;
    system.origins[0].kill();
    system.replace_origin(0);
    let deadline = optimist_tests::patience();
    while system.sql(partitions) != "3 4 5 6 7 8 9 10 11" {
        assert!(Instant::now() < deadline, "{}", system.sql(partitions));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
