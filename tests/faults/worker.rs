//! The Worker's objects: killed, hung, trapped, and asked for more than they can do. No request is left without an answer, and none
//! gets another's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use optimist_shared::ids::Uuid;
use optimist_shared::session::{Token, hash_secret};
use optimist_tests::proxy::Mode;
use optimist_tests::{Answer, Client, Edge, Options, System, scale};
use reqwest::Method;
use serde_json::{Value, json};

/// Requests that a Worker lets wait on one object: see `glue.js`.
const QUEUED: usize = 1_024;
/// In milliseconds; an object that does not answer is given up after four times as long.
const REDIS_DEADLINE: u32 = 1_500;

async fn start(objects: u32) -> (System, Edge) {
    let system = System::with(Options { redis_deadline_ms: REDIS_DEADLINE, ..Options::default() }).await;
    let edge = system.worker_with_faults(objects);
    (system, edge)
}

async fn with_fault(client: &Client, fault: &str, path: &str) -> Answer {
    client.send(Method::GET, path, &[("x-fault", fault)], None).await
}

/// Waits until reads of `path` come from Redis again.
async fn until_hit(client: &Client, path: &str) {
    let deadline = optimist_tests::patience();
    while !client.get(path).await.expect(200).is_hit() {
        assert!(Instant::now() < deadline, "{path} is not read from Redis");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// People with a session each, in Postgres only.
fn people(system: &System, url: &str, count: usize) -> Vec<Client> {
    let tokens: Vec<Token> = (0..count)
        .map(|number| Token { user: Uuid::now_v7(), session: Uuid::now_v7(), secret: [number as u8; 32] })
        .collect();
    // A command's arguments are limited.
    for some in tokens.chunks(100) {
        let rows = |row: &dyn Fn(&Token) -> String| some.iter().map(row).collect::<Vec<_>>().join(", ");
        let users =
            rows(&|Token { user, .. }| format!("('{user}', '{user}@example.org', 'none', '{user}', 'test')"));
        let sessions = rows(&|Token { user, session, secret }| {
            let hash = hash_secret(secret);
            let lives = "now() + interval '1 day', now() + interval '2 days'";
            format!("('{session}', '{user}', '{session}', '{hash}', 'none', 't1', {lives})")
        });
        system.sql(&format!(
            "insert into users (id, email, password_hash, name, home_region) values {users};
             insert into sessions
             (id, user_id, family, secret_hash, refresh_hash, token_key, idle_until, absolute_until)
             values {sessions}"
        ));
    }
    let client = |token: &Token| {
        let mut client = Client::new(url).with_token(token.render());
        (client.user, client.session) = (token.user.to_string(), token.session.to_string());
        client
    };
    tokens.iter().map(client).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_on_whatever_happens_to_its_object() {
    let (system, edge) = start(1).await;
    let ada = system.register("Ada").await.at(&edge.url);
    until_hit(&ada, "/v1/me").await;
    for fault in ["killed", "hung", "trapped"] {
        let answer = with_fault(&ada, fault, "/v1/me").await.expect(200);
        assert_eq!(answer.text("/id"), ada.user);
        assert!(answer.header("cache-status").ends_with("detail=no-redis"), "{fault}: {answer:?}");
        // Those on the way through the same object and the same Wasm instance.
        let others: Vec<_> = (0..40)
            .map(|number| {
                let ada = ada.clone();
                tokio::spawn(async move {
                    let fault = if number == 20 { fault } else { "none" };
                    with_fault(&ada, fault, "/v1/me").await
                })
            })
            .collect();
        for other in others {
            let answer = other.await.unwrap();
            assert!(matches!(answer.status, 200 | 503), "{fault}: {answer:?}");
        }
        until_hit(&ada, "/v1/me").await;
    }
}

/// Two objects share an isolate, and with it the Wasm instance.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_outlives_what_happens_to_another() {
    let (system, edge) = start(2).await;
    let people = people(&system, &edge.url, 8);
    for person in &people {
        until_hit(person, "/v1/me").await;
    }
    for fault in ["killed", "hung", "trapped"] {
        with_fault(&people[0], fault, "/v1/me").await.expect(200);
        for person in &people {
            let answer = person.get("/v1/me").await.expect(200);
            assert_eq!(answer.text("/id"), person.user, "{fault}");
            until_hit(person, "/v1/me").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_object_cannot_do_in_time_is_refused_at_once() {
    let (system, edge) = start(1).await;
    let ada = system.register("Ada").await.at(&edge.url);
    until_hit(&ada, "/v1/me").await;
    let hung: Vec<_> = (0..QUEUED + 40)
        .map(|_| {
            let ada = ada.clone();
            tokio::spawn(async move {
                let asked = Instant::now();
                (with_fault(&ada, "hung", "/v1/me").await, asked.elapsed())
            })
        })
        .collect();
    let (mut served, mut refused) = (0, 0);
    for asked in hung {
        match asked.await.unwrap() {
            (answer, _) if answer.status == 200 => served += 1,
            (answer, _) => {
                assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{answer:?}");
                assert_eq!(answer.text("/type"), "urn:optimist:problem:unavailable");
                refused += 1;
            }
        }
    }
    assert_eq!(served, QUEUED, "each that was queued went on without the object");
    assert_eq!(refused, 40);
    until_hit(&ada, "/v1/me").await;
}

/// The object charges and is given up before it answers; the origin charges the same attempt.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_is_charged_once_though_its_object_is_given_up() {
    let (system, edge) = start(1).await;
    let ada = system.register("Ada").await.at(&edge.url);
    until_hit(&ada, "/v1/me").await;
    let circle = || Some(json!({"name": "Early birds", "visibility": "private"}).to_string().into_bytes());
    for (fault, left) in [("none", 1), ("late", 0)] {
        let created =
            ada.send(Method::POST, "/v1/circles", &[("x-fault", fault)], circle()).await.expect(201);
        let left = format!("\"circle-creations-86400s\";r={left}");
        assert!(created.header("ratelimit").contains(&left), "{fault}: {created:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_takes_no_refund_holds_up_no_answer() {
    let (system, edge) = start(1).await;
    let ada = system.register("Ada").await.at(&edge.url);
    until_hit(&ada, "/v1/me").await;
    with_fault(&ada, "mute", "/v1/me").await.expect(200);
    let asked = Instant::now();
    let refused = ada.post("/v1/circles", json!({"name": "", "visibility": "private"})).await.expect(422);
    assert!(refused.header("ratelimit").contains("\"circle-creations-86400s\";r=2"), "{refused:#?}");
    let longest = Duration::from_millis(u64::from(REDIS_DEADLINE) * 4) + Duration::from_secs(5);
    assert!(asked.elapsed() < longest, "it took {:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_hangs_holds_no_object() {
    let (system, edge) = start(1).await;
    let ada = system.register("Ada").await.at(&edge.url);
    let others = people(&system, &edge.url, 3);
    for client in others.iter().chain([&ada]) {
        until_hit(client, "/v1/me").await;
    }
    system.to_origin.set(Mode::HalfOpen);
    // More than may wait on an object at once.
    let mut waiting = Vec::new();
    for number in 0..QUEUED + 100 {
        let other = others[number % others.len()].clone();
        waiting.push(tokio::spawn(async move {
            let answer = other.get("/v1/notifications/unread-count").await;
            (other, answer)
        }));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..20 {
        assert!(ada.get("/v1/me").await.expect(200).is_hit());
    }
    system.to_origin.set(Mode::Open);
    // All at once, they may be too much for a slow machine's origin, which then says when to ask again.
    for asked in waiting {
        let (other, answer) = asked.await.unwrap();
        if answer.status == 503 {
            assert_eq!(answer.header("retry-after"), "1");
            tokio::time::sleep(Duration::from_secs(1)).await;
            other.get("/v1/notifications/unread-count").await.expect(200);
        } else {
            answer.expect(200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_and_a_reaction_ask_an_object_once() {
    let (system, edge) = start(1).await;
    let ada = system.register("Ada").await.at(&edge.url);
    let circle = ada.create_circle("private").await;
    let message = ada.say(&circle, "Hello.").await;
    let messages = format!("/v1/circles/{circle}/messages");
    let reaction = format!("{messages}/{message}/reactions/hug");
    until_hit(&ada, &messages).await;
    ada.send(Method::PUT, &reaction, &[], None).await.expect(202);
    let asked = async || {
        let answer = with_fault(&ada, "count", "/v1/me").await.expect(200);
        answer.body.as_u64().or_else(|| answer.body.as_str()?.parse().ok()).unwrap()
    };
    let before = asked().await;
    for _ in 0..10 {
        assert!(ada.get(&messages).await.expect(200).is_hit());
        ada.send(Method::PUT, &reaction, &[], None).await.expect(202);
    }
    assert_eq!(asked().await - before, 20);
}

/// One object, one Wasm instance, one connection to Redis: whoever asks gets what is theirs.
#[tokio::test(flavor = "multi_thread")]
async fn no_answer_carries_anothers_state() {
    const CALLERS: usize = 500;
    const AT_ONCE: usize = 64;
    const BROKEN: u16 = 0;
    let (system, edge) = start(1).await;
    let callers = Arc::new(people(&system, &edge.url, CALLERS));
    let requests = scale("OPTIMIST_WORKER_REQUESTS", 20_000);
    let tasks: Vec<_> = (0..AT_ONCE)
        .map(|task| {
            let callers = callers.clone();
            tokio::spawn(async move {
                let mut outcomes: BTreeMap<u16, u64> = BTreeMap::new();
                for number in (task..requests as usize).step_by(AT_ONCE) {
                    let caller = &callers[(number * 7919) % CALLERS];
                    let (path, pointer, wanted) = match number % 3 {
                        0 => ("/v1/me", "/id", &caller.user),
                        1 => ("/v1/auth/session", "/session_id", &caller.session),
                        _ => ("/v1/journal/streak", "", &caller.user),
                    };
                    // The server ends a connection that has idled, maybe just when a request is on its way.
                    let Ok(answer) = caller.try_send(Method::GET, path, &[], None).await else {
                        *outcomes.entry(BROKEN).or_default() += 1;
                        continue;
                    };
                    if answer.status == 200 && !pointer.is_empty() {
                        let found = answer.body.pointer(pointer).and_then(Value::as_str);
                        assert_eq!(found, Some(wanted.as_str()), "{answer:?}");
                    }
                    *outcomes.entry(answer.status).or_default() += 1;
                }
                outcomes
            })
        })
        .collect();
    let mut outcomes: BTreeMap<u16, u64> = BTreeMap::new();
    for task in tasks {
        for (status, count) in task.await.unwrap() {
            *outcomes.entry(status).or_default() += count;
        }
    }
    let right = outcomes.get(&200).copied().unwrap_or_default();
    assert!(right > requests as u64 * 9 / 10, "{outcomes:?}");
    assert!(outcomes.keys().all(|status| matches!(*status, BROKEN | 200 | 503)), "{outcomes:?}");
    assert!(outcomes.get(&BROKEN).is_none_or(|broken| *broken <= requests as u64 / 1_000), "{outcomes:?}");
    println!("{outcomes:?}");
}
