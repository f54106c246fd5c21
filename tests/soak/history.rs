//! The record of a schedule: every call of every client, every fault, and the final state. The functions in `checks`
//! judge only this.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use optimist_shared::keys::Key;
use optimist_shared::limits::Limit;
use optimist_tests::crowd::{Counts, Place};
use optimist_tests::events;
use optimist_tests::registers::Seen;
use optimist_tests::wandering::Record;

/// Time since the schedule began.
pub type At = Duration;

/// How long answers may be wrong after a store's fault.
pub const GRACE: Duration = Duration::from_secs(5);

/// One request of a client; repeating an intent makes another call.
#[derive(Clone, Debug)]
#[allow(dead_code)] // Some fields are only for people who read a kept history.
pub struct Call {
    pub client: &'static str,
    pub begun: At,
    pub ended: At,
    pub intent: Intent,
    pub outcome: Outcome,
    /// The limit that must hold for this caller, whose charges the harness does not reset.
    pub counted: Option<Counted>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    pub limit: Limit,
    pub user: String,
    /// Redis charged it; otherwise an origin may have charged it in memory.
    pub in_redis: bool,
}

#[derive(Clone, Debug)]
#[allow(dead_code)] // As above.
pub enum Intent {
    /// The register's write of this number.
    Write {
        key: Key,
        number: u64,
    },
    Read {
        key: Key,
    },
    /// A message with its own idempotency key.
    Post {
        circle: String,
        text: String,
    },
    React {
        place: Place,
        on: bool,
    },
    /// Joining a circle, or leaving it.
    Belong {
        user: String,
        on: bool,
    },
    /// The draft's text of this number, over the version that the client knows.
    Save {
        number: u64,
    },
    /// Marks all of the client's notifications as read.
    ReadAll,
}

#[derive(Clone, Debug)]
#[allow(dead_code)] // As above.
pub enum Outcome {
    /// Done, and safe in this store.
    Acknowledged {
        in_postgres: bool,
    },
    /// Certainly not done.
    Refused {
        status: u16,
    },
    /// Refused by a limit.
    Limited,
    /// A draft's text did not replace another, and is kept beside it.
    KeptAside,
    /// It may have been done, and may be done later.
    Unknown(String),
    Seen(Seen),
}

/// A fault as it happened.
#[derive(Clone, Debug)]
pub struct Inflicted {
    pub what: String,
    pub begun: At,
    /// When it was mended.
    pub ended: At,
    pub is_of_a_store: bool,
    pub ends_in_a_restart: bool,
    /// Redis lost all its data.
    pub loses_redis: bool,
}

/// The final state, once all faults are mended and the system is quiet.
#[derive(Clone, Debug, Default)]
pub struct Finals {
    /// The messages that clients posted in the circle: number and text.
    pub messages: Vec<(u64, String)>,
    /// How many messages the circle had at first.
    pub messages_at_first: u64,
    /// Reactions that are on, in Postgres.
    pub on: BTreeSet<Place>,
    pub counts: Counts,
    /// The members of the circle that people join and leave.
    pub members: BTreeSet<String>,
    pub draft_texts: Vec<String>,
    /// Sums to compare: their name, the value found, and the value expected.
    pub sums: Vec<(String, i64, i64)>,
    pub streams: BTreeMap<events::Place, BTreeMap<String, String>>,
    pub outbox: BTreeSet<events::Place>,
    /// For each partition, the id from which its stream is whole.
    pub whole_since: BTreeMap<u16, String>,
    /// The ids that readers of streams were given, in order.
    pub followed: BTreeMap<u16, Vec<String>>,
    /// The ids of the messages' events in the circle, in order.
    pub posted: Vec<String>,
    /// What subscribers received of them, with their names.
    pub subscribed: Vec<(String, Record)>,
}

#[derive(Clone, Debug, Default)]
pub struct History {
    pub calls: Vec<Call>,
    pub faults: Vec<Inflicted>,
    pub finals: Finals,
}

impl History {
    /// Whether wrong answers are forgiven for a request of that time.
    pub fn is_forgiven(&self, begun: At, ended: At) -> bool {
        self.faults.iter().filter(|fault| fault.is_of_a_store).any(|fault| {
            let during = |from: At, to: At| begun <= to + GRACE && ended >= from;
            // A mended store needs a moment to complete its restart.
            during(fault.begun, fault.begun) || (fault.ends_in_a_restart && during(fault.ended, fault.ended))
        })
    }

    /// When Redis last lost its data.
    pub fn loss(&self) -> Option<At> {
        self.faults.iter().filter(|fault| fault.loses_redis).map(|fault| fault.ended).max()
    }
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub check: &'static str,
    pub what: String,
}
