//! What happened in a schedule: every call of every client, every fault, and how things were at the end. Only this is
//! judged, by the functions in `checks`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use optimist_shared::keys::Key;
use optimist_shared::limits::Limit;
use optimist_tests::crowd::{Counts, Place};
use optimist_tests::events;
use optimist_tests::registers::Seen;

/// Time since the schedule began.
pub type At = Duration;

/// How long wrong answers may last after a store's fault.
pub const GRACE: Duration = Duration::from_secs(5);

/// One request of a client's; an intent that is tried again makes another.
#[derive(Clone, Debug)]
#[allow(dead_code)] // Some is for whoever reads a kept history.
pub struct Call {
    pub client: &'static str,
    pub begun: At,
    pub ended: At,
    pub intent: Intent,
    pub outcome: Outcome,
    /// The limit whose windows must hold for this caller, as nobody forgets what they are charged.
    pub counted: Option<Counted>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    pub limit: Limit,
    pub user: String,
    /// Charged by Redis; else perhaps in an origin's memory.
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
    /// A message, under an idempotency key of its own.
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
    /// Marks all that one was told as read.
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
    /// By a limit.
    Limited,
    /// A draft's text was not taken over another, and is kept beside it.
    KeptAside,
    /// It may have been done, and may be done later.
    Unknown(String),
    Seen(Seen),
}

/// A fault, as it came to pass.
#[derive(Clone, Debug)]
pub struct Inflicted {
    pub what: String,
    pub begun: At,
    /// When it was mended.
    pub ended: At,
    pub is_of_a_store: bool,
    pub ends_in_a_restart: bool,
    /// Redis has lost all it had.
    pub loses_redis: bool,
}

/// How things were when all was mended and quiet.
#[derive(Clone, Debug, Default)]
pub struct Finals {
    /// Of the circle's messages that clients posted: number and text.
    pub messages: Vec<(u64, String)>,
    /// How many messages the circle had at first.
    pub messages_at_first: u64,
    /// Reactions that are on, in Postgres.
    pub on: BTreeSet<Place>,
    pub counts: Counts,
    /// Who belongs to the circle that people join and leave.
    pub members: BTreeSet<String>,
    pub draft_texts: Vec<String>,
    /// Numbers that must be another: what they are of, as found, and as it should be.
    pub sums: Vec<(String, i64, i64)>,
    pub streams: BTreeMap<events::Place, BTreeMap<String, String>>,
    pub outbox: BTreeSet<events::Place>,
    /// Of each partition, the id from which its stream is whole.
    pub whole_since: BTreeMap<u16, String>,
    /// What readers of streams were given, in order.
    pub followed: BTreeMap<u16, Vec<String>>,
}

#[derive(Clone, Debug, Default)]
pub struct History {
    pub calls: Vec<Call>,
    pub faults: Vec<Inflicted>,
    pub finals: Finals,
}

impl History {
    /// Whether wrong answers are forgiven to a request of that time.
    pub fn is_forgiven(&self, begun: At, ended: At) -> bool {
        self.faults.iter().filter(|fault| fault.is_of_a_store).any(|fault| {
            let during = |from: At, to: At| begun <= to + GRACE && ended >= from;
            // It takes its restart a moment to come to an end.
            during(fault.begun, fault.begun) || (fault.ends_in_a_restart && during(fault.ended, fault.ended))
        })
    }

    /// When Redis last lost what it had.
    pub fn loss(&self) -> Option<At> {
        self.faults.iter().filter(|fault| fault.loses_redis).map(|fault| fault.ended).max()
    }
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub check: &'static str,
    pub what: String,
}
