//! Limits: exact by an oracle, row by row of the table; and as clients meet them.

mod oracle;

use futures_util::future::join_all;
use optimist_shared::ids::Uuid;
use optimist_shared::limits::{LIMITS, Limit, LimitRow, Precision, Scope};
use optimist_shared::scripts::limit::{Charge, GIVE_BACK, LIMIT, PEEK, give_back};
use optimist_shared::session::autosave_entry;
use optimist_tests::stores::Redis;
use optimist_tests::{Answer, Client, Options, System, scale};
use reqwest::Method;
use serde_json::{Value, json};

use oracle::{Call, Oracle, Outcome, Random};

/// Calls per limit; `OPTIMIST_CALLS` sets the number.
fn calls() -> usize {
    usize::try_from(scale("OPTIMIST_CALLS", 40_000)).unwrap()
}

/// What Redis says of the life of a key that is not there, in milliseconds.
const GONE: i64 = -2;
/// Calls per pipeline.
const BATCH: usize = 500;

/// A Redis with the scripts loaded; the test sets the time.
struct Bench {
    _server: Redis,
    connection: redis::aio::MultiplexedConnection,
}

impl Bench {
    async fn new() -> Bench {
        let server = Redis::start("everysec");
        let mut connection = server.connect().await;
        for script in [&LIMIT, &PEEK, &GIVE_BACK] {
            let _: String = redis::cmd("SCRIPT")
                .arg("LOAD")
                .arg(script.source())
                .query_async(&mut connection)
                .await
                .unwrap();
        }
        Bench { _server: server, connection }
    }

