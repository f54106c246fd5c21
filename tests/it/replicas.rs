//! Read replicas: history that says of when it is, from those that are fit. The primary answers in their place never.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use optimist_tests::{Answer, Client, Options, System, until};

/// Two replicas, and a circle of which they show one day.
struct Setting {
    system: System,
    ada: Client,
    circle: String,
    path: String,
}

impl Setting {
    async fn with(replicas: usize) -> Setting {
        let system = System::with(Options { own_postgres: true, replicas, ..Options::default() }).await;
        let ada = system.register("Ada").await;
        let circle = ada.create_circle("private").await;
        let path = format!("/v1/circles/{circle}/activity/history");
        let setting = Setting { system, ada, circle, path };
        setting.happened(0);
        setting.wait_until_shown(1).await;
        setting
    }

    /// Something happened on another day.
    fn happened(&self, days_ago: u32) {
        self.system.sql(&format!(
            "insert into activity (circle_id, user_id, day, posts, last_seen_at)
             values ('{}', '{}', current_date - {days_ago}, 1, now())",
            self.circle, self.ada.user
        ));
    }

    async fn ask(&self) -> Answer {
        self.ada.get(&self.path).await
    }

    /// Waits until every replica shows so many days.
    async fn wait_until_shown(&self, days: usize) {
        let sql = format!("select count(*) from activity where circle_id = '{}'", self.circle);
        for replica in &self.system.replicas {
            until("a replica shows it", async || {
                replica.sql(&self.system.database, &sql) == days.to_string()
            })
            .await;
        }
        until("it is answered", async || {
            let answer = self.ask().await;
            answer.status == 200 && shown(&answer) == days
        })
        .await;
    }

    /// A metric's values by the port of the replica.
    async fn metric(&self, name: &str, also: &str) -> BTreeMap<u16, u64> {
        let url = format!("{}/metrics", self.system.origins[0].internal);
        let page = reqwest::get(url).await.unwrap().text().await.unwrap();
        let lines = page.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(also));
        lines
            .map(|line| {
                let port = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split('"').next());
                let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
                (port.unwrap().parse().unwrap(), value.unwrap() as u64)
            })
            .collect()
    }

    /// Statements that each replica has answered, by its place.
    async fn reads(&self) -> Vec<u64> {
        let reads = self.metric("optimist_replica_reads_total", "").await;
        self.system
            .replicas
            .iter()
            .map(|replica| reads.get(&replica.port).copied().unwrap_or_default())
            .collect()
    }
}

#[track_caller]
fn shown(answer: &Answer) -> usize {
    answer.body["items"].as_array().unwrap_or_else(|| panic!("no items in {answer:#?}")).len()
}

#[track_caller]
fn as_of(answer: &Answer) -> DateTime<Utc> {
    answer.text("/as_of").parse().expect("a time")
}

