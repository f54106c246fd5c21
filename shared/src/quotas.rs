//! The quotas table: how much one person, or one circle, may keep at once. (Limits say how often.) A request that would exceed a quota answers
//! 422 `quota-exceeded`, and its `limit` is the quota's name.

use crate::blocks::BLOCKED;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    Drafts,
    MessageDrafts,
    Circles,
    Invites,
    Bans,
    JoinRequests,
    PushTokens,
    Favorites,
    Blocks,
    Mutes,
    Reports,
}

#[derive(Clone, Copy, Debug)]
pub struct QuotaRow {
    pub quota: Quota,
    /// As problems name it.
    pub name: &'static str,
    /// Who keeps it: a person, or a circle.
    pub keeper: &'static str,
    /// In `unit`s, per keeper.
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
        keeper: "a person",
        most: 4 * 1024 * 1024,
        unit: "bytes",
        least_each: 4 * 1024,
        what: "drafts, sealed",
    },
    // A hundred drafts of 8,000 letters of Latin script, or twenty-five of the greatest length.
    QuotaRow {
        quota: Quota::MessageDrafts,
        name: "message-drafts",
        keeper: "a person",
        most: 100 * 8 * 1024,
        unit: "bytes",
        least_each: 8 * 1024,
        what: "messages that are being composed",
    },
    // What a rename must reach, and what lists of one's own circles go through.
    count(Quota::Circles, "circles", "a person", 500, "circles that one is in"),
    // More than a week of an eager moderator.
    count(Quota::Invites, "invites", "a circle", 200, "invitations that can be used"),
    count(Quota::Bans, "bans", "a circle", 5_000, "people who are banned"),
    // A week's, of a circle that many want to join.
    count(Quota::JoinRequests, "join-requests", "a circle", 1_000, "people who ask to join"),
    // Each notification goes to all of them.
    count(Quota::PushTokens, "push-tokens", "a person", 20, "devices and webhooks"),
    // More than a year of an eager reader; a page looks at a hundred.
    count(Quota::Favorites, "favorites", "a person", 5_000, "messages that one keeps at hand"),
    // The edge goes through all of them for each answer that names people.
    count(Quota::Blocks, "blocks", "a person", BLOCKED as u64, "people whom one has blocked"),
    count(Quota::Mutes, "mutes", "a person", BLOCKED as u64, "people whom one has muted"),
    // Eleven a day, for as long as decisions are kept.
    count(Quota::Reports, "reports", "a person", 1_000, "messages that one has reported"),
];

/// Things that are counted, and not measured.
const fn count(
    quota: Quota,
    name: &'static str,
    keeper: &'static str,
    most: u64,
    what: &'static str,
) -> QuotaRow {
    QuotaRow { quota, name, keeper, most, unit: "", least_each: 1, what }
}

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
