//! The mixed load: each client does one thing after the other, chosen by the seed, and repeats a failed one as a real
//! client would.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use optimist_shared::ids::Partition;
use optimist_shared::keys::Key;
use optimist_shared::limits::Limit;
use optimist_shared::reactions::KINDS;
use optimist_tests::crowd::Place;
use optimist_tests::registers::Seen;
use redis::streams::StreamReadReply;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::checks::draft_text;
use crate::history::{Call, Intent, Outcome};
use crate::subscribers;
use crate::world::{Request, World};

/// The wait before a failed request is repeated.
const AGAIN: Duration = Duration::from_millis(50);

/// Starts all clients; they work until the record is stopped.
pub fn start(world: &Arc<World>, random: &mut Rng) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for key in world.keys.clone() {
        let known = Arc::new(AtomicU64::new(0));
        tasks.spawn(write_register(world.clone(), key, known.clone(), random.fork()));
        for _ in 0..2 {
            tasks.spawn(read_register(world.clone(), key, known.clone(), random.fork()));
        }
    }
    for name in ["poster a", "poster b"] {
        tasks.spawn(post(world.clone(), name, random.fork()));
    }
    for person in [3, 4] {
        tasks.spawn(react(world.clone(), person, random.fork()));
    }
    for name in ["limited a", "limited b"] {
        tasks.spawn(post_within_limits(world.clone(), name, random.fork()));
    }
    tasks.spawn(react_within_limits(world.clone(), random.fork()));
    tasks.spawn(come_and_go(world.clone(), random.fork()));
    tasks.spawn(save_drafts(world.clone(), random.fork()));
    tasks.spawn(mark_as_read(world.clone(), random.fork()));
    tasks.spawn(follow(world.clone()));
    subscribers::start(world, &mut tasks);
    tasks
}

async fn pause(random: &mut Rng, from_ms: u64, to_ms: u64) {
    tokio::time::sleep(Duration::from_millis(random.u64(from_ms..to_ms))).await;
}

async fn write_register(world: Arc<World>, key: Key, known: Arc<AtomicU64>, mut random: Rng) {
    let record = &world.record;
    for number in 1.. {
        loop {
            if record.is_over() {
                return;
            }
            let (begun, written, ended) = record.timed(world.registers.write(key, number)).await;
            let outcome = match written {
                Some(true) => Outcome::Acknowledged { in_postgres: true },
                _ => Outcome::Unknown("failed".to_owned()),
            };
            let intent = Intent::Write { key, number };
            record.note(Call { client: "writer", begun, ended, intent, outcome, counted: None });
            if written == Some(true) {
                break;
            }
            tokio::time::sleep(AGAIN).await;
        }
        known.store(number, Ordering::SeqCst);
        pause(&mut random, 10, 120).await;
    }
}

async fn read_register(world: Arc<World>, key: Key, known: Arc<AtomicU64>, mut random: Rng) {
    let record = &world.record;
    while !record.is_over() {
        let (ahead, direct) = (random.u64(0..3), random.u8(0..8) == 0);
        // For sessions: the one just revoked, and the next ones.
        let near = (known.load(Ordering::SeqCst) + ahead).max(1);
        let (begun, seen, ended) = record.timed(world.registers.read(key, near, direct)).await;
        let outcome = Outcome::Seen(seen.unwrap_or(Seen::Unknown));
        let intent = Intent::Read { key };
        record.note(Call { client: "reader", begun, ended, intent, outcome, counted: None });
        pause(&mut random, 5, 60).await;
    }
}

async fn post(world: Arc<World>, name: &'static str, mut random: Rng) {
    let who = &world.crowd.people()[if name == "poster a" { 1 } else { 2 }];
    for number in 1.. {
        let text = format!("{name} {number}");
        loop {
            if world.record.is_over() {
                return;
            }
            world.unlimited.forget(who).await;
            if post_once(&world, name, who, &text, None).await {
                break;
            }
            tokio::time::sleep(AGAIN).await;
        }
        pause(&mut random, 50, 300).await;
    }
}

/// Within ten messages a minute.
async fn post_within_limits(world: Arc<World>, name: &'static str, mut random: Rng) {
    let who = world.crowd.people().last().expect("people");
    for number in 1.. {
        if world.record.is_over() {
            return;
        }
        post_once(&world, name, who, &format!("{name} {number}"), Some(Limit::Messages)).await;
        pause(&mut random, 100, 500).await;
    }
}

/// Returns whether it was acknowledged.
async fn post_once(
    world: &World,
    client: &'static str,
    who: &optimist_tests::Client,
    text: &str,
    counted: Option<Limit>,
) -> bool {
    let circle = world.circle().to_owned();
    let path = format!("/v1/circles/{circle}/messages");
    let answer = world
        .record
        .call(Request {
            client,
            who,
            method: Method::POST,
            path: &path,
            headers: &[("idempotency-key", &text.replace(' ', "-"))],
            body: Some(json!({"body": text})),
            intent: Intent::Post { circle, text: text.to_owned() },
            counted,
        })
        .await;
    answer.is_some_and(|answer| answer.status == 201)
}