/// 503 as a problem, worth another attempt.
#[track_caller]
fn refused(answer: Answer) {
    let answer = answer.expect(503);
    assert_eq!(answer.header("content-type"), "application/problem+json", "{answer:#?}");
    assert_eq!(
        (answer.body["code"].as_str(), answer.header("retry-after")),
        (Some("unavailable"), "1"),
        "{answer:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_say_of_when_they_are_and_come_from_all_replicas() {
    let setting = Setting::with(2).await;
    let before = setting.reads().await;
    let asked = Utc::now();
    let answers = join_all((0..40).map(|_| setting.ask())).await;
    for answer in answers {
        let answer = answer.expect(200);
        // Each origin writes every second.
        let age = asked - as_of(&answer);
        assert!(age.num_milliseconds() < 3_500 && as_of(&answer) <= Utc::now(), "{age} {answer:#?}");
    }
    let after = setting.reads().await;
    let each: Vec<u64> = before.iter().zip(&after).map(|(before, after)| after - before).collect();
    assert_eq!(each.iter().sum::<u64>(), 40);
    assert!(each.iter().all(|reads| *reads >= 10), "{each:?}");
    // What neither has replayed, no answer claims to show.
    for replica in &setting.system.replicas {
        replica.sql("postgres", "select pg_wal_replay_pause()");
        until("replay pauses", async || {
            replica.sql("postgres", "select pg_get_wal_replay_pause_state()") == "paused"
        })
        .await;
    }
    let now: DateTime<Utc> = setting
        .system
        .sql("select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')")
        .parse()
        .unwrap();
    setting.happened(1);
    let answer = setting.ask().await.expect(200);
    assert_eq!(shown(&answer), 1);
    assert!(as_of(&answer) <= now, "{} {now}", as_of(&answer));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_lags_is_left_out_until_it_has_caught_up() {
    let setting = Setting::with(2).await;
    let [one, other] = &setting.system.replicas[..] else { panic!("two replicas") };
    one.sql("postgres", "select pg_wal_replay_pause()");
    tokio::time::sleep(Duration::from_secs(4)).await;
    let before = setting.reads().await;
    for _ in 0..20 {
        let asked = Utc::now();
        let answer = setting.ask().await.expect(200);
        assert!(asked - as_of(&answer) < chrono::Duration::milliseconds(3_500), "{answer:#?}");
    }
    let after = setting.reads().await;
    assert_eq!((after[0] - before[0], after[1] - before[1]), (0, 20));
    assert!(setting.metric("optimist_replica_lag_seconds", "").await[&one.port] >= 3);
    assert_eq!(setting.metric("optimist_replica_usable", "").await, [(one.port, 0), (other.port, 1)].into());
    // Without any, no answer, although the primary has one.
    other.sql("postgres", "select pg_wal_replay_pause()");
    until("both are left out", async || setting.ask().await.status == 503).await;
    refused(setting.ask().await);
    for replica in [one, other] {
        replica.sql("postgres", "select pg_wal_replay_resume()");
    }
    until("both are used again", async || {
        setting.metric("optimist_replica_usable", "").await.values().sum::<u64>() == 2
    })
    .await;
    setting.ask().await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_promoted_is_left_out() {
    let setting = Setting::with(2).await;
    let promoted = &setting.system.replicas[0];
    assert_eq!(promoted.sql("postgres", "select pg_promote()"), "t");
    // From now on it has a history of its own.
    promoted.sql(&setting.system.database, "delete from activity");
    let before = setting.reads().await;
    for _ in 0..20 {
        assert_eq!(shown(&setting.ask().await.expect(200)), 1);
    }
    let after = setting.reads().await;
    assert_eq!((after[0] - before[0], after[1] - before[1]), (0, 20));
    assert!(
        !setting.metric("optimist_replica_refused_total", "promoted").await.is_empty() || {
            let usable = setting.metric("optimist_replica_usable", "").await;
            usable[&promoted.port] == 0
        }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_dies_is_not_missed_and_without_any_there_is_no_answer() {
    let mut setting = Setting::with(2).await;
    setting.system.replicas[0].kill();
    for _ in 0..20 {
        assert_eq!(shown(&setting.ask().await.expect(200)), 1);
    }
    setting.system.replicas[1].kill();
    // A connection that ended is found out by a statement that goes nowhere.
    for _ in 0..10 {
        refused(setting.ask().await);
    }
    let asked = setting.system.origins[0].statements().await;
    for _ in 0..10 {
        refused(setting.ask().await);
    }
    // Nor does the origin die of it, or ask the primary.
    assert_eq!(
        setting.system.origins[0].statements().await.get("activity::history"),
        asked.get("activity::history")
    );
    setting.ada.get("/v1/me/circles").await.expect(200);
    setting.system.replicas[1].launch();
    until("it is used again", async || setting.ask().await.status == 200).await;
}

/// A lock that the primary takes is replayed; a statement in its way is cancelled.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_replay_cancels_is_tried_again() {
    let setting = Setting::with(1).await;
    let replica = &setting.system.replicas[0];
    replica.sql("postgres", "alter system set max_standby_streaming_delay = 0");
    replica.sql("postgres", "select pg_reload_conf()");
    // Slow on replicas alone.
    setting.system.sql(
        "alter table activity rename to kept;
         create view activity as select * from kept
         where case when pg_is_in_recovery() then pg_sleep(0.6) is not null else true end;
         grant select on activity to serve",
    );
    setting.wait_until_shown(1).await;
    let lock = "begin; lock table kept in access exclusive mode; commit";
    let ((), answer) = tokio::join!(
        async {
            let running = "select count(*) from pg_stat_activity where state = 'active' and query like '-- activity::history%'";
            until("it runs", async || replica.sql("postgres", running) != "0").await;
            setting.system.sql(lock);
        },
        setting.ask(),
    );
    assert_eq!(shown(&answer.expect(200)), 1);
    assert_eq!(
        setting.metric("optimist_replica_refused_total", "conflict").await,
        [(replica.port, 1)].into()
    );
    assert_eq!(setting.metric("optimist_replica_usable", "").await, [(replica.port, 1)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_hangs_is_left_within_its_deadline_and_taken_back() {
    let setting = Setting::with(2).await;
    let [one, other] = &setting.system.replicas[..] else { panic!("two replicas") };
    let usable = async || setting.metric("optimist_replica_usable", "").await;
    let stopped = Instant::now();
    one.signal("STOP");
    // Those that it already has may fail, and not later than a statement's deadline.
    for answer in join_all((0..20).map(async |_| (setting.ask().await, stopped.elapsed()))).await {
        let (answer, after) = answer;
        assert!(
            [200, 503].contains(&answer.status) && after < Duration::from_secs(4),
            "{after:?} {answer:#?}"
        );
    }
    until("it is left", async || usable().await == [(one.port, 0), (other.port, 1)].into()).await;
    assert!(stopped.elapsed() < Duration::from_secs(6), "{:?}", stopped.elapsed());
    for _ in 0..20 {
        let asked = Instant::now();
        setting.ask().await.expect(200);
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    }
    one.signal("CONT");
    let continued = Instant::now();
    until("it is taken back", async || usable().await == [(one.port, 1), (other.port, 1)].into()).await;
    assert!(continued.elapsed() < Duration::from_secs(10), "{:?}", continued.elapsed());
    let before = setting.reads().await[0];
    until("it answers again", async || {
        setting.ask().await.expect(200);
        setting.reads().await[0] > before
    })
    .await;
}
