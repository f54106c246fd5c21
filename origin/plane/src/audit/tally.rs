//! The subject of a comparison, and its result.

use std::collections::BTreeMap;

use optimist_shared::keys::BoundKey;

/// A key in Redis that is compared with Postgres.
#[derive(Clone, Copy)]
pub struct Suspect<'a> {
    pub key: BoundKey,
    pub name: &'a str,
    /// Whether to repair it if it differs.
    pub repair: bool,
}

/// The result of comparisons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub checked: i64,
    /// Keys that differ and must not.
    pub conflicts: i64,
    /// Keys older than Postgres, as their row allows.
    pub stale: i64,
}

impl Tally {
    pub const SAME: Tally = Tally { checked: 1, conflicts: 0, stale: 0 };
    pub const CONFLICT: Tally = Tally { checked: 1, conflicts: 1, stale: 0 };
    pub const STALE: Tally = Tally { checked: 1, conflicts: 0, stale: 1 };
    /// The key changed meanwhile, or nobody trusts it.
    pub const PASSED_OVER: Tally = Tally { checked: 0, conflicts: 0, stale: 0 };

    pub fn add(&mut self, other: Tally) {
        self.checked += other.checked;
        self.conflicts += other.conflicts;
        self.stale += other.stale;
    }
}

/// The results by data type.
pub type Findings = BTreeMap<&'static str, Tally>;
