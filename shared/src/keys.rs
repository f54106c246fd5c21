//! The keys table: every key that Optimist writes to Redis, but for the limits' (see [`crate::limits`]). What a key holds is
//! its reader's and its writer's business.
//!
//! Templates are literal but for parameters in angle brackets; braces are Redis Cluster hash tags. `<p:circle>` is the
//! partition of the circle, `<p>` a partition of no entity. Any cached key `K` has companions in its slot: `hidden:K`,
//! `fence:K` and `lease:K`.

mod bound;

pub use crate::compat::Parameters; // compat: origin
pub use bound::BoundKey;

use crate::ids::{Id, Partition};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    Session,
    Membership,
    Me,
    Profile,
    Circle,
    CircleAccess,
    CircleMembers,
    CircleMessages,
    Message,
    Reactions,
    Counts,
    CountsPage,
    Draft,
    DirtyDrafts,
    JournalKey,
    RecentTags,
    Streak,
    Prompts,
    Discovery,
    Vouch,
    Epoch,
    Touched,
    Metrics,
    Events,
    Cursor,
    Writes,
    Ledger,
}

/// How old a value may be that is served from a vouched Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Never older than the last acknowledged write: writers fence it.
    Fenced,
    /// As old as its TTL.
    Ttl,
    /// Newer than Postgres: what is written behind is here first. Writers fence it too.
    Live,
    /// Not a copy of anything in Postgres.
    Own,
}

/// How long a key lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Seconds fresh, then seconds kept for outages.
    Seconds { fresh: u32, grace: u32 },
    /// For ever, because of this.
    Kept { because: &'static str },
    /// Until what it holds is in Postgres, and then so many seconds.
    Unflushed { then: u32 },
}

#[derive(Clone, Copy, Debug)]
pub struct KeyRow {
    pub key: Key,
    pub template: &'static str,
    /// The data type, as metrics name it.
    pub data_type: &'static str,
    pub life: Life,
    pub freshness: Freshness,
    /// The key to read when this one is to be refilled: it holds what is joined to this one's value, and reading it reads
    /// both.
    pub refilled_with: Option<Key>,
}

const MINUTE: u32 = 60;
const HOUR: u32 = 60 * MINUTE;
const DAY: u32 = 24 * HOUR;

/// How long expired copies are kept for the day on which Postgres is away.
const GRACE: u32 = DAY;

const fn seconds(fresh: u32, grace: u32) -> Life {
    Life::Seconds { fresh, grace }
}

const fn row(
    key: Key,
    template: &'static str,
    data_type: &'static str,
    life: Life,
    freshness: Freshness,
) -> KeyRow {
    KeyRow { key, template, data_type, life, freshness, refilled_with: None }
}

const fn joined(joined: Key, row: KeyRow) -> KeyRow {
    KeyRow { refilled_with: Some(joined), ..row }
}

use Freshness::*;