async fn react(world: Arc<World>, person: usize, mut random: Rng) {
    while !world.record.is_over() {
        let (message, kind, on) = choose_reaction(&mut random);
        while !world.record.is_over() {
            world.unlimited.forget(&world.crowd.people()[person]).await;
            if react_once(&world, person, message, kind, on, None).await {
                break;
            }
            tokio::time::sleep(AGAIN).await;
        }
        pause(&mut random, 20, 200).await;
    }
}

/// Within fifty reactions a minute.
async fn react_within_limits(world: Arc<World>, mut random: Rng) {
    while !world.record.is_over() {
        let (message, kind, on) = choose_reaction(&mut random);
        let person = world.crowd.people().len() - 1;
        react_once(&world, person, message, kind, on, Some(Limit::Reactions)).await;
        pause(&mut random, 40, 160).await;
    }
}

fn choose_reaction(random: &mut Rng) -> (usize, usize, bool) {
    (random.usize(..crate::world::MESSAGES), random.usize(..2), random.u8(0..3) > 0)
}

async fn react_once(
    world: &World,
    person: usize,
    message: usize,
    kind: usize,
    on: bool,
    counted: Option<Limit>,
) -> bool {
    let who = &world.crowd.people()[person];
    let (message, circle) = &world.crowd.messages()[message];
    let path = format!("/v1/circles/{circle}/messages/{message}/reactions/{}", KINDS[kind]);
    let place = Place { message: message.clone(), kind: kind + 1, user: who.user.clone() };
    let answer = world
        .record
        .call(Request {
            client: "reactor",
            who,
            method: if on { Method::PUT } else { Method::DELETE },
            path: &path,
            headers: &[],
            body: None,
            intent: Intent::React { place, on },
            counted,
        })
        .await;
    answer.is_some_and(|answer| answer.status == 202)
}

/// Joins the club, and leaves it.
async fn come_and_go(world: Arc<World>, mut random: Rng) {
    let who = &world.joiner;
    let path = format!("/v1/circles/{}/members/me", world.club);
    let mut on = true;
    while !world.record.is_over() {
        world.unlimited.forget(who).await;
        let answer = world
            .record
            .call(Request {
                client: "joiner",
                who,
                method: if on { Method::POST } else { Method::DELETE },
                path: &path,
                headers: &[],
                body: on.then(|| json!({})),
                intent: Intent::Belong { user: who.user.clone(), on },
                counted: None,
            })
            .await;
        if answer.is_some_and(|answer| answer.status < 500 && answer.status != 429) {
            on = !on;
        }
        pause(&mut random, 50, 300).await;
    }
}

/// Saves one text over the other, and takes the current version after a conflict.
async fn save_drafts(world: Arc<World>, mut random: Rng) {
    let who = &world.diarist;
    let mut base = Value::Null;
    for number in 1.. {
        loop {
            if world.record.is_over() {
                return;
            }
            world.unlimited.forget(who).await;
            let answer = world
                .record
                .call(Request {
                    client: "diarist",
                    who,
                    method: Method::PUT,
                    path: &world.draft,
                    headers: &[],
                    body: Some(json!({"body": draft_text(number), "base_version": base})),
                    intent: Intent::Save { number },
                    counted: None,
                })
                .await;
            match answer {
                Some(answer) if answer.status == 200 => base = answer.body["version"].clone(),
                Some(answer) if answer.status == 409 => base = answer.body["current"]["version"].clone(),
                _ => {
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            }
            break;
        }
        pause(&mut random, 50, 400).await;
    }
}

async fn mark_as_read(world: Arc<World>, mut random: Rng) {
    let who = &world.crowd.people()[4];
    while !world.record.is_over() {
        world
            .record
            .call(Request {
                client: "told",
                who,
                method: Method::POST,
                path: "/v1/notifications/read",
                headers: &[],
                body: Some(json!({})),
                intent: Intent::ReadAll,
                counted: None,
            })
            .await;
        pause(&mut random, 300, 900).await;
    }
}

/// Reads the stream of the circle's partition, as a service that delivers events would.
async fn follow(world: Arc<World>) {
    let partition = Partition::of(world.circle().parse().expect("an id"));
    let key = Key::Events.of_partition(partition);
    let mut after = "0-0".to_owned();
    let mut connection = None;
    while !world.record.is_over() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if connection.is_none() {
            connection = world.redis.get_multiplexed_async_connection().await.ok();
        }
        let Some(open) = &mut connection else { continue };
        let mut read = redis::cmd("XREAD");
        read.arg("STREAMS").arg(&key).arg(&after);
        let Ok(reply) = read.query_async::<Option<StreamReadReply>>(open).await else {
            connection = None;
            continue;
        };
        let mut followed = world.record.followed.lock().expect("the record");
        let given = followed.entry(partition.index() as u16).or_default();
        for entry in reply.into_iter().flat_map(|reply| reply.keys).flat_map(|stream| stream.ids) {
            after.clone_from(&entry.id);
            given.push(entry.id);
        }
    }
}
