//! States of Redis, whole and damaged, and what an edge makes of a reaction in them.

use optimist_edge_core::Edge;
use optimist_edge_core::host::{Decision, Ending, Finish, Response};
use optimist_shared::envelope::{Body, Envelope, Stamp};
use optimist_shared::ids::Partition;
use optimist_shared::keys::Key;
use optimist_shared::limits::Limit;
use optimist_shared::session::{CachedSession, hash_secret};
use proptest::prelude::*;
use redis::aio::MultiplexedConnection;

use super::direct::{Asked, Direct, held};
use super::{CIRCLE, MESSAGE, NOW, SESSION, TOKEN, USER};

/// The time of attempts that a limit remembers. None is newer, so that Redis's own clock does not show.
const REMEMBERED: u64 = 90_000_000_000_000;
/// An epoch of digits and letters.
pub const EPOCH: u64 = 0x0a1b_2c3d_4e5f_6789;

/// What is wrong with a value.
#[derive(Clone, Debug)]
pub enum Damage {
    Nothing,
    Absent,
    Cut(usize),
    Byte(usize, u8),
    Longer(u8),
    Other(Vec<u8>),
}

impl Damage {
    fn to(&self, mut whole: Vec<u8>) -> Option<Vec<u8>> {
        match *self {
            Damage::Nothing => {}
            Damage::Absent => return None,
            Damage::Cut(length) => whole.truncate(length % whole.len()),
            Damage::Byte(place, byte) => {
                let place = place % whole.len();
                whole[place] = byte;
            }
            Damage::Longer(byte) => whole.push(byte),
            Damage::Other(ref bytes) => whole.clone_from(bytes),
        }
        Some(whole)
    }
}

/// Mostly nothing. Bytes that digits and hex digits may be taken for come more often than others.
fn damages() -> impl Strategy<Value = Damage> {
    let bytes =
        || prop_oneof![3 => "[0-9a-gA-GxX+ .dt]".prop_map(|text| text.as_bytes()[0]), 1 => any::<u8>()];
    prop_oneof![
        60 => Just(Damage::Nothing),
        1 => Just(Damage::Absent),
        1 => (0..200usize).prop_map(Damage::Cut),
        // In the header, or anywhere.
        2 => (prop_oneof![0..70usize, 0..200usize], bytes()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        1 => bytes().prop_map(Damage::Longer),
        1 => proptest::collection::vec(any::<u8>(), 0..80).prop_map(Damage::Other),
    ]
}

/// An epoch: the case's, or another.
fn epochs() -> impl Strategy<Value = u64> {
    prop_oneof![30 => Just(0), 1 => Just(1)]
}

/// A copy of a text.
#[derive(Clone, Debug)]
pub struct Text {
    epoch: u64,
    fresh_until_ms: u64,
    text: String,
    is_object: bool,
    damage: Damage,
}

impl Text {
    fn of(&self, epoch: u64) -> Option<Vec<u8>> {
        let stamp = Stamp {
            epoch: epoch + self.epoch,
            fresh_until_ms: self.fresh_until_ms,
            read_at_ms: NOW - 5_000,
            seen_xmin: 0xabc,
        };
        let body = match self.is_object {
            true => Body::Object { version: "1", json: self.text.as_bytes() },
            false => Body::Text(&self.text),
        };
        self.damage.to(Envelope { stamp, body }.encode())
    }
}

fn texts(usual: &'static [&'static str], others: &'static [&'static str]) -> impl Strategy<Value = Text> {
    let text = prop_oneof![
        16 => proptest::sample::select(usual).prop_map(str::to_owned),
        2 => proptest::sample::select(others).prop_map(str::to_owned),
        1 => "[a-z]{0,9}",
    ];
    let fresh = prop_oneof![14 => Just(NOW + 1), 1 => Just(NOW), 1 => Just(NOW - 1)];
    let is_object = prop_oneof![30 => Just(false), 1 => Just(true)];
    (epochs(), fresh, text, is_object, damages()).prop_map(
        |(epoch, fresh_until_ms, text, is_object, damage)| Text {
            epoch,
            fresh_until_ms,
            text,
            is_object,
            damage,
        },
    )
}

/// What Redis holds, and what is asked.
#[derive(Clone, Debug)]
pub struct Case {
    asked: Asked,
    epoch: u64,
    /// Every value spells its epoch in upper case, which is malformed.
    is_upper: bool,
    vouch: (bool, Damage),
    /// Its epoch, the time when it ends, and damage.
    session: (u64, u64, Damage),
    membership: Text,
    access: Text,
    /// The epochs of ledger, message's state and counts; 2 for none.
    written: [u64; 3],
    has_reacted: bool,
    /// Attempts in the minute.
    used: usize,
}

pub fn cases() -> impl Strategy<Value = Case> {
    let asked = (prop_oneof![Just("PUT"), Just("DELETE")], prop_oneof![15 => Just(false), 1 => Just(true)]);
    let written = || prop_oneof![40 => Just(0), 1 => Just(1), 1 => Just(2)];
    let ends = prop_oneof![30 => Just(REMEMBERED + 1_000_000), 1 => Just(REMEMBERED - 1)];
    (
        asked,
        // What does not parse must not pass for epoch 0.
        (prop_oneof![4 => Just(EPOCH), 1 => Just(0)], prop_oneof![30 => Just(false), 1 => Just(true)]),
        (prop_oneof![2 => Just(false), 1 => Just(true)], damages()),
        (epochs(), ends, damages()),
        texts(&["owner", "moderator", "member"], &["none", "banned", "Owner", "member "]),
        texts(&["public", "private"], &["archived", "Public", "private\0"]),
        [written(), written(), written()],
        any::<bool>(),
        prop_oneof![8 => Just(1), 4 => Just(49), 1 => Just(50)],
    )
        .prop_map(
            |(asked, (epoch, is_upper), vouch, session, membership, access, written, has_reacted, used)| {
                Case {
                    asked: Asked { method: asked.0, is_conditional: asked.1 },
                    epoch,
                    is_upper,
                    vouch,
                    session,
                    membership,
                    access,
                    written,
                    has_reacted,
                    used,
                }
            },
        )
}

