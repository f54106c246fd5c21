//! What the protocol's parties know, and nothing of how they act on it.
//!
//! Every type is small and plain, since millions of them are kept; sets of writers and of tokens are bits.

use crate::Protocol;

/// Writers, each with one write to make, by number.
pub const WRITERS: u8 = 2;
/// Those who come to the origin with a miss: two readers, and the refill of a key that was warm.
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

/// What a query read: the writes that its snapshot saw. A value is no more than that here.
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
    /// The newest transaction that the relay told of since: its writer.
    pub noted: Option<u8>,
}

/// One key of Redis's with its companions, and its partition's vouching.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Redis {
    pub value: Option<Copy>,
    pub hidden: Option<Copy>,
    /// Tokens of the fences that are up, see [`token`].
    pub fences: u8,
    pub lease: Option<Lease>,
    /// The highest epoch that was vouched for. 0: none.
    pub epoch: u8,
    /// The epoch that is vouched for. 0: none.
    pub vouch: u8,
}

/// The number of a writer's attempt, among all.
pub fn token(writer: u8, attempt: u8) -> u8 {
    writer * ATTEMPTS + attempt
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RegionState {
    On,
    Off,
    /// Off for 3.5 seconds at least.
    OffLong,
}

/// The region's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region {
    pub state: RegionState,
    pub epoch: u8,
    /// Whether its `run_id` is that of the Redis there is.
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
    /// Nobody hears of the transaction any more: Postgres alone decides.
    InDoubt { fenced: bool },
    /// Postgres refused the commit: it unhides what it hid.
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Writer {
    pub writing: Writing,
    pub attempt: u8,
    /// Its transaction's place among those that run or have committed, from 1. 0: it has none.
    pub xid: u8,
}

impl Writer {
    pub fn is_running(&self) -> bool {
        matches!(self.writing, Writing::Open { .. } | Writing::Fenced | Writing::InDoubt { .. })
    }

    /// Whether it holds the region's row `for share`.
    pub fn holds_row(&self) -> bool {
        matches!(self.writing, Writing::Open { fenced: false } | Writing::InDoubt { fenced: false })
    }
}

/// Someone at the origin with a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reading {
    Idle,
    /// Its query counts as sent, and its origin found this epoch vouched. It must be shown what was known by then.
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

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    pub redis: Redis,
    pub committed: Set,
    pub region: Region,
    pub writers: [Writer; WRITERS as usize],
    pub readers: [Reading; READERS],
    /// The epoch of a row that some relay read before the region was turned off, and may still vouch by.
    pub relay: Option<u8>,
    /// Epochs that some origin's relay has vouched for, and that this origin gives leases with: bits.
    pub told: u8,
    /// Writes that everyone must see from now on.
    pub known: Set,
    /// Redis was restarted, and epochs up to this one are still believed by somebody. 0: no.
    pub shaken: u8,
    /// Writers whose fences a restart has swept away before they committed.
    pub bare: Set,
    /// Calls that may still go unanswered, and restarts that may still come.
    pub faults: u8,
    pub restarts: u8,
    /// A read returned this, which lacks something known.
    pub missed: Option<Copy>,
}

impl State {
    /// The key is warm, vouched for, and nobody has written yet.
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

    /// What a query reads now.
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

    /// A transaction that was rolled back is of no consequence to anyone.
    pub fn forget_xid(&mut self, writer: u8) {
        let old = std::mem::take(&mut self.writers[usize::from(writer)].xid);
        if old > 0 {
            self.writers.iter_mut().filter(|other| other.xid > old).for_each(|other| other.xid -= 1);
        }
    }

    /// All who ask from now on must be shown these writes: they are acknowledged, or the relay has told of them.
    pub fn make_known(&mut self, writes: Set) {
        self.known = self.known.with(writes);
        self.bare = self.bare.without(writes);
    }

    /// Someone is answered from Postgres. What has been seen must be shown to all who ask from now on, but for what a
    /// restart has bared.
    pub fn answer_from_postgres(&mut self, protocol: &Protocol) {
        self.see(protocol, self.committed);
    }

    fn see(&mut self, protocol: &Protocol, writes: Set) {
        if protocol.seen_is_known {
            self.known = self.known.with(writes.without(self.bare));
        }
    }

    /// Someone is answered from a copy, who must be shown what is `required`.
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

    /// What must be shown to those who ask now.
    pub fn required(&self) -> Set {
        if self.shaken == 0 { self.known } else { Set::default() }
    }
}