/// The table. TTLs are the guidelines' where they give one (sessions, messages, discovery); the definition of a circle,
/// profiles, members and memberships change rarely and are fenced, so half an hour bounds memory, not staleness.
#[rustfmt::skip] // One line a row.
pub const KEYS: &[KeyRow] = &[
    // Ten seconds beyond its idleness: see `admit.lua`.
    row(Key::Session, "session:{<user>}:<session>", "session", seconds(30 * MINUTE + 10, 0), Fenced),
    row(Key::Membership, "membership:{<user>}:<circle>", "membership", seconds(30 * MINUTE, GRACE), Fenced),
    row(Key::Me, "me:{<p:user>}:<user>", "me", seconds(30 * MINUTE, GRACE), Fenced),
    row(Key::Profile, "profile:{<p:user>}:<user>", "profile", seconds(30 * MINUTE, GRACE), Fenced),
    row(Key::Circle, "circle:{<p:circle>}:<circle>", "circle", seconds(30 * MINUTE, GRACE), Fenced),
    row(Key::CircleAccess, "circle:{<p:circle>}:<circle>:access", "circle_access", seconds(30 * MINUTE, GRACE), Fenced),
    row(Key::CircleMembers, "circle:{<p:circle>}:<circle>:members", "members", seconds(30 * MINUTE, GRACE), Fenced),
    joined(Key::Counts, row(Key::CircleMessages, "circle:{<p:circle>}:<circle>:messages", "messages", seconds(30 * MINUTE, GRACE), Fenced)),
    joined(Key::Reactions, row(Key::Message, "circle:{<p:circle>}:<circle>:message:<message>", "message", seconds(30 * MINUTE, GRACE), Fenced)),
    // Together again from Postgres and the unflushed writes whenever they are missing: a day bounds memory.
    row(Key::Reactions, "circle:{<p:circle>}:<circle>:message:<message>:reactions", "reactions", seconds(DAY, 0), Live),
    row(Key::Counts, "circle:{<p:circle>}:<circle>:counts", "counts", seconds(DAY, 0), Live),
    // What the first page of a circle's messages takes of them, as the script `counts` found it: as long as they live.
    row(Key::CountsPage, "circle:{<p:circle>}:<circle>:counts:page", "counts_page", seconds(DAY, 0), Live),
    // The guidelines' hour, from the flush; until then a draft is kept.
    row(Key::Draft, "draft:{<p:user>}:<user>:<draft>", "draft", Life::Unflushed { then: HOUR }, Live),
    row(Key::DirtyDrafts, "drafts:{<p>}", "drafts", Life::Kept { because: "it names what is not flushed; a flush empties it" }, Own),
    // Wrapped, and never changing but for its wrapping: a day spares Postgres, and outlives an outage.
    row(Key::JournalKey, "journal_key:{<user>}", "journal_key", seconds(DAY, 0), Own),
    row(Key::RecentTags, "tags:{<user>}:recent", "tags", seconds(DAY, 0), Fenced),
    row(Key::Streak, "streak:{<user>}", "streak", seconds(DAY, 0), Fenced),
    // They change with a release.
    row(Key::Prompts, "prompts:{<p>}", "prompts", seconds(HOUR, GRACE), Ttl),
    row(Key::Discovery, "discovery:{<p>}:circles", "discovery", seconds(15 * MINUTE, GRACE), Ttl),
    // Three missed beats of the relay, and Redis is not believed.
    row(Key::Vouch, "vouch:{<p>}", "vouch", seconds(3, 0), Own),
    row(
        Key::Epoch,
        "epoch:{<p>}",
        "epoch",
        Life::Kept {
            because: "a relay that lags must be refused however late it comes; one small key a partition",
        },
        Own,
    ),
    // Sessions to write back; a job empties it every minute, so an hour outlives any outage worth bridging.
    row(Key::Touched, "touched:{<p>}", "touched", seconds(HOUR, 0), Own),
    // Counters of hits and misses, read by the origin's metrics.
    row(Key::Metrics, "metrics:{<p>}", "metrics", seconds(7 * DAY, 0), Own),
    // What happened, for subscribers, and how far the relay has appended: both are kept alive while a relay runs.
    row(Key::Events, "events:{<p>}", "events", seconds(2 * DAY, 0), Own),
    row(Key::Cursor, "cursor:{<p>}", "cursor", seconds(2 * DAY, 0), Own),
    // What is acknowledged and not yet in Postgres, and how far it is.
    row(Key::Writes, "writes:{<p>}", "writes", Life::Kept { because: "nothing acknowledged expires; its length is bounded" }, Own),
    row(Key::Ledger, "ledger:{<p>}", "ledger", Life::Kept { because: "it must outlive the stream that it is about; one small key a partition" }, Own),
];

impl Key {
    pub fn row(self) -> &'static KeyRow {
        &KEYS[self as usize]
    }

    /// What to read to refill this key: itself, or what is joined to it.
    pub fn refilled_as(self) -> Key {
        self.row().refilled_with.unwrap_or(self)
    }

    /// The name of a partition's own key: its vouching, its epoch, its stream.
    pub fn of_partition(self, partition: Partition) -> String {
        self.row().template.replace("<p>", &partition.to_string())
    }
}

impl Freshness {
    /// As documents name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Freshness::Fenced => "fenced",
            Freshness::Ttl => "as old as its TTL",
            Freshness::Live => "ahead of Postgres",
            Freshness::Own => "not a copy",
        }
    }
}

impl KeyRow {
    /// Seconds until a copy stops being served while Postgres can be asked; `None` for keys without a life span.
    pub fn fresh_seconds(&self) -> Option<u32> {
        match self.life {
            Life::Seconds { fresh, .. } | Life::Unflushed { then: fresh } => Some(fresh),
            Life::Kept { .. } => None,
        }
    }

    /// Seconds that Redis keeps the key: fresh and grace together.
    pub fn kept_seconds(&self) -> Option<u32> {
        match self.life {
            Life::Seconds { fresh, grace } => Some(fresh + grace),
            Life::Unflushed { then } => Some(then),
            Life::Kept { .. } => None,
        }
    }

    /// The ids that the template names: what a route or a constructor must provide.
    pub fn ids(&self) -> impl Iterator<Item = Id> {
        let parameters = self.template.split('<').skip(1).filter_map(|part| part.split('>').next());
        parameters.filter_map(|name| Id::parse(name.strip_prefix("p:").unwrap_or(name)))
    }

    /// What decides on the key's slot: the parameter in the template's braces.
    fn tag(&self) -> Option<Id> {
        let (_, tag) = self.template.split_once("{<")?;
        let (name, _) = tag.split_once(">}")?;
        Id::parse(name.strip_prefix("p:").unwrap_or(name))
    }
}

/// Where a fence keeps the value that it hides.
pub fn hidden(key: &str) -> String {
    format!("hidden:{key}")
}

/// The fences that are up on a key.
pub fn fence(key: &str) -> String {
    format!("fence:{key}")
}

/// Who may fill a key.
pub fn lease(key: &str) -> String {
    format!("lease:{key}")
}

/// The keys beside a cached key, in its slot.
#[derive(Clone, Debug)]
pub struct Companions {
    pub hidden: String,
    pub fence: String,
    pub lease: String,
}

impl Companions {
    pub fn of(name: &str) -> Companions {
        Companions { hidden: hidden(name), fence: fence(name), lease: lease(name) }
    }
}

#[cfg(test)]
mod tests;
