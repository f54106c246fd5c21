//! The quotas table: how much one person may keep at once. (Limits say how often.) A request that would exceed a quota answers
//! 422 `quota-exceeded`, and its `limit` is the quota's name.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    Drafts,
}

#[derive(Clone, Copy, Debug)]
pub struct QuotaRow {
    pub quota: Quota,
    /// As problems name it.
    pub name: &'static str,
    /// In `unit`s, per person.
    pub most: u64,
    pub unit: &'static str,
    /// How much each counts at least, in `unit`s, so that the quota bounds their number too.
    pub least_each: u64,
    pub what: &'static str,
}

/// The table.
pub const QUOTAS: &[QuotaRow] = &[
    // Twenty drafts of the greatest length, or a thousand short ones. Redis holds no more than that of one person.
    QuotaRow {
        quota: Quota::Drafts,
        name: "drafts",
        most: 4 * 1024 * 1024,
        unit: "bytes",
        least_each: 4 * 1024,
        what: "drafts, sealed",
    },
];

impl Quota {
    pub fn row(self) -> &'static QuotaRow {
        &QUOTAS[self as usize]
    }
}

impl QuotaRow {
    /// What something of this size counts.
    pub fn counted(&self, size: u64) -> u64 {
        size.max(self.least_each)
    }

    /// The most that fit in.
    pub fn most_items(&self) -> u64 {
        self.most / self.least_each
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_stands_at_its_quota() {
        for (index, row) in QUOTAS.iter().enumerate() {
            assert_eq!(row.quota as usize, index, "{} stands out of order", row.name);
            assert!(row.most_items() > 0 && row.counted(0) == row.least_each);
        }
    }
}
