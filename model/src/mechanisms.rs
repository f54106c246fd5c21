//! The protocol with one mechanism missing, and the faults that show why each is needed.

use crate::{Protocol, Search, WHOLE};

/// A mechanism that can be left out.
pub struct Mechanism {
    /// Its name on the command line.
    pub name: &'static str,
    pub what: &'static str,
    /// The protocol without it, with the fewest faults that make it matter.
    pub without: Protocol,
}

/// Nothing fails, and Redis stays up. A party may still be killed at any step.
const CALM: Protocol = Protocol { faults: 0, restarts: 0, search: Search::Plain, ..WHOLE };
const ONE_FAULT: Protocol = Protocol { faults: 1, ..CALM };
/// A write's fence may be lost before its commit. Forgetting states is allowed here: it does not rest on the missing
/// rules.
const ONE_RESTART: Protocol = Protocol { restarts: 1, search: Search::Forgetting, ..CALM };

pub const MECHANISMS: &[Mechanism] = &[
    Mechanism {
        name: "fence",
        what: "writers hide the copy, void its lease and block fills before they commit",
        without: Protocol { fences: false, ..CALM },
    },
    Mechanism {
        name: "release",
        what: "writers drop the copy and void every lease before they acknowledge",
        without: Protocol { releases: false, ..ONE_RESTART },
    },
    Mechanism {
        name: "lease",
        what: "only who holds the key's lease fills it",
        without: Protocol { fills_need_their_lease: false, ..CALM },
    },
    Mechanism {
        name: "fenced-lease",
        what: "no lease is given while a fence is up",
        without: Protocol { leases_respect_fences: false, ..CALM },
    },
    Mechanism {
        name: "floor",
        what: "the relay leaves a floor: the transaction that a fill must have seen",
        without: Protocol { floors: false, ..CALM },
    },
    Mechanism {
        name: "floor-without-lease",
        what: "the relay leaves a floor also where nobody holds a lease",
        without: Protocol { floors_need_no_lease: false, ..CALM },
    },
    Mechanism {
        name: "floor-from-replica",
        what: "a fill must have seen what a relay that reads a replica told of, although it began afterwards",
        without: Protocol { leases_mind_replicas: false, ..CALM },
    },
    Mechanism {
        name: "hidden-lapse",
        what: "what is hidden lapses no later than the first fence over it",
        without: Protocol { hidden_copies_lapse: false, ..CALM },
    },
    Mechanism {
        name: "vouching",
        what: "a copy is trusted only while the relay vouches for Redis",
        without: Protocol { copies_are_vouched_for: false, copies_carry_epochs: false, ..ONE_FAULT },
    },
    Mechanism {
        name: "epoch",
        what: "a copy is trusted only in the epoch that its lease was given in",
        without: Protocol { copies_carry_epochs: false, ..ONE_FAULT },
    },
    Mechanism {
        name: "late-vouching",
        what: "a vouching that comes too long after its row was read is refused",
        without: Protocol { late_vouching_is_refused: false, ..ONE_FAULT },
    },
    Mechanism {
        name: "off-wait",
        what: "nobody writes unfenced, or acknowledges unreleased, before the region was off for 3.5 seconds",
        without: Protocol { off_is_waited_for: false, ..ONE_FAULT },
    },
    Mechanism {
        name: "fence-time",
        what: "a fence stands for longer than a commit can take",
        without: Protocol { fences_outlive_commits: false, ..CALM },
    },
];

/// Finds a mechanism by `<name>` or `without-<name>`.
pub fn by_name(name: &str) -> Option<&'static Mechanism> {
    let name = name.strip_prefix("without-").unwrap_or(name);
    MECHANISMS.iter().find(|mechanism| mechanism.name == name)
}
