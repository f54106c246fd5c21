//! The people and resources of a schedule, and the record of their calls.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use optimist_shared::keys::Key;
use optimist_tests::registers::{Registers, fenced_keys};
use optimist_tests::unlimited::Unlimited;
use optimist_tests::wandering::Wanderer;
use optimist_tests::{Answer, Client, Crowd, System};
use reqwest::Method;

use crate::history::{At, Call, Counted, Intent, Outcome};

/// The circle's initial messages, which people react to.
pub const MESSAGES: usize = 4;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct World {
    /// Members of one circle. The first owns it and wrote its first messages; the last is subject to limits.
    pub crowd: Arc<Crowd>,
    pub registers: Registers,
    /// Registers in use.
    pub keys: Vec<Key>,
    /// A public circle.
    pub club: String,
    /// Joins the club, and leaves it.
    pub joiner: Client,
    /// Writes a draft.
    pub diarist: Client,
    pub draft: String,
    pub unlimited: Unlimited,
    pub redis: redis::Client,
    pub record: Record,
}

/// The calls so far.
pub struct Record {
    began: Instant,
    stop: AtomicBool,
    calls: Mutex<Vec<Call>>,
    /// Ids that readers of streams were given, by partition.
    pub followed: Mutex<BTreeMap<u16, Vec<String>>>,
    /// Subscribers, once the clients have stopped.
    pub subscribers: Mutex<Vec<Wanderer>>,
}

impl World {
    pub async fn new(system: &System, random: &mut fastrand::Rng) -> World {
        let crowd = Crowd::new(system, 6, 1, MESSAGES).await;
        let registers = Registers::new(system).await;
        let keys = choose(random);
        for key in &keys {
            assert!(registers.write(*key, 0).await, "{key:?}: the first write");
        }
        let club = crowd.people()[0].create_circle("public").await;
        let redis = redis::Client::open(system.redis.url()).expect("a URL");
        World {
            registers,
            keys,
            club,
            joiner: system.register("Joan").await,
            diarist: system.register("Di").await,
            draft: format!("/v1/journal/drafts/{}", uuid::Uuid::from_u128(random.u128(..))),
            unlimited: Unlimited::new(system),
            redis,
            crowd,
            record: Record {
                began: Instant::now(),
                stop: AtomicBool::new(false),
                calls: Mutex::default(),
                followed: Mutex::default(),
                subscribers: Mutex::default(),
            },
        }
    }

    pub fn circle(&self) -> &str {
        &self.crowd.circles()[0]
    }
}

/// Sessions, and four of the other registers. Of two registers on the same data, at most one is chosen.
fn choose(random: &mut fastrand::Rng) -> Vec<Key> {
    let mut others: Vec<Key> = fenced_keys().filter(|key| *key != Key::Session).collect();
    random.shuffle(&mut others);
    let mut keys = vec![Key::Session];
    for key in others {
        let same = |other: &Key| {
            matches!(
                (key, *other),
                (Key::Membership, Key::CircleMembers) | (Key::CircleMembers, Key::Membership)
            )
        };
        if keys.len() < 5 && !keys.iter().any(same) {
            keys.push(key);
        }
    }
    keys
}

impl Record {
    pub fn now(&self) -> At {
        self.began.elapsed()
    }

    /// Tells the clients to stop.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    pub fn note(&self, call: Call) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }

    /// All calls, in the order in which they began.
    pub fn calls(&self) -> Vec<Call> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        calls.sort_by_key(|call| call.begun);
        calls
    }

    /// Sends a request and records its outcome; returns the answer, if there was one. `counted` names the limit that
    /// holds for this caller; attempts that Redis could not be asked about are marked.
    pub async fn call(&self, request: Request<'_>) -> Option<Answer> {
        let begun = self.now();
        let Request { client, who, method, path, headers, body, intent, counted } = request;
        let sent = who.try_send(method, path, headers, body.map(|body| body.to_string().into_bytes()));
        let answer = tokio::time::timeout(PATIENCE, sent).await;
        let ended = self.now();
        let (outcome, answer) = match answer {
            Ok(Ok(answer)) => (outcome(&intent, &answer), Some(answer)),
            Ok(Err(error)) => (Outcome::Unknown(error.to_string()), None),
            Err(_) => (Outcome::Unknown("no answer".to_owned()), None),
        };
        let counted = counted.map(|limit| {
            let status = answer.as_ref().map_or("", |answer| answer.header("cache-status"));
            let in_redis = !status.contains("no-redis") && !status.contains("unknown-session");
            Counted { limit, user: who.user.clone(), in_redis }
        });
        self.note(Call { client, begun, ended, intent, outcome, counted });
        answer
    }

    /// Times one operation of a register.
    pub async fn timed<T>(&self, operation: impl Future<Output = T>) -> (At, Option<T>, At) {
        let begun = self.now();
        let outcome = tokio::time::timeout(PATIENCE, operation).await.ok();
        (begun, outcome, self.now())
    }
}

/// One request to be recorded.
pub struct Request<'a> {
    pub client: &'static str,
    pub who: &'a Client,
    pub method: Method,
    pub path: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: Option<serde_json::Value>,
    pub intent: Intent,
    pub counted: Option<optimist_shared::limits::Limit>,
}

fn outcome(intent: &Intent, answer: &Answer) -> Outcome {
    match (answer.status, intent) {
        (200..=299, Intent::React { .. } | Intent::Save { .. }) => {
            Outcome::Acknowledged { in_postgres: answer.body["promise"] == "postgres" }
        }
        (200..=299, _) => Outcome::Acknowledged { in_postgres: true },
        (429, _) => Outcome::Limited,
        (409, Intent::Save { .. }) => Outcome::KeptAside,
        (500.., _) => Outcome::Unknown(answer.status.to_string()),
        // Leaving without being a member: an earlier try executed after all.
        (403 | 404, Intent::Belong { on: false, .. }) => Outcome::Refused { status: answer.status },
        _ => panic!("{intent:?} was answered {answer:#?}"),
    }
}
