//! People's own tables on shards: a Citus coordinator with two workers, of the Postgres that `OPTIMIST_CITUS_BIN_DIR` names. The
//! API's own tests run on such a cluster too, where that is set.

#![allow(clippy::unwrap_used)] // A test that cannot go on panics.

mod statements;

use std::time::{Duration, Instant};

use chrono::{Days, Utc};
use futures_util::future::join_all;
use optimist_tests::stores::{Postgres, SHARED, has_shards};
use optimist_tests::system::environment;
use optimist_tests::{Client, Options, Origin, System};
use reqwest::Method;
use serde_json::json;

/// People whose rows there are before the tables are spread.
const PEOPLE: usize = 60;

fn need_citus() {
    assert!(has_shards(), "OPTIMIST_CITUS_BIN_DIR must name the programs of a Postgres that has Citus");
}

#[tokio::test(flavor = "multi_thread")]
async fn spreading_is_killed_repeated_and_refused_while_an_origin_lives() {
    need_citus();
    let (owner, serve) = SHARED.database();
    let database = owner.rsplit('/').next().unwrap();
    let sql = |sql: &str| SHARED.sql(database, sql);
    let settings = environment(&owner, &serve, "redis://127.0.0.1:1", 250);
    let migrate = |arguments: &[&str], abort: &str| {
        let mut settings = settings.clone();
        settings.push(("OPTIMIST_TEST_ABORT".to_owned(), abort.to_owned()));
        Origin::command(&settings, &[&["migrate"], arguments].concat())
    };
    let (succeeded, output) = migrate(&[], "");
    assert!(succeeded, "{output}");
    sql(&format!(
        "insert into moods (user_id, id, score, sealed, logged_at, created_at)
         select gen_random_uuid(), gen_random_uuid(), n % 5 + 1, 'x', now(), now() from generate_series(1, {PEOPLE}) n;
         insert into notification_counts (user_id, last_place, unread)
         select user_id, 3, 2 from moods"
    ));
    let rows = || {
        sql("select count(*), sum(score), sum(unread) from moods join notification_counts using (user_id)")
    };
    let before = rows();

    // An origin fills copies as on one server.
    sql("insert into regions (name) values ('elsewhere');
         insert into origins (id, region, seen_at, redis_ok) values (gen_random_uuid(), 'elsewhere', now(), true)");
    let (succeeded, output) = migrate(&["--citus"], "");
    assert!(!succeeded && output.contains("stop them first"), "{output}");
    assert_eq!(sql("select count(*) from pg_dist_partition where partmethod = 'h'"), "0");
    sql("update origins set seen_at = now() - interval '2 minutes'");

    let epoch = "select epoch from regions where name = 'elsewhere'";
    let former: i64 = sql(epoch).parse().unwrap();
    let mut kills = 0;
    loop {
        let (succeeded, _) = migrate(&["--citus"], "sharding.table");
        assert_eq!(rows(), before);
        if succeeded {
            break;
        }
        kills += 1;
        assert_eq!(sql("select shard_of(gen_random_uuid())"), "0", "not before all is done");
    }
    let tables = sql("select count(*) from sharded");
    assert_eq!(kills.to_string(), tables, "once for each table");
    assert_ne!(sql("select shard_of(gen_random_uuid())"), "0");
    assert!(sql(epoch).parse::<i64>().unwrap() > former, "older copies count no more");
    let spread = "select count(*), count(distinct colocationid) from pg_dist_partition
        where partmethod = 'h' and logicalrelid::text in (select name from sharded)";
    assert_eq!(sql(spread), format!("{tables}|1"), "side by side");
    assert_eq!(
        sql("select count(distinct shardid) from pg_dist_shard where logicalrelid = 'moods'::regclass"),
        "4"
    );

    // Also beside origins: there is nothing to do.
    sql("update origins set seen_at = now()");
    let epoch_then = sql(epoch);
    let (succeeded, output) = migrate(&["--citus"], "");
    assert!(succeeded, "{output}");
    assert_eq!((rows(), sql(epoch)), (before, epoch_then));
}

/// A person who writes an entry for each day, the newest first, and looks after each at what it makes of their streak.
struct Writer {
    client: Client,
    acknowledged: u64,
    repeated: u64,
}

impl Writer {
    /// Sends one entry until it is acknowledged.
    async fn write(&mut self, system: &System) {
        let day = (Utc::now() - Days::new(self.acknowledged)).date_naive();
        let body = json!({"body": self.acknowledged.to_string(), "entry_date": day}).to_string();
        let key = format!("entry-{}", self.acknowledged);
        let deadline = Instant::now() + Duration::from_secs(40);
        loop {
            let headers = [("idempotency-key", key.as_str())];
            let body = Some(body.clone().into_bytes());
            match self.client.try_send(Method::POST, "/v1/journal/entries", &headers, body).await {
                Ok(answer) if answer.status == 201 => break,
                Ok(answer) if answer.status == 429 => system.forget_limits_of(&self.client).await,
                Ok(answer) if ![503, 504, 409].contains(&answer.status) => panic!("{answer:#?}"),
                _ => self.repeated += 1,
            }
            assert!(Instant::now() < deadline, "no entry is accepted");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.acknowledged += 1;
        let streak = self.client.get("/v1/journal/streak").await;
        match streak.status {
            429 => system.forget_limits_of(&self.client).await,
            200 => assert_eq!(streak.body["longest"], json!(self.acknowledged), "{streak:#?}"),
            // The shard is away.
            status => assert!([503, 504].contains(&status), "{streak:#?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_and_restarted_under_load_loses_nothing() {
    need_citus();
    let mut system = System::with(Options { own_postgres: true, ..Options::default() }).await;
    let mut writers = Vec::new();
    for number in 0..8 {
        let client = system.register(&format!("Writer{number}")).await;
        writers.push(Writer { client, acknowledged: 0, repeated: 0 });
    }
    // Apart, so that they can be killed while people write.
    let mut workers = std::mem::take(&mut system.own_postgres.as_mut().unwrap().workers);
    for round in 0..4 {
        let until = Instant::now() + Duration::from_secs(4);
        let working = join_all(writers.iter_mut().map(async |writer| {
            while Instant::now() < until {
                writer.write(&system).await;
            }
        }));
        let worker = &mut workers[round % 2];
        let killing = async {
            tokio::time::sleep(Duration::from_millis(1_000 + 170 * round as u64)).await;
            worker.kill();
            tokio::time::sleep(Duration::from_millis(700)).await;
            worker.launch();
        };
        tokio::join!(working, killing);
    }
    assert!(writers.iter().map(|writer| writer.repeated).sum::<u64>() > 0, "nobody noticed");
    // What was prepared at a death is committed, or rolled back, soon.
    let prepared = |worker: &Postgres| worker.sql("postgres", "select count(*) from pg_prepared_xacts");
    let deadline = Instant::now() + Duration::from_secs(20);
    while workers.iter().any(|worker| prepared(worker) != "0") {
        assert!(Instant::now() < deadline, "prepared transactions stay");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let acknowledged: u64 = writers.iter().map(|writer| writer.acknowledged).sum();
    assert_eq!(system.sql("select count(*) from journal_entries"), acknowledged.to_string());
    assert_eq!(
        system.sql("select count(*) from outbox where kind = 'journal.saved'"),
        acknowledged.to_string(),
        "each entry has its event, and each event its entry"
    );
    for writer in &writers {
        system.forget_limits_of(&writer.client).await;
        let streak = writer.client.get("/v1/journal/streak").await.expect(200);
        assert_eq!(streak.body["longest"], json!(writer.acknowledged));
    }
}
