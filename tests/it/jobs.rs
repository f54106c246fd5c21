//! Jobs: each run by one origin of the region, when it is due, or when it is asked for.

use std::time::{Duration, Instant};

use optimist_tests::{Options, Origin, System};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_is_run_once_by_one_of_several_origins() {
    let system = System::with(Options { origins: 2, ..Options::default() }).await;
    let finished = "select count(*) from jobs where finished_at is not null and error is null";
    let all = Origin::command(&system.environment(), &["jobs", "list"]).1.lines().count();
    let deadline = Instant::now() + Duration::from_secs(20);
    while system.sql(finished) != all.to_string() {
        assert!(Instant::now() < deadline, "{}", system.sql("select * from jobs"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Both have looked again meanwhile: what is not due is not claimed.
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
    system.sql("update idempotency set created_at = now() - interval '25 hours'");
    let (succeeded, output) = Origin::command(&system.environment(), &["jobs", "run", "idempotency.clean"]);
    assert!(succeeded && output.lines().any(|line| line == "1"), "{output}");
    assert_eq!(system.sql("select count(*) from idempotency"), "0");
    assert!(!Origin::command(&system.environment(), &["jobs", "run", "nothing"]).0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_is_kept_until_every_living_region_is_past_it() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    ada.create_circle("private").await;
    let rows = || system.sql("select count(*) from outbox");
    system.sql("insert into regions (name, cursor_xid) values ('elsewhere', '1')");
    system.sql("update outbox set created_at = now() - interval '25 hours'");
    let clean = || Origin::command(&system.environment(), &["jobs", "run", "outbox.clean"]);
    assert!(clean().0);
    assert_eq!(rows(), "2", "another region has not seen them");
    system.sql("update regions set seen_at = now() - interval '25 hours' where name = 'elsewhere'");
    let deadline = Instant::now() + Duration::from_secs(10);
    while rows() != "0" {
        assert!(Instant::now() < deadline, "a silent region is not waited for");
        assert!(clean().0);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(system.sql("select count(*) from outbox_floor where xid > '0'"), "1");
    let report = Origin::command(&system.environment(), &["jobs", "run", "regions.report"]);
    assert!(report.0 && report.1.contains("elsewhere"), "{}", report.1);
}
