//! Presence over time: leases that end, people who vanish, origins that die, and a Redis that is away.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use optimist_shared::ids::{Partition, Uuid};
use optimist_shared::keys::{KEYS, Key, Life};
use optimist_tests::{Answer, Client, Options, System};
use redis::AsyncCommands as _;
use reqwest::Method;
use serde_json::{Value, json};

/// Seconds of a lease here.
const LEASE: u32 = 6;
/// Within so much of its lease's end a device that vanished is gone.
const GONE_WITHIN: Duration = Duration::from_secs(15);

async fn put(client: &Client, path: &str, body: Value) -> Answer {
    client.send(Method::PUT, path, &[], Some(body.to_string().into_bytes())).await
}

async fn say(client: &Client, state: &str, device: &str) -> Answer {
    put(client, "/v1/me/presence", json!({"state": state, "device": device})).await
}

/// A circle with people in it; the first owns it.
async fn circle_of(system: &System, number: usize) -> (String, Vec<Client>) {
    let owner = system.register("Owen").await;
    let circle = owner.create_circle("public").await;
    let mut people = vec![owner];
    for _ in 1..number {
        let person = system.register("Pia").await;
        person.join(&circle, &people[0]).await;
        people.push(person);
    }
    (circle, people)
}

async fn online(client: &Client, circle: &str) -> u64 {
    let live = client.get(&format!("/v1/circles/{circle}/live")).await.expect(200);
    live.body["online"].as_u64().unwrap()
}

