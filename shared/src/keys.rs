//! The keys table: every key that Optimist writes to Redis, except those of limits (see [`crate::limits`]). The readers and
//! writers of a key define its value.
//!
//! Templates are literal except for parameters in angle brackets; braces are Redis Cluster hash tags. `<p:circle>` is the
//! circle's partition, `<p>` a partition of no entity. Every cached key `K` has companions in its slot: `hidden:K`,
//! `fence:K` and `lease:K`.

mod bound;

pub use bound::BoundKey;

use crate::ids::{Id, Partition};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    Session,
    Tickets,
    Membership,
    Blocked,
    MyCircles,
    Me,
    Profile,
    PersonalPreferences,
    Preferences,
    PushTokens,
    Circle,
    CircleAccess,
    CircleMembers,
    CircleMessages,
    CircleHead,
    Message,
    Comments,
    Reactions,
    Counts,
    CountsPage,
    Draft,
    DirtyDrafts,
    DraftSizes,
    JournalKey,
    RecentTags,
    Streak,
    Prompts,
    Categories,
    Discovery,
    Vouch,
    Epoch,
    Touched,
    Metrics,
    Events,
    Cursor,
    Settled,
    Wake,
    Writes,
    Ledger,
    Outgoing,
    Typing,
    Presence,
    PresenceDue,
    Online,
    MessageDraft,
    MessageDrafts,
    Recent,
    ReadMarker,
    ReadAhead,
    JoinRequests,
    JoinTexts,
    CircleActivity,
    CircleStats,
    Popular,
}

/// How old a value served from a vouched Redis may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Never older than the last acknowledged write: writers fence it.
    Fenced,
    /// At most as old as its TTL.
    Ttl,
    /// Ahead of Postgres: Redis takes its writes first, as entries. Writers fence it too.
    Live,
    /// Not a copy of anything in Postgres.
    Own,
}

/// How long a key lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Seconds fresh, then seconds kept for outages.
    Seconds { fresh: u32, grace: u32 },
    /// Forever, for this reason.
    Kept { because: &'static str },
    /// Until its value is in Postgres, then for this many seconds.
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
    /// The key to read in order to refill this one: it holds the overlay of this key's value, and reading it reads both.
    pub refilled_with: Option<Key>,
    /// Whether a writer that found the key warm refills it.
    pub is_refilled: bool,
}

const MINUTE: u32 = 60;
const HOUR: u32 = 60 * MINUTE;
const DAY: u32 = 24 * HOUR;

/// How long expired copies are kept, for the day on which Postgres is down.
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
    KeyRow { key, template, data_type, life, freshness, refilled_with: None, is_refilled: true }
}

const fn joined(joined: Key, row: KeyRow) -> KeyRow {
    KeyRow { refilled_with: Some(joined), ..row }
}

use Freshness::*;

