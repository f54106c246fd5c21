//! What is compared, and what comparing came to.

use std::collections::BTreeMap;

use optimist_shared::keys::{Key, Parameters};

/// A key of Redis's that is compared with Postgres.
#[derive(Clone, Copy)]
pub struct Suspect<'a> {
    pub key: Key,
    pub parameters: Parameters,
    pub name: &'a str,
    /// Whether it is repaired if it differs.
    pub repair: bool,
}

/// What comparing came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub checked: i64,
    /// Differed where it must not have.
    pub conflicts: i64,
    /// Older than Postgres, as the key's row allows.
    pub stale: i64,
}

impl Tally {
    pub const SAME: Tally = Tally { checked: 1, conflicts: 0, stale: 0 };
    pub const CONFLICT: Tally = Tally { checked: 1, conflicts: 1, stale: 0 };
    pub const STALE: Tally = Tally { checked: 1, conflicts: 0, stale: 1 };
    /// It changed, or is not believed by anyone anyway.
    pub const PASSED_OVER: Tally = Tally { checked: 0, conflicts: 0, stale: 0 };

    pub fn add(&mut self, other: Tally) {
        self.checked += other.checked;
        self.conflicts += other.conflicts;
        self.stale += other.stale;
    }
}

/// By data type.
pub type Findings = BTreeMap<&'static str, Tally>;