async fn until_online(client: &Client, circle: &str, wanted: u64, within: Duration) {
    let deadline = Instant::now() + within;
    loop {
        let found = online(client, circle).await;
        if found == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{found} are online, not {wanted}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_vanishes_is_gone_and_nobody_else_flaps() {
    let options = Options { presence_lease_s: LEASE, origins: 2, ..Options::default() };
    let mut system = System::with(options).await;
    let (circle, people) = circle_of(&system, 12).await;
    let (staying, vanishing) = people.split_at(6);
    join_all(people.iter().map(|person| say(person, "online", "phone"))).await;
    let beats = staying.to_vec();
    let beating = tokio::spawn(async move {
        loop {
            for answer in join_all(beats.iter().map(|person| say(person, "online", "phone"))).await {
                answer.expect(200);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    for person in vanishing {
        say(person, "online", "phone").await.expect(200);
    }
    until_online(&staying[0], &circle, 12, Duration::from_secs(LEASE.into())).await;
    // One of the two who tell circles dies, perhaps over people whom it has claimed.
    system.origins[1].kill();
    let least = staying.len() as u64;
    let deadline = Instant::now() + Duration::from_secs(LEASE.into()) + GONE_WITHIN;
    let mut seen = 12;
    while seen != least {
        assert!(Instant::now() < deadline, "{seen} are there, and only {least} say so");
        let now = online(&staying[0], &circle).await;
        assert!((least..=seen).contains(&now), "{now} after {seen}");
        seen = now;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for person in vanishing {
        let path = format!("/v1/users/{}/presence", person.user);
        assert_eq!(staying[0].get(&path).await.expect(200).text("/state"), "offline");
    }
    for _ in 0..20 {
        assert_eq!(online(&staying[0], &circle).await, least, "somebody flaps");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    beating.abort();
    // Nothing is left of those who vanished.
    let user = Uuid::parse_str(&vanishing[0].user).unwrap();
    let mut redis = system.redis.connect().await;
    let due: Option<f64> =
        redis.zscore(Key::PresenceDue.of_partition(Partition::of(user)), user.to_string()).await.unwrap();
    assert_eq!((due, redis.exists::<_, bool>(Key::presence(user).name()).await.unwrap()), (None, false));
}

/// Another device's lease carries on, and a stronger state ends with its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_vanishes_leaves_its_person_to_the_others() {
    let system = System::with(Options { presence_lease_s: LEASE, ..Options::default() }).await;
    let (circle, people) = circle_of(&system, 2).await;
    let state = async || {
        let live = people[0].get(&format!("/v1/circles/{circle}/live")).await.expect(200);
        live.body["people"].as_array().unwrap().first().map(|person| person["state"].clone())
    };
    say(&people[1], "busy", "desk").await.expect(200);
    let began = Instant::now();
    let mut seen = Vec::new();
    while began.elapsed() < Duration::from_secs(u64::from(LEASE) + 6) {
        say(&people[1], "away", "phone").await.expect(200);
        let now = state().await;
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    seen.retain(Option::is_some);
    assert_eq!(seen, [Some(json!("busy")), Some(json!("away"))], "never offline in between");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_writes_once_however_many_circles_its_person_is_in() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let id = |number: usize| Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + number as u128);
    let circles = (0..300).map(|number| {
        let circle = id(number);
        format!(
            "insert into circles (id, name, visibility, owner_id, member_count) values ('{circle}', 'C', 'private', '{0}', 1);
             insert into memberships (circle_id, user_id, role) values ('{circle}', '{0}', 'owner');",
            ada.user
        )
    });
    system.sql(&circles.collect::<String>());
    say(&ada, "online", "phone").await.expect(200);
    let last = id(299).to_string();
    until_online(&ada, &last, 1, Duration::from_secs(20)).await;
    let mut redis = system.redis.connect().await;
    let mut changes = async || {
        let info: String = redis::cmd("INFO").arg("commandstats").query_async(&mut redis).await.unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_zadd:calls=")).unwrap_or("0");
        line.split(',').next().unwrap().parse::<u64>().unwrap()
    };
    let before = changes().await;
    for _ in 0..20 {
        say(&ada, "online", "phone").await.expect(200);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let grown = changes().await - before;
    assert!(grown < 100, "twenty requests that change nothing added {grown} times to sets");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_of_presence_expires() {
    let system = System::start().await;
    let (circle, people) = circle_of(&system, 2).await;
    let path = format!("/v1/circles/{circle}");
    say(&people[0], "online", "phone").await.expect(200);
    put(&people[0], &format!("{path}/typing"), Value::Null).await.expect(200);
    put(&people[0], &format!("{path}/draft"), json!({"body": "Good"})).await.expect(200);
    until_online(&people[0], &circle, 1, Duration::from_secs(10)).await;
    let (user, circle) = (Uuid::parse_str(&people[0].user).unwrap(), Uuid::parse_str(&circle).unwrap());
    let mut redis = system.redis.connect().await;
    let keys = [
        (Key::Presence, Key::presence(user).name()),
        (Key::PresenceDue, Key::PresenceDue.of_partition(Partition::of(user))),
        (Key::Online, Key::online(circle).name()),
        (Key::Typing, Key::typing(circle).name()),
        (Key::MessageDraft, Key::message_draft(user, circle).name()),
        (Key::MessageDrafts, Key::message_drafts(user).name()),
    ];
    for (key, name) in keys {
        let left_ms: i64 = redis.pttl(&name).await.unwrap();
        let Life::Seconds { fresh, .. } = KEYS[key as usize].life else { panic!("{name} has no life") };
        assert!((1..=i64::from(fresh) * 1_000).contains(&left_ms), "{name} lives for {left_ms} ms more");
    }
    let told = system.sql("select count(*) from outbox where payload::text like '%Good%'");
    assert_eq!(told, "0", "Postgres has nothing of a message that is being composed");
}

/// Of a message that is never sent.
const UNSAID: &str = "unsaid-marigold";

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_nobody_is_told_that_it_was_kept() {
    let options = Options { redis_deadline_ms: 500, ..Options::default() };
    let mut system = System::with(options).await;
    let (circle, people) = circle_of(&system, 2).await;
    let path = format!("/v1/circles/{circle}");
    let ask = async |client: &Client| {
        let user = client.user.clone();
        [
            say(client, "online", "phone").await,
            put(client, &format!("{path}/typing"), Value::Null).await,
            put(client, &format!("{path}/draft"), json!({"body": UNSAID})).await,
            client.get(&format!("{path}/draft")).await,
            client.delete(&format!("{path}/draft")).await,
            client.get(&format!("{path}/live")).await,
            client.get(&format!("/v1/users/{user}/presence")).await,
        ]
    };
    for answer in ask(&people[0]).await {
        answer.expect(200);
    }
    system.redis.kill();
    for answer in ask(&people[0]).await {
        let answer = answer.expect(503);
        assert_eq!(answer.header("retry-after"), "1", "{answer:#?}");
    }
    // Everything else goes on.
    people[0].get("/v1/me").await.expect(200);
    system.redis.launch();
    let deadline = optimist_tests::patience();
    loop {
        let answers = ask(&people[0]).await;
        if answers.iter().all(|answer| answer.status == 200) {
            break;
        }
        assert!(Instant::now() < deadline, "{answers:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    until_online(&people[1], &circle, 1, Duration::from_secs(20)).await;
    let logs = system.logs();
    let says = |word: &str| logs.windows(word.len()).any(|found| found == word.as_bytes());
    assert!(!logs.is_empty(), "these are no logs");
    assert!(!says(UNSAID), "a log has what nobody has sent");
}