/// The table. TTLs follow the guidelines where those give one (sessions, messages, discovery). Circle definitions, profiles,
/// members and memberships change rarely and are fenced: their half hour bounds memory, not staleness.
#[rustfmt::skip] // One line a row.
pub const KEYS: &[KeyRow] = &[
    // Ten seconds longer than the idle limit: see `admit.lua`.
    // Installed on use, not by writers: its next request may never come.
    KeyRow { is_refilled: false, ..row(Key::Session, "session:{<user>}:<session>", "session", seconds(30 * MINUTE + 10, 0), Fenced) },
    // The tickets for the gateway that were used: each is good for half a minute.
    row(Key::Tickets, "tickets:{<user>}:<session>", "tickets", seconds(MINUTE, 0), Own),
    row(Key::Membership, "membership:{<user>}:<circle>", "membership", seconds(30 * MINUTE, GRACE), Fenced),
    // Whom a person has blocked: read with each answer that names people, in the slot in which its reader is admitted.
    row(Key::Blocked, "blocked:{<user>}", "blocked", seconds(30 * MINUTE, GRACE), Fenced),
    row(Key::MyCircles, "my_circles:{<p:user>}:<user>", "my_circles", seconds(30 * MINUTE, GRACE), Fenced),
    row(Key::Me, "me:{<p:user>}:<user>", "me", seconds(30 * MINUTE, GRACE), Fenced),
    row(Key::Profile, "profile:{<p:user>}:<user>", "profile", seconds(30 * MINUTE, GRACE), Fenced),
    row(Key::PersonalPreferences, "personal_preferences:{<p:user>}:<user>", "personal_preferences", seconds(30 * MINUTE, GRACE), Fenced),
    row(Key::Preferences, "preferences:{<p:user>}:<user>", "preferences", seconds(30 * MINUTE, GRACE), Fenced),
    row(Key::PushTokens, "push_tokens:{<p:user>}:<user>", "push_tokens", seconds(30 * MINUTE, GRACE), Fenced),
    row(Key::Circle, "circle:{<p:circle>}:<circle>", "circle", seconds(30 * MINUTE, GRACE), Fenced),
    row(Key::CircleAccess, "circle:{<p:circle>}:<circle>:access", "circle_access", seconds(30 * MINUTE, GRACE), Fenced),
    row(Key::CircleMembers, "circle:{<p:circle>}:<circle>:members", "members", seconds(30 * MINUTE, GRACE), Fenced),
    joined(Key::Counts, row(Key::CircleMessages, "circle:{<p:circle>}:<circle>:messages", "messages", seconds(30 * MINUTE, GRACE), Fenced)),
    // Each message drops it. The next reader fills it: a writer would for nobody.
    KeyRow { is_refilled: false, ..row(Key::CircleHead, "circle:{<p:circle>}:<circle>:head", "head", seconds(30 * MINUTE, GRACE), Fenced) },
    joined(Key::Reactions, row(Key::Message, "circle:{<p:circle>}:<circle>:message:<message>", "message", seconds(30 * MINUTE, GRACE), Fenced)),
    row(Key::Comments, "circle:{<p:circle>}:<circle>:message:<message>:comments", "comments", seconds(30 * MINUTE, GRACE), Fenced),
    // Rebuilt from Postgres and the unflushed entries whenever they are missing: a day bounds memory.
    row(Key::Reactions, "circle:{<p:circle>}:<circle>:message:<message>:reactions", "reactions", seconds(DAY, 0), Live),
    row(Key::Counts, "circle:{<p:circle>}:<circle>:counts", "counts", seconds(DAY, 0), Live),
    // The counts of a circle's first page of messages, as the script `counts` found them. It lives as long as they do.
    row(Key::CountsPage, "circle:{<p:circle>}:<circle>:counts:page", "counts_page", seconds(DAY, 0), Live),
    // The guidelines' hour, counted from the flush; an unflushed draft does not expire.
    row(Key::Draft, "draft:{<p:user>}:<user>:<draft>", "draft", Life::Unflushed { then: HOUR }, Live),
    row(Key::DirtyDrafts, "drafts:{<p>}", "drafts", Life::Kept { because: "it names what is not flushed; a flush empties it" }, Own),
    // Counted anew each hour: what a race or an outage has miscounted does not stay.
    row(Key::DraftSizes, "draft_sizes:{<p:user>}:<user>", "draft_sizes", seconds(HOUR, 0), Own),
    // A wrapped key, of which only the wrapping ever changes: a day spares Postgres, and outlives an outage.
    row(Key::JournalKey, "journal_key:{<user>}", "journal_key", seconds(DAY, 0), Own),
    row(Key::RecentTags, "tags:{<user>}:recent", "tags", seconds(DAY, 0), Fenced),
    row(Key::Streak, "streak:{<user>}", "streak", seconds(DAY, 0), Fenced),
    // Prompts change only with a new version of Optimist.
    row(Key::Prompts, "prompts:{<p>}", "prompts", seconds(HOUR, GRACE), Ttl),
    // Neither do categories.
    row(Key::Categories, "categories:{<p>}", "categories", seconds(HOUR, GRACE), Ttl),
    row(Key::Discovery, "discovery:{<p>}:circles", "discovery", seconds(15 * MINUTE, GRACE), Ttl),
    // Redis is not trusted after the relay has missed three beats.
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
    // Events for subscribers, and how far the relay has appended them. A running relay keeps both alive.
    row(Key::Events, "events:{<p>}", "events", seconds(2 * DAY, 0), Own),
    row(Key::Cursor, "cursor:{<p>}", "cursor", seconds(2 * DAY, 0), Own),
    // Up to where all streams hold the region's events; of one partition only.
    row(Key::Settled, "settled:{<p>}", "settled", seconds(2 * DAY, 0), Own),
    row(Key::Wake, "wake:{<p>}", "wake", Life::Kept { because: "it is the name of a shard channel, and holds no value" }, Own),
    // Acknowledged entries that are not yet in Postgres, and how far they are flushed.
    row(Key::Writes, "writes:{<p>}", "writes", Life::Kept { because: "nothing acknowledged expires; its length is bounded" }, Own),
    row(Key::Ledger, "ledger:{<p>}", "ledger", Life::Kept { because: "it must outlive the stream that it is about; one small key a partition" }, Own),
    // Deliveries for the senders of a channel: rows in Postgres, from which a list that is lost is made anew.
    row(Key::Outgoing, "outgoing:{<p>}", "outgoing", seconds(DAY, 0), Own),
    // As long as the last one types.
    row(Key::Typing, "circle:{<p:circle>}:<circle>:typing", "typing", seconds(30, 0), Own),
    // The states of a person's devices. Each ends with its lease, which is shorter.
    row(Key::Presence, "presence:{<p:user>}:<user>", "presence", seconds(HOUR, 0), Own),
    // Who is due to be shown, or no longer shown, to their circles. Whoever is present keeps it alive.
    row(Key::PresenceDue, "present:{<p>}", "presence_due", seconds(DAY, 0), Own),
    // Those who are shown, each for twice the time after which they are shown anew.
    row(Key::Online, "circle:{<p:circle>}:<circle>:online", "online", seconds(10 * MINUTE, 0), Own),
    // A message that is being composed, and the sizes of all of its author's.
    row(Key::MessageDraft, "message_draft:{<p:user>}:<user>:<circle>", "message_draft", seconds(HOUR, 0), Own),
    row(Key::MessageDrafts, "message_drafts:{<p:user>}:<user>", "message_drafts", seconds(HOUR, 0), Own),
    // What a person has looked at. Each is forgotten after a day, the newest too.
    row(Key::Recent, "recent:{<p:user>}:<user>", "recent", seconds(DAY, 0), Own),
    // Up to where a member has read. An entry takes it ahead of Postgres for longer than any copy from before its flush lives.
    KeyRow { is_refilled: false, ..row(Key::ReadMarker, "circle:{<p:circle>}:<circle>:read:<user>", "read_marker", seconds(30 * MINUTE, GRACE), Fenced) },
    row(Key::ReadAhead, "circle:{<p:circle>}:<circle>:read_ahead:<user>", "read_ahead", seconds(2 * DAY, 0), Own),
    // Who asks to join, and what they wrote. Each request is forgotten after a week, the newest too.
    row(Key::JoinRequests, "circle:{<p:circle>}:<circle>:join_requests", "join_requests", seconds(7 * DAY, 0), Own),
    row(Key::JoinTexts, "circle:{<p:circle>}:<circle>:join_texts", "join_texts", seconds(7 * DAY, 0), Own),
    // The guidelines' hour.
    row(Key::CircleActivity, "circle:{<p:circle>}:<circle>:activity", "activity", seconds(HOUR, GRACE), Ttl),
    // Sums of days, which a reader does not watch.
    row(Key::CircleStats, "circle:{<p:circle>}:<circle>:stats", "circle_stats", seconds(5 * MINUTE, GRACE), Ttl),
    // A job ranks more often, and reads it anew.
    row(Key::Popular, "popular:{<p>}:messages", "popular", seconds(5 * MINUTE, GRACE), Ttl),
];

