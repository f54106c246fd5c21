//! Redis away: killed, emptied, stopped, or cut off from the origin only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use optimist_shared::keys::Key;
use optimist_tests::proxy::Mode;
use optimist_tests::registers::Registers;
use optimist_tests::{Kind, Load, Options, Origin, System};

/// The longest time that answers may be wrong.
const WRONG: Duration = Duration::from_secs(5);

/// Plays a fault under load. `heal` runs `heal_after` the start of `harm`.
async fn survives(
    kind: Kind,
    harm: impl FnOnce(&mut System),
    heal_after: Duration,
    heal: impl FnOnce(&mut System),
) {
    let mut system = System::with(Options { kind, redis_deadline_ms: 250, ..Options::default() }).await;
    let registers = [Arc::new(Registers::new(&system).await)];
    let messages = Load::start(Key::CircleMessages, &registers).await;
    let edits = Load::start(Key::Message, &registers).await;
    let sessions = Load::start(Key::Session, &registers).await;
    messages.run(200).await;
    assert!(messages.violations().is_empty() && sessions.violations().is_empty());

    let fault = Instant::now();
    harm(&mut system);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let answered = messages.answered();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(messages.answered() > answered, "reads are answered from Postgres");
    tokio::time::sleep((fault + heal_after).saturating_duration_since(Instant::now())).await;
    heal(&mut system);

    // Recovered: reads hit, and no answer is wrong from here on.
    let deadline = optimist_tests::patience();
    while !registers[0].is_hit().await {
        assert!(Instant::now() < deadline, "Redis is not trusted again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    messages.run(300).await;
    edits.run(100).await;
    sessions.run(100).await;
    let violations = [messages.stop().await, edits.stop().await, sessions.stop().await].concat();
    let late: Vec<_> = violations.iter().filter(|violation| violation.at > fault + WRONG).collect();
    assert!(late.is_empty(), "later than five seconds after the fault: {late:#?}");
    let posted = registers[0].messages_posted().await;
    assert_eq!(posted, messages.written() + 2, "what was acknowledged is there, and once");
    let log = system.origins[0].log();
    let told =
        log.lines().filter(|line| line.contains("the store is lost") && line.contains("redis")).count();
    // Once more for each deadline that a machine under load misses; there were hundreds of requests.
    assert!((1..=6).contains(&told), "the cause is logged once, not with every request: {told} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_restarted_with_what_it_had_written() {
    survives(
        Kind::Embedded,
        |system| system.redis.kill(),
        Duration::from_secs(6),
        |system| system.redis.launch(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_restarted_at_once() {
    let restart = |system: &mut System| {
        system.redis.kill();
        system.redis.launch();
    };
    survives_unnoticed(restart).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_restarted_empty() {
    let heal = |system: &mut System| {
        system.redis.empty();
        system.redis.launch();
    };
    survives(Kind::Embedded, |system| system.redis.kill(), Duration::from_secs(6), heal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_and_continued() {
    let harm = |system: &mut System| system.redis.signal("STOP");
    survives(Kind::Embedded, harm, Duration::from_secs(10), |system| system.redis.signal("CONT")).await;
}

/// The Worker's connection is a different one: that of a Durable Object.
#[tokio::test(flavor = "multi_thread")]
async fn stopped_and_continued_behind_the_worker() {
    let harm = |system: &mut System| system.redis.signal("STOP");
    survives(Kind::Cloudflare, harm, Duration::from_secs(10), |system| system.redis.signal("CONT")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_restarted_behind_the_worker() {
    let heal = |system: &mut System| system.redis.launch();
    survives(Kind::Cloudflare, |system| system.redis.kill(), Duration::from_secs(6), heal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_from_the_origin_while_the_edge_reaches_it() {
    let harm = |system: &mut System| system.origin_to_redis.cut();
    let heal = |system: &mut System| {
        let redis = format!("127.0.0.1:{}", system.redis.port);
        system.origin_to_redis.send_to(&redis);
    };
    survives(Kind::Embedded, harm, Duration::from_secs(10), heal).await;
}

/// A restart too quick for anybody to miss an answer: it may lose the writes of its last second.
async fn survives_unnoticed(restart: impl FnOnce(&mut System)) {
    let mut system = System::with(Options { redis_deadline_ms: 250, ..Options::default() }).await;
    let registers = [Arc::new(Registers::new(&system).await)];
    let messages = Load::start(Key::CircleMessages, &registers).await;
    let edits = Load::start(Key::Message, &registers).await;
    let sessions = Load::start(Key::Session, &registers).await;
    messages.run(200).await;
    let fault = Instant::now();
    restart(&mut system);
    tokio::time::sleep(WRONG).await;
    messages.run(300).await;
    edits.run(100).await;
    sessions.run(100).await;
    let violations = [messages.stop().await, edits.stop().await, sessions.stop().await].concat();
    let late: Vec<_> = violations.iter().filter(|violation| violation.at > fault + WRONG).collect();
    assert!(late.is_empty(), "{late:#?}");
    assert_eq!(registers[0].messages_posted().await, messages.written() + 2);
}

/// One origin of two. The other's relay could go on vouching, and the edge could go on trusting.
#[tokio::test(flavor = "multi_thread")]
async fn cut_off_from_one_origin_of_two() {
    let system = System::with(Options { redis_deadline_ms: 250, ..Options::default() }).await;
    let folder = optimist_tests::stores::folder();
    let mut environment = system.environment();
    for (name, value) in &mut environment {
        if name == "OPTIMIST_REDIS_URL" {
            *value = system.redis.url();
        }
    }
    let _other = Origin::start(&environment, folder.path());
    let ada = system.register("Ada").await;
    let circle = ada.create_circle("private").await;
    let path = format!("/v1/circles/{circle}/messages");
    ada.say(&circle, "0").await;
    while !ada.get(&path).await.expect(200).is_hit() {}

    system.origin_to_redis.cut();
    let number = async |number: u64| {
        ada.say(&circle, &number.to_string()).await;
        for _ in 0..5 {
            let newest = ada.get(&path).await.expect(200).text("/items/0/body");
            assert_eq!(newest, number.to_string(), "the newest message that was acknowledged");
        }
    };
    // The first write waits until nobody trusts Redis; both relays beat several times meanwhile.
    let began = Instant::now();
    let mut sent = 0;
    while sent < 8 || began.elapsed() < WRONG {
        sent += 1;
        number(sent).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        system.forget_limits_of(&ada).await;
    }

    system.origin_to_redis.send_to(&format!("127.0.0.1:{}", system.redis.port));
    let deadline = optimist_tests::patience();
    while !ada.get(&path).await.expect(200).is_hit() {
        assert!(Instant::now() < deadline, "Redis is not trusted again");
        system.forget_limits_of(&ada).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    number(sent + 1).await;
}

/// Redis answers nothing and refuses nothing: a request waits for two deadlines.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_costs_a_deadline_now_and_then_and_not_with_every_request() {
    const DEADLINE: Duration = Duration::from_secs(1);
    let system = System::with(Options { redis_deadline_ms: 1_000, ..Options::default() }).await;
    let ada = system.register("Ada").await;
    ada.get("/v1/me").await.expect(200);
    system.redis.signal("STOP");
    let (mut quick, mut slow) = (0, 0);
    while quick < 20 {
        let asked = Instant::now();
        ada.get("/v1/me").await.expect(200);
        if asked.elapsed() < DEADLINE {
            quick += 1
        } else {
            slow += 1
        }
        // Without a breaker every request would be slow. With one the first is, and sometimes one that probes at the
        // edge or the origin.
        assert!(slow <= 15, "{slow} requests waited for Redis, {quick} did not");
    }
    system.redis.signal("CONT");
}

/// The edge gives up, and the origin charges instead; then the edge's late trip executes all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_trip_that_the_edge_has_given_up_charges_nothing_twice() {
    const MOODS: usize = 3;
    let system = System::with(Options { redis_deadline_ms: 250, paths: true, ..Options::default() }).await;
    let edge_to_redis = &system.paths.as_ref().unwrap().edge_to_redis;
    let ada = system.register("Ada").await;
    ada.get("/v1/me").await.expect(200);
    // Longer than the two deadlines for which a silent Redis is waited for.
    edge_to_redis.set(Mode::Delayed(Duration::from_millis(600)));
    for _ in 0..MOODS {
        ada.post("/v1/mood", serde_json::json!({"score": 3})).await.expect(201);
        // Wait until the edge asks Redis again.
        tokio::time::sleep(Duration::from_millis(1_200)).await;
    }
    edge_to_redis.set(Mode::Open);
    let mut redis = system.redis.connect().await;
    let key = format!("rate_limit:journal:{{{}}}:mood", ada.user);
    let charged: Vec<String> =
        redis::cmd("ZRANGE").arg(key).arg(0).arg(-1).query_async(&mut redis).await.unwrap();
    assert_eq!(charged.len(), MOODS, "{charged:?}");
    assert!(charged.iter().any(|entry| entry.ends_with('!')), "no trip arrived late: {charged:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn flushed() {
    let system = System::start().await;
    let (active, idle) = (system.register("Ada").await, system.register("Bo").await);
    for client in [&active, &idle] {
        client.get("/v1/me").await.expect(200);
    }
    let mut redis = system.redis.connect().await;
    let _: () = redis::cmd("FLUSHALL").query_async(&mut redis).await.unwrap();
    let end =
        format!("update sessions set idle_until = now() - interval '1 second' where id = '{}'", idle.session);
    system.sql(&end);
    active.get("/v1/me").await.expect(200);
    idle.get("/v1/me").await.expect(401);
}

/// Answers keep arriving, each of them late.
async fn slow_is_not_lost(kind: Kind) {
    let options = Options { kind, redis_deadline_ms: 1_000, paths: true, ..Options::default() };
    let system = System::with(options).await;
    let edge_to_redis = &system.paths.as_ref().unwrap().edge_to_redis;
    let ada = system.register("Ada").await;
    while !ada.get("/v1/me").await.expect(200).is_hit() {}
    edge_to_redis.set(Mode::Delayed(Duration::from_millis(600)));
    let readers: Vec<_> = (0..16)
        .map(|reader| {
            let ada = ada.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(80) * reader).await;
                let mut late = 0;
                for _ in 0..4 {
                    let answer = ada.get("/v1/me").await;
                    if answer.status == 503 {
                        assert_eq!(answer.header("retry-after"), "1", "{answer:?}");
                        late += 1;
                    } else {
                        answer.expect(200);
                    }
                }
                late
            })
        })
        .collect();
    let mut late = 0;
    for reader in readers {
        late += reader.await.unwrap();
    }
    let log = std::fs::read_to_string(&system.edge.process.log).unwrap();
    assert!(late > 16, "{late} of 64 were late: {log}");
    edge_to_redis.set(Mode::Open);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(ada.get("/v1/me").await.expect(200).is_hit());
    let log = std::fs::read_to_string(&system.edge.process.log).unwrap();
    assert!(log.contains("redis is late"), "{log}");
    assert!(!log.contains("redis is unavailable"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_redis_is_not_a_lost_one() {
    slow_is_not_lost(Kind::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_redis_is_not_a_lost_one_to_the_worker() {
    slow_is_not_lost(Kind::Cloudflare).await;
}