    /// Sends calls with their own times; returns their outcomes.
    async fn send(&mut self, rows: &[&'static LimitRow], calls: &[Call]) -> Vec<Outcome> {
        let mut pipeline = redis::Pipeline::with_capacity(calls.len());
        for call in calls {
            let keys = rows.iter().map(|row| row.key("subject")).collect();
            let charge = Charge { rows: rows.to_vec(), keys, entry: call.entry().to_owned() };
            let now = call.now_ms().to_string();
            let sent = match call {
                Call::Charge { .. } => charge.call_at(&now),
                Call::GiveBack { .. } => give_back(&charge.keys, &charge.entry),
                Call::Peek { .. } => charge.peek_at(&now),
            };
            let mut command = redis::Cmd::new();
            sent.words(false, |word| {
                command.arg(word);
            });
            pipeline.add_command(command);
        }
        let replies: Vec<redis::Value> = pipeline.query_async(&mut self.connection).await.unwrap();
        calls.iter().zip(replies).map(|(call, reply)| Outcome::read(call, reply)).collect()
    }

    async fn ttl_ms(&mut self, key: &str) -> i64 {
        redis::cmd("PTTL").arg(key).query_async(&mut self.connection).await.unwrap()
    }
}

/// Plays random calls on one or several sliding limits against an oracle; returns the first difference.
async fn play(
    bench: &mut Bench,
    rows: &[&'static LimitRow],
    oracle: &mut Oracle,
    seed: u64,
    calls: usize,
) -> Option<String> {
    let mut random = Random::new(seed, rows);
    for _ in 0..calls / BATCH {
        let batch: Vec<(Call, Outcome)> = (0..BATCH)
            .map(|_| {
                let call = random.next_call(oracle);
                let outcome = oracle.play(&call);
                (call, outcome)
            })
            .collect();
        let sent: Vec<Call> = batch.iter().map(|(call, _)| call.clone()).collect();
        for ((call, expected), told) in batch.iter().zip(bench.send(rows, &sent).await) {
            if *expected != told {
                return Some(format!("{}: {call:?}: expected {expected:?}, got {told:?}", rows[0].name));
            }
        }
    }
    for row in rows {
        let ttl = bench.ttl_ms(&row.key("subject")).await;
        // A key whose last attempts were all given back is gone.
        let lives = (1..=i64::from(row.longest_window()) * 1000).contains(&ttl) || ttl == GONE;
        assert!(lives, "{} lives {ttl} ms", row.name);
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn sliding_limits_agree_with_the_oracle_over_simulated_days() {
    let mut bench = Bench::new().await;
    // The limits of networks are multiples of those of addresses.
    let is_own = |row: &LimitRow| !matches!(row.scope, Scope::Site | Scope::Network);
    let is_played = |row: &LimitRow| row.precision == Precision::Exact && is_own(row);
    for (seed, row) in LIMITS.iter().enumerate().filter(|(_, row)| is_played(row)) {
        let mut oracle = Oracle::new(&[row]);
        let difference = play(&mut bench, &[row], &mut oracle, seed as u64, calls()).await;
        assert_eq!(difference, None);
        assert!(oracle.was_thorough(), "{}: {oracle:?}", row.name);
        println!("counted: {} random calls of {}, each as the oracle says", calls(), row.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_limits_are_charged_together_or_not_at_all() {
    let mut bench = Bench::new().await;
    let rows = [Limit::CircleJoin.row(), Limit::CircleCreate.row(), Limit::Invites.row()];
    let difference = play(&mut bench, &rows, &mut Oracle::new(&rows), 99, calls() / 2).await;
    assert_eq!(difference, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_writes_for_ten_hours_is_never_stopped_and_the_51st_new_draft_is() {
    const HOUR_MS: u64 = 3_600_000;
    let mut bench = Bench::new().await;
    let rows = [Limit::JournalAutosaves.row()];
    let user = Uuid::from_u128(1);
    let mut save = async |now_ms: u64, draft: Uuid| {
        let call = Call::Charge { now_ms, entry: autosave_entry(user, draft, now_ms) };
        bench.send(&rows, &[call]).await.remove(0)
    };
    let start = 1_800_000_000_000;
    for second in (0..10 * 3_600).step_by(2) {
        let outcome = save(start + second * 1_000, Uuid::from_u128(7)).await;
        assert!(outcome.is_admitted(), "after {second} s: {outcome:?}");
    }
    // A day later, save new drafts one by one.
    let start = start + 24 * HOUR_MS;
    for draft in 0..50 {
        assert!(save(start + draft * 1_000, Uuid::from_u128(100 + u128::from(draft))).await.is_admitted());
    }
    let late = start + HOUR_MS - 1;
    assert!(!save(late, Uuid::from_u128(200)).await.is_admitted());
    assert!(save(late + 1, Uuid::from_u128(200)).await.is_admitted());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oracle_that_admits_one_more_is_found_out() {
    let mut bench = Bench::new().await;
    for row in LIMITS.iter().filter(|row| row.precision == Precision::Exact) {
        let mut oracle = Oracle::new(&[row]);
        oracle.admit_one_more();
        let difference = play(&mut bench, &[row], &mut oracle, 7, 10_000).await;
        assert!(difference.is_some(), "{}: the comparison is blind", row.name);
        let _: () =
            redis::cmd("DEL").arg(row.key("subject")).query_async(&mut bench.connection).await.unwrap();
    }
}

/// A counter's window is its key's life, which Redis's own clock measures: the test shortens the life instead of moving
/// the clock.
#[tokio::test(flavor = "multi_thread")]
async fn counters_admit_their_number_and_start_anew() {
    let mut bench = Bench::new().await;
    for row in LIMITS.iter().filter(|row| row.precision == Precision::Counter) {
        let (key, window) = (row.key("subject"), row.windows[0]);
        let (mut used, mut sent) = (0u32, 0);
        let mut random = Random::new(5, &[row]);
        while sent < calls() {
            let calls: Vec<Call> = (0..BATCH).map(|_| random.next_charge()).collect();
            sent += calls.len();
            for outcome in bench.send(&[row], &calls).await {
                let admitted = used < window.admitted;
                used += u32::from(admitted);
                assert_eq!(outcome.is_admitted(), admitted, "{} after {used}", row.name);
                assert_eq!(outcome.left(0), i64::from(window.admitted - used), "{}", row.name);
            }
            let life = bench.ttl_ms(&key).await;
            assert!((1..=i64::from(window.seconds) * 1000).contains(&life), "{} lives {life} ms", row.name);
            let passes = random.below(u64::from(window.seconds) * 1000).cast_signed();
            // Skip if the end is so near that the test's own duration matters.
            if (life - passes).abs() < 500 {
                continue;
            }
            let _: () = redis::cmd("PEXPIRE")
                .arg(&key)
                .arg(life - passes)
                .query_async(&mut bench.connection)
                .await
                .unwrap();
            if passes > life {
                used = 0;
            }
        }
        println!("counted: {sent} random calls of {}, each as its counter says", row.name);
    }
}

async fn messages(client: &Client, circle: &str, count: usize) -> Vec<Answer> {
    let path = format!("/v1/circles/{circle}/messages");
    join_all((0..count).map(|_| client.post(&path, json!({"body": "Hello."})))).await
}

fn remaining(limits: &Answer, policy: &str) -> Value {
    let items = limits.body["items"].as_array().unwrap();
    items.iter().find(|item| item["policy"] == policy).unwrap()["remaining"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_messages_a_minute_however_they_come() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let circle = ada.create_circle("private").await;
    let answers = messages(&ada, &circle, 30).await;
    let accepted = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(accepted, 10, "all at once");
    let refused = answers.into_iter().find(|answer| answer.status == 429).unwrap();
    assert_eq!(refused.header("content-type"), "application/problem+json");
    assert_eq!(refused.text("/limit"), "messages-60s");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert!(refused.header("ratelimit").contains("\"messages-60s\";r=0;t="), "{refused:#?}");
    assert!(refused.header("ratelimit-policy").contains("\"messages-86400s\";q=500;w=86400"));
    // The twenty refused requests consumed nothing, neither of this window nor of the hour's and the day's.
    let limits = ada.get("/v1/me/limits").await.expect(200);
    assert_eq!(remaining(&limits, "messages-60s"), 0);
    assert_eq!(remaining(&limits, "messages-3600s"), 90);
    assert_eq!(remaining(&limits, "messages-86400s"), 490);
    assert_eq!(remaining(&limits, "forwarded-60s"), 600 - 11, "the circle, and the ten");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_attempts_are_given_back_and_credentials_are_not() {
    let system = System::start().await;
    let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
    let circle = ada.create_circle("private").await;
    let path = format!("/v1/circles/{circle}");
    for _ in 0..20 {
        ada.post(&format!("{path}/messages"), json!({"body": ""})).await.expect(422);
        bo.post(&format!("{path}/messages"), json!({"body": "Hello."})).await.expect(404);
        bo.post(&format!("{path}/members/me"), json!({})).await.expect(404);
    }
    for client in [&ada, &bo] {
        let limits = client.get("/v1/me/limits").await.expect(200);
        assert_eq!(remaining(&limits, "messages-60s"), 10);
        assert_eq!(remaining(&limits, "circle-joins-3600s"), 5);
    }
    // An invitation is a credential: every attempt counts, even a failed one.
    bo.post(&format!("{path}/invites"), json!({})).await.expect(404);
    assert_eq!(remaining(&bo.get("/v1/me/limits").await.expect(200), "invites-86400s"), 19);
}

#[tokio::test(flavor = "multi_thread")]
async fn log_ins_are_limited_by_account_and_by_address() {
    let system = System::with(Options::default()).await;
    let ada = system.register("Ada").await;
    let anyone = system.client();
    let login = |email: String| {
        let anyone = anyone.clone();
        async move { anyone.post("/v1/auth/login", json!({"email": email, "password": "wrong password"})).await }
    };
    for _ in 0..10 {
        login(ada.email.clone()).await.expect(401);
    }
    let refused = login(ada.email.to_uppercase()).await.expect(429);
    assert_eq!(refused.text("/limit"), "logins-account-900s");
    assert!(refused.header("retry-after").parse::<u64>().is_ok());
    // An account that does not exist is limited alike.
    for _ in 0..10 {
        login("nobody@example.org".to_owned()).await.expect(401);
    }
    assert_eq!(
        login("nobody@example.org".to_owned()).await.expect(429).text("/limit"),
        "logins-account-900s"
    );
    // 22 log-ins so far; this address may make eight more.
    for number in 0..8 {
        login(format!("nobody-{number}@example.org")).await.expect(401);
    }
    assert_eq!(
        login("nobody-9@example.org".to_owned()).await.expect(429).text("/limit"),
        "logins-address-60s"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_are_limited_by_address() {
    let system = System::start().await;
    let anyone = system.client();
    for number in 0..20 {
        // Invalid registrations count, so that nobody can cheaply learn which e-mail addresses are taken.
        let body = json!({"email": format!("p{number}"), "password": "correct horse battery", "name": "P"});
        anyone.post("/v1/auth/register", body).await.expect(422);
    }
    let body =
        json!({"email": "p@example.org", "password": "correct horse battery", "name": "P"}).to_string();
    let refused =
        anyone.send(Method::POST, "/v1/auth/register", &[], Some(body.into_bytes())).await.expect(429);
    assert_eq!(refused.text("/limit"), "registrations-3600s");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_an_address_that_guesses_tokens_is_stopped() {
    let mut system = System::start().await;
    let ada = system.register("Ada").await;
    system.redis.kill();
    let guesser = ada.with_token(format!("{}.{}.{}", ada.user, ada.session, "A".repeat(43)));
    let admitted = Limit::BadTokens.row().windows[0].admitted;
    for guess in 0..admitted {
        let status = guesser.get("/v1/me").await.status;
        assert_eq!(status, 401, "guess {guess}");
    }
    guesser.get("/v1/me").await.expect(429);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_an_account_is_not_guessed_at_faster_by_many_at_once() {
    let mut system = System::start().await;
    let ada = system.register("Ada").await;
    system.redis.kill();
    let body = json!({"email": ada.email, "password": "a wrong password"});
    let guesses = (0..15).map(|_| ada.post("/v1/auth/login", body.clone()));
    let statuses: Vec<u16> =
        futures_util::future::join_all(guesses).await.into_iter().map(|answer| answer.status).collect();
    let admitted = statuses.iter().filter(|status| **status == 401).count();
    assert_eq!(admitted as u32, Limit::LoginAccount.row().windows[0].admitted, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 401 | 429)), "{statuses:?}");
}

/// Redis holds an address's bad tokens for all edges and origins: once deleted there, they no longer count.
#[tokio::test(flavor = "multi_thread")]
async fn bad_tokens_are_counted_once() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let unknown = uuid::Uuid::now_v7();
    let guesser = ada.with_token(format!("{}.{unknown}.{}", ada.user, "A".repeat(43)));
    let admitted = Limit::BadTokens.row().windows[0].admitted;
    for guess in 0..admitted {
        assert_eq!(guesser.get("/v1/me").await.status, 401, "guess {guess}");
    }
    guesser.get("/v1/me").await.expect(429);
    system.forget_address_limits().await;
    guesser.get("/v1/me").await.expect(401);
}
