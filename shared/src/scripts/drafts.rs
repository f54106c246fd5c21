//! `autosave.lua`, `restore.lua`, `flushed.lua`, `drop_flushed.lua` and `count_drafts.lua`: drafts in Redis, sealed before they
//! get here, and their sizes.

use std::borrow::Cow;

use super::script::{Script, script};
use super::{Call, Scalars};
use crate::ids::{Partition, Uuid};
use crate::keys::Key;
use crate::quotas::Quota;

pub static AUTOSAVE: Script = script!("autosave": "writes_core.lua", "drafts_core.lua", "autosave.lua");
pub static RESTORE: Script = script!("restore": "writes_core.lua", "drafts_core.lua", "restore.lua");
pub static FLUSHED: Script = script!("flushed": "flushed.lua");
pub static DROP_FLUSHED: Script = script!("drop_flushed": "drop_flushed.lua");
pub static COUNT_DRAFTS: Script = script!("count_drafts": "writes_core.lua", "count_drafts.lua");

/// A draft and its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draft {
    pub user: Uuid,
    pub draft: Uuid,
}

/// A version of a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub version: String,
    pub sealed: Vec<u8>,
    pub saved_at_ms: i64,
    pub sibling_of: Option<Uuid>,
}

/// The outcome of a save.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    Yes,
    /// Redis has another version.
    Conflict(String),
    /// Redis does not have the draft, or has it of another epoch.
    Absent,
    /// The sizes of the person's drafts are to be counted first.
    Uncounted,
    /// The person's drafts would have too many bytes.
    Full,
    /// Nobody vouches.
    Closed,
}

/// A draft's row in Postgres.
#[derive(Clone, Debug)]
pub enum Row<'a> {
    None,
    Gone {
        version: &'a str,
    },
    There {
        version: &'a Version,
        /// The newest version that the row builds on and Postgres may never have seen.
        overtook: &'a str,
    },
}

/// The outcome of reconciling a draft with its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Together {
    /// Redis has it, and can be trusted.
    There,
    None,
    Gone,
    /// Each has text that the other lacks: Redis's version must be kept elsewhere.
    Fork(Version),
    /// Nobody vouches, or not for this epoch.
    Closed,
}

impl Draft {
    /// Saves a version if it is based on the one in Redis; without a base, creates the draft. `most` are the bytes that all of
    /// the person's drafts may have, if they can be counted.
    pub fn save<'a>(self, base: Option<&'a str>, version: &'a Version, most: Option<u64>) -> Call<'a> {
        let size = Quota::Drafts.row().counted(version.sealed.len() as u64);
        Call::new(&AUTOSAVE)
            .keys(self.keys())
            .text(base.unwrap_or_default())
            .text(version.version.as_str())
            .bytes(Cow::Borrowed(&version.sealed))
            .text(version.saved_at_ms.to_string())
            .optional(version.sibling_of)
            .text(self.member())
            .text(self.draft.to_string())
            .number(size)
            .optional(most)
    }

    /// Reconciles the draft with its row. `kept_elsewhere` is the version that is a sibling now and may be dropped; or empty.
    pub fn restore<'a>(self, epoch: u64, row: &Row<'a>, kept_elsewhere: &'a str) -> Call<'a> {
        let call = Call::new(&RESTORE).keys(self.keys()).hex(epoch);
        let call = match row {
            Row::None => call.text("none").text("").text("").text("").text("").text(""),
            Row::Gone { version } => call.text("gone").text(*version).text("").text("").text("").text(""),
            Row::There { version, overtook } => call
                .text("row")
                .text(version.version.as_str())
                .bytes(Cow::Owned(version.sealed.clone()))
                .text(version.saved_at_ms.to_string())
                .optional(version.sibling_of)
                .text(*overtook),
        };
        let call = call.text(self.member()).number(flushed_ms()).text(kept_elsewhere);
        call.text(self.draft.to_string())
    }

    /// Notes that a version is in Postgres; empty if the draft exists nowhere.
    pub fn flushed(self, version: &str) -> Call<'_> {
        let [_, draft, dirty, _] = self.keys();
        Call::new(&FLUSHED).keys([draft, dirty]).text(version).text(self.member()).number(flushed_ms())
    }

    /// Drops a draft that is in Postgres if it still has this version.
    pub fn drop_flushed(self, version: &str) -> Call<'_> {
        Call::new(&DROP_FLUSHED).keys([Key::draft(self.user, self.draft).name()]).text(version)
    }

    /// The draft's member in the set of unflushed drafts.
    pub fn member(self) -> String {
        format!("{}:{}", self.user, self.draft)
    }

    fn keys(self) -> [String; 4] {
        let partition = Partition::of(self.user);
        [
            Key::Vouch.of_partition(partition),
            Key::draft(self.user, self.draft).name(),
            Key::DirtyDrafts.of_partition(partition),
            Key::draft_sizes(self.user).name(),
        ]
    }
}

/// Notes the sizes of a person's drafts: what each counts of the quota.
pub fn count(user: Uuid, epoch: u64, sizes: &[(Uuid, u64)]) -> Call<'static> {
    let lives_ms = u64::from(Key::DraftSizes.row().kept_seconds().unwrap_or_default()) * 1000;
    let call = Call::new(&COUNT_DRAFTS)
        .keys([Key::Vouch.of_partition(Partition::of(user)), Key::draft_sizes(user).name()])
        .hex(epoch)
        .number(lives_ms)
        .number(sizes.iter().map(|(_, size)| size).sum());
    sizes.iter().fold(call, |call, (draft, size)| call.text(draft.to_string()).number(*size))
}

pub fn read_saved(reply: &mut impl Scalars) -> Saved {
    match reply.text().as_str() {
        "saved" => Saved::Yes,
        "conflict" => Saved::Conflict(reply.text()),
        "absent" => Saved::Absent,
        "uncounted" => Saved::Uncounted,
        "full" => Saved::Full,
        _ => Saved::Closed,
    }
}

pub fn read_together(reply: &mut impl Scalars) -> Together {
    match reply.text().as_str() {
        "restored" | "kept" => Together::There,
        "none" => Together::None,
        "gone" => Together::Gone,
        "fork" => Together::Fork(Version {
            version: reply.text(),
            sealed: reply.bytes(),
            saved_at_ms: reply.int(),
            sibling_of: None,
        }),
        _ => Together::Closed,
    }
}

/// Whether nothing newer waits, after [`Draft::flushed`].
pub fn is_settled(reply: &mut impl Scalars) -> bool {
    reply.int() == 1
}

/// Milliseconds that a flushed draft stays in Redis.
fn flushed_ms() -> u64 {
    u64::from(Key::Draft.row().fresh_seconds().unwrap_or_default()) * 1000
}
