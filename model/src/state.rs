//! The state of the protocol's parties; their steps are in other modules.
//!
//! Every type is small and plain, since millions of them are kept; sets of writers and of tokens are bits.

use crate::Protocol;

/// Writers, by number; each has one write to make.
pub const WRITERS: u8 = 2;
/// Parties that come to the origin with a miss: two readers, and the refill of a warm key.
pub const READERS: usize = 3;
/// Attempts at a write: the first, and one more after a failure.
pub const ATTEMPTS: u8 = 2;

/// A set of writers, as bits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Set(pub u8);

impl Set {
    pub fn of(writer: u8) -> Set {
        Set(1 << writer)
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn has(self, writer: u8) -> bool {
        self.0 >> writer & 1 == 1
    }

    pub fn with(self, other: Set) -> Set {
        Set(self.0 | other.0)
    }

    pub fn without(self, other: Set) -> Set {
        Set(self.0 & !other.0)
    }

    pub fn contains(self, other: Set) -> bool {
        other.without(self).is_empty()
    }
}

impl std::fmt::Debug for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries((0..WRITERS).filter(|writer| self.has(*writer))).finish()
    }
}

/// The result of a query: the writes that its snapshot saw. The model keeps no other content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Snapshot {
    pub has: Set,
    /// Those below the snapshot's horizon (`pg_snapshot_xmin`): an invalidation by one of them spares the value.
    pub settled: Set,
}

/// A copy in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Copy {
    pub read: Snapshot,
    /// The epoch that was vouched when its lease was given.
    pub epoch: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease {
    pub holder: u8,
    /// The floor under which it was given, if the primary then showed all that the relay had told of.
    pub knows: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Floor {
    /// Of the newest transaction that the relay has told of.
    pub writer: u8,
    /// A relay that reads a replica has told of it, or of an older one.
    pub is_ahead: bool,
}

/// One key in Redis with its companions, and its partition's vouching.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Redis {
    pub value: Option<Copy>,
    pub hidden: Option<Copy>,
    /// Tokens of the fences that are up, see [`token`].
    pub fences: u8,
    pub lease: Option<Lease>,
    /// A fill must have seen its transaction.
    pub floor: Option<Floor>,
    /// The highest epoch that was ever vouched for. 0: none.
    pub epoch: u8,
    /// The epoch that is vouched for. 0: none.
    pub vouch: u8,
}