impl Key {
    pub fn row(self) -> &'static KeyRow {
        &KEYS[self as usize]
    }

    /// The key to read in order to refill this one: itself, or the key of its overlay.
    pub fn refilled_as(self) -> Key {
        self.row().refilled_with.unwrap_or(self)
    }

    /// The name of a partition's own key: its vouching, its epoch, its stream.
    pub fn of_partition(self, partition: Partition) -> String {
        self.row().template.replace("<p>", &partition.to_string())
    }
}

impl Freshness {
    /// The name in documents.
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
    /// Seconds until a copy is no longer served while Postgres is reachable; `None` for keys without a lifetime.
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

    /// The ids that the template names; a route or a constructor must provide them.
    pub fn ids(&self) -> impl Iterator<Item = Id> {
        let parameters = self.template.split('<').skip(1).filter_map(|part| part.split('>').next());
        parameters.filter_map(|name| Id::parse(name.strip_prefix("p:").unwrap_or(name)))
    }

    /// The id that decides the key's slot: the parameter in the template's braces.
    fn tag(&self) -> Option<Id> {
        let (_, tag) = self.template.split_once("{<")?;
        let (name, _) = tag.split_once(">}")?;
        Id::parse(name.strip_prefix("p:").unwrap_or(name))
    }
}

/// The key of the value that a fence hides.
pub fn hidden(key: &str) -> String {
    format!("hidden:{key}")
}

/// The key of the fences that are up on a key.
pub fn fence(key: &str) -> String {
    format!("fence:{key}")
}

/// The key of the lease: who may fill a key.
pub fn lease(key: &str) -> String {
    format!("lease:{key}")
}

/// The key of the newest transaction that the relay has told of: a fill must have seen it. Only its own TTL ends it.
pub fn floor(key: &str) -> String {
    format!("floor:{key}")
}

/// The keys beside a cached key, in its slot.
#[derive(Clone, Debug)]
pub struct Companions {
    pub hidden: String,
    pub fence: String,
    pub lease: String,
    pub floor: String,
}

impl Companions {
    pub fn of(name: &str) -> Companions {
        Companions { hidden: hidden(name), fence: fence(name), lease: lease(name), floor: floor(name) }
    }
}

#[cfg(test)]
mod tests;