impl Case {
    /// Puts it into an empty Redis.
    pub async fn install(&self, redis: &mut MultiplexedConnection) {
        let mut pipeline = redis::pipe();
        pipeline.cmd("FLUSHDB").ignore();
        let partition = Partition::of(CIRCLE);
        let (degraded, damage) = &self.vouch;
        let vouch = format!("{}{}", self.spelled(self.epoch), if *degraded { "d" } else { "" });
        let (epoch, absolute_until_ms, damaged) = &self.session;
        let cached = CachedSession {
            secret_hash: hash_secret(&TOKEN.secret),
            written_back_ms: REMEMBERED,
            absolute_until_ms: *absolute_until_ms,
        };
        let stamp = Stamp { epoch: self.epoch + epoch, fresh_until_ms: 0, read_at_ms: 0, seen_xmin: 0 };
        let session = Envelope { stamp, body: Body::Session(&cached.encode()) }.encode();
        for (name, value) in [
            (Key::Vouch.of_partition(partition), damage.to(vouch.into())),
            (Key::session(USER, SESSION).name(), damaged.to(session)),
            (Key::membership(USER, CIRCLE).name(), self.membership.of(self.epoch)),
            (Key::circle_access(CIRCLE).name(), self.access.of(self.epoch)),
            (Key::counts_page(CIRCLE).name(), Some(b"page".to_vec())),
        ] {
            if let Some(mut value) = value {
                if self.is_upper {
                    // The wire version precedes a copy's.
                    value.iter_mut().take(17).for_each(u8::make_ascii_uppercase);
                }
                pipeline.cmd("SET").arg(name).arg(value).ignore();
            }
        }
        let [ledger, state, counts] = self.written.map(|of| (of < 2).then(|| self.spelled(self.epoch + of)));
        if let Some(epoch) = ledger {
            pipeline.cmd("HSET").arg(Key::Ledger.of_partition(partition)).arg("epoch").arg(epoch).ignore();
        }
        if let Some(epoch) = state {
            pipeline.cmd("HSET").arg(Key::reactions(CIRCLE, MESSAGE).name()).arg("@").arg(epoch);
            if self.has_reacted {
                pipeline.arg(format!("2:{USER}")).arg("");
            }
            pipeline.ignore();
        }
        if let Some(epoch) = counts {
            let numbers = if self.has_reacted { "3,1" } else { "3" };
            let field = MESSAGE.to_string();
            pipeline.cmd("HSET").arg(Key::counts(CIRCLE).name()).arg(field).arg(epoch + numbers).ignore();
        }
        pipeline.cmd("ZADD").arg(Limit::Reactions.row().key(&USER.to_string()));
        for attempt in 0..self.used {
            pipeline.arg(REMEMBERED).arg(format!("earlier {attempt}"));
        }
        pipeline.ignore();
        pipeline.query_async::<()>(redis).await.unwrap();
    }

    fn spelled(&self, epoch: u64) -> String {
        if self.is_upper { format!("{epoch:016X}") } else { format!("{epoch:016x}") }
    }

    /// What an edge makes of it.
    pub async fn play(&self, redis: &MultiplexedConnection, edge: &Edge) -> Outcome {
        self.install(&mut redis.clone()).await;
        let host = Direct::new(redis);
        let decision = edge.handle(&host, &self.asked).await;
        let trips = host.trips.get();
        let held_then = held(redis).await;
        let (answer, failed) = match decision {
            Decision::Respond(response) => (Answer::Edge(response), None),
            Decision::Forward(mut forward) => {
                let signed = forward.sign(edge, &host, &self.asked, b"");
                // A refund shows.
                let failed = match forward.pending.finish(edge, &host, Ending::Unreached).await {
                    Finish::Replace(response) => response,
                    Finish::Pass { .. } | Finish::Kept => panic!("there is neither answer nor copy"),
                };
                (Answer::Origin(signed), Some(failed))
            }
        };
        let after_response = host.after_response.take();
        Outcome {
            trips,
            shown: Shown { answer, held: held_then, failed, finally: held(redis).await, after_response },
        }
    }
}
pub struct Outcome {
    pub trips: u32,
    pub shown: Shown,
}

#[derive(Debug, PartialEq)]
pub struct Shown {
    pub answer: Answer,
    /// What Redis holds then.
    held: Vec<String>,
    /// The answer if the origin cannot be reached, and what Redis holds then.
    failed: Option<Response>,
    finally: Vec<String>,
    after_response: Vec<Vec<Vec<u8>>>,
}

#[derive(Debug, PartialEq)]
pub enum Answer {
    Edge(Response),
    /// The signed headers.
    Origin(Vec<(&'static str, String)>),
}

/// A member who reacts to a message of a private circle.
pub fn usual() -> Case {
    Case {
        asked: Asked { method: "PUT", is_conditional: false },
        epoch: EPOCH,
        is_upper: false,
        vouch: (false, Damage::Nothing),
        session: (0, REMEMBERED + 1_000_000, Damage::Nothing),
        membership: text("member"),
        access: text("private"),
        written: [0; 3],
        has_reacted: false,
        used: 1,
    }
}

fn text(text: &str) -> Text {
    Text {
        epoch: 0,
        fresh_until_ms: NOW + 1,
        text: text.to_owned(),
        is_object: false,
        damage: Damage::Nothing,
    }
}