/// The number of a writer's attempt, unique among all writers.
pub fn token(writer: u8, attempt: u8) -> u8 {
    writer * ATTEMPTS + attempt
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RegionState {
    On,
    Off,
    /// Off for at least 3.5 seconds.
    OffLong,
}

/// The region's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region {
    pub state: RegionState,
    pub epoch: u8,
    /// Whether its `run_id` is that of the current Redis process.
    pub knows_redis: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Then {
    Acknowledge,
    TryAgain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Writing {
    /// About to begin.
    Idle,
    /// Its statements have run, and it has a transaction id.
    Open { fenced: bool },
    /// Its fence is up; the commit is next.
    Fenced,
    /// Nobody will hear of the transaction any more: only Postgres decides.
    InDoubt { fenced: bool },
    /// Postgres refused the commit: the writer unhides what it hid.
    Refused,
    /// Not yet released.
    Committed,
    /// Redis did not answer: it turns the region off.
    CutOff(Then),
    /// It waits until the region has been off for long enough.
    Waiting(Then),
    /// It has not answered, and will not: its client knows nothing, and may repeat the request.
    Lost,
    /// Answered for good, or given up.
    Done,
    /// A writer of another region, which raises no fence here. Its transaction is running.
    Elsewhere,
    /// The same: a replica shows its commit already, and the primary does not yet.
    Shown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Writer {
    pub writing: Writing,
    pub attempt: u8,
    /// Its transaction's rank among those running or committed, from 1. 0: none.
    pub xid: u8,
}

impl Writer {
    pub fn is_running(&self) -> bool {
        matches!(
            self.writing,
            Writing::Open { .. }
                | Writing::Fenced
                | Writing::InDoubt { .. }
                | Writing::Elsewhere
                | Writing::Shown
        )
    }

    /// Whether it holds the region's row `for share`.
    pub fn holds_row(&self) -> bool {
        matches!(self.writing, Writing::Open { fenced: false } | Writing::InDoubt { fenced: false })
    }
}

/// A reader at the origin with a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reading {
    Idle,
    /// Its query counts as sent, and its origin found this epoch vouched. Its answer must contain what was known by
    /// then.
    Checked {
        epoch: u8,
        required: Set,
    },
    Leased {
        epoch: u8,
    },
    Loaded {
        epoch: u8,
        read: Snapshot,
    },
}

impl Reading {
    pub fn epoch(&self) -> Option<u8> {
        let mut reading = *self;
        reading.epoch_mut().copied()
    }

    pub fn epoch_mut(&mut self) -> Option<&mut u8> {
        match self {
            Reading::Idle => None,
            Reading::Checked { epoch, .. } | Reading::Leased { epoch } | Reading::Loaded { epoch, .. } => {
                Some(epoch)
            }
        }
    }
}

/// The whole state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    pub redis: Redis,
    pub committed: Set,
    pub region: Region,
    pub writers: [Writer; WRITERS as usize],
    pub readers: [Reading; READERS],
    /// The epoch of a row that a relay read before the region was turned off, and may still vouch by.
    pub relay: Option<u8>,
    /// Epochs that some origin's relay has vouched for, and that this origin gives leases with: bits.
    pub told: u8,
    /// Writes that every read must return from now on.
    pub known: Set,
    /// Redis was restarted, and somebody still trusts epochs up to this one. 0: no.
    pub shaken: u8,
    /// Writers without a fence, whose writes become known only when they are acknowledged or told of: those of another
    /// region, and those whose fences a restart swept away before they committed.
    pub bare: Set,
    /// Calls that may still go unanswered, and restarts that may still come.
    pub faults: u8,
    pub restarts: u8,
    /// The answer of a read that lacks a known write.
    pub missed: Option<Copy>,
}

impl State {
    /// The key is warm and vouched for, and nobody has written yet.
    pub fn initial(faults: u8, restarts: u8) -> State {
        let value = Copy { read: Snapshot::default(), epoch: 1 };
        State {
            redis: Redis { value: Some(value), epoch: 1, vouch: 1, ..Redis::default() },
            committed: Set::default(),
            region: Region { state: RegionState::On, epoch: 1, knows_redis: true },
            writers: [Writer { writing: Writing::Idle, attempt: 0, xid: 0 }; WRITERS as usize],
            readers: [Reading::Idle; READERS],
            relay: None,
            told: 1 << 1,
            known: Set::default(),
            shaken: 0,
            bare: Set::default(),
            faults,
            restarts,
            missed: None,
        }
    }

    /// The result of a query now.
    pub fn snapshot(&self) -> Snapshot {
        let xid = |writer: u8| self.writers[usize::from(writer)].xid;
        let horizon = self.writers.iter().filter(|writer| writer.is_running()).map(|writer| writer.xid).min();
        let below = |writer: &u8| horizon.is_none_or(|horizon| xid(*writer) < horizon);
        let settled = (0..WRITERS).filter(|writer| self.committed.has(*writer)).filter(below);
        Snapshot { has: self.committed, settled: Set(settled.fold(0, |set, writer| set | 1 << writer)) }
    }

    /// Gives a writer's transaction the newest id.
    pub fn assign_xid(&mut self, writer: u8) {
        self.forget_xid(writer);
        let newest = self.writers.iter().map(|writer| writer.xid).max().unwrap_or_default();
        self.writers[usize::from(writer)].xid = newest + 1;
    }

    /// Removes the id of a rolled-back transaction, which affects nobody.
    pub fn forget_xid(&mut self, writer: u8) {
        let old = std::mem::take(&mut self.writers[usize::from(writer)].xid);
        if old > 0 {
            self.writers.iter_mut().filter(|other| other.xid > old).for_each(|other| other.xid -= 1);
        }
    }

    /// Every later read must return these writes: they are acknowledged, or the relay has told of them.
    pub fn make_known(&mut self, writes: Set) {
        self.known = self.known.with(writes);
        self.bare = self.bare.without(writes);
    }

    /// A read is answered from Postgres. Every later read must return the same writes, except those that a restart has
    /// bared.
    pub fn answer_from_postgres(&mut self, protocol: &Protocol) {
        self.see(protocol, self.committed);
    }

    fn see(&mut self, protocol: &Protocol, writes: Set) {
        if protocol.seen_is_known {
            self.known = self.known.with(writes.without(self.bare));
        }
    }

    /// A read is answered from a copy; it must contain the `required` writes.
    pub fn answer_from_copy(&mut self, protocol: &Protocol, copy: Copy, required: Set) {
        if !copy.read.has.contains(required) {
            self.missed = Some(copy);
        }
        self.see(protocol, copy.read.has);
    }

    /// The epochs that an origin may give leases with.
    pub fn told(&self) -> impl Iterator<Item = u8> + use<> {
        let told = self.told;
        (1..u8::BITS as u8).filter(move |epoch| told >> epoch & 1 == 1)
    }

    /// The writes that a read starting now must return.
    pub fn required(&self) -> Set {
        if self.shaken == 0 { self.known } else { Set::default() }
    }
}
