//! The keys table: every key that Optimist writes to Redis, but for the limits' (see [`crate::limits`]).
//!
//! Templates are literal but for parameters in angle brackets; braces are Redis Cluster hash tags. `<p:circle>` is the
//! partition of the circle. Any cached key `K` has companions in its slot: `hidden:K`, `fence:K` and `lease:K`.

use crate::ids::{Partition, Uuid, parse_id};

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
    KeyRow { key, template, data_type, life, freshness }
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
    row(Key::CircleMessages, "circle:{<p:circle>}:<circle>:messages", "messages", seconds(30 * MINUTE, GRACE), Fenced),
    row(Key::Message, "circle:{<p:circle>}:<circle>:message:<message>", "message", seconds(30 * MINUTE, GRACE), Fenced),
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

/// Values for a template's parameters. What a template does not name is ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    pub user: Option<Uuid>,
    pub session: Option<Uuid>,
    pub circle: Option<Uuid>,
    pub message: Option<Uuid>,
    pub draft: Option<Uuid>,
    /// For keys of a partition rather than of an entity; [`Partition::COMMON`] when absent.
    pub partition: Option<Partition>,
}

impl Key {
    pub fn row(self) -> &'static KeyRow {
        &KEYS[self as usize]
    }

    /// The Redis key. `None` when a parameter that the template names is missing.
    pub fn render(self, parameters: &Parameters) -> Option<String> {
        let mut rendered = String::with_capacity(96);
        let mut rest = self.row().template;
        while let Some(start) = rest.find('<') {
            let end = start + rest[start..].find('>')?;
            rendered.push_str(&rest[..start]);
            let name = &rest[start + 1..end];
            match name.strip_prefix("p:") {
                Some(entity) => rendered.push_str(&Partition::of(parameters.get(entity)?).to_string()),
                None if name == "p" => {
                    rendered.push_str(&parameters.partition.unwrap_or(Partition::COMMON).to_string());
                }
                None => rendered.push_str(&parameters.get(name)?.to_string()),
            }
            rest = &rest[end + 1..];
        }
        rendered.push_str(rest);
        Some(rendered)
    }

    /// The row and the parameters of a Redis key. `None` for what no row describes.
    pub fn parse(name: &str) -> Option<(Key, Parameters)> {
        let found = KEYS.iter().find_map(|row| Some((row.key, row.key.parameters_in(name)?)));
        // A partition must be its entity's own.
        found.filter(|(key, parameters)| key.render(parameters).as_deref() == Some(name))
    }

    fn parameters_in(self, name: &str) -> Option<Parameters> {
        const ID: usize = 36;
        const PARTITION: usize = 4;
        let mut parameters = Parameters::default();
        let (mut template, mut rest) = (self.row().template, name);
        while let Some((literal, after)) = template.split_once('<') {
            let (parameter, after) = after.split_once('>')?;
            rest = rest.strip_prefix(literal)?;
            template = after;
            let length = if parameter.starts_with('p') { PARTITION } else { ID };
            let (value, after) = rest.split_at_checked(length)?;
            rest = after;
            match parameter {
                "p" => parameters.partition = Some(Partition::parse(value)?),
                "user" => parameters.user = Some(parse_id(value)?),
                "session" => parameters.session = Some(parse_id(value)?),
                "circle" => parameters.circle = Some(parse_id(value)?),
                "message" => parameters.message = Some(parse_id(value)?),
                "draft" => parameters.draft = Some(parse_id(value)?),
                _ => {}
            }
        }
        (rest == template).then_some(parameters)
    }

    /// The partition whose relay vouches for this key: that of its entity, or of its user.
    pub fn partition(self, parameters: &Parameters) -> Option<Partition> {
        let template = self.row().template;
        match self {
            Key::Session | Key::Membership | Key::RecentTags | Key::Streak => {
                parameters.user.map(Partition::of)
            }
            _ if template.contains("<p:circle>") => parameters.circle.map(Partition::of),
            _ if template.contains("<p:user>") => parameters.user.map(Partition::of),
            _ => Some(parameters.partition.unwrap_or(Partition::COMMON)),
        }
    }

    /// For a partition's own keys: vouching, epochs, touched sessions, metrics.
    pub fn of_partition(self, partition: Partition) -> String {
        self.row().template.replace("<p>", &partition.to_string())
    }
}

impl Parameters {
    fn get(&self, name: &str) -> Option<Uuid> {
        match name {
            "user" => self.user,
            "session" => self.session,
            "circle" => self.circle,
            "message" => self.message,
            "draft" => self.draft,
            _ => None,
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

    /// The names in the template, partitions reduced to their entity: what a route must provide.
    pub fn parameter_names(&self) -> impl Iterator<Item = &'static str> {
        self.template
            .split('<')
            .skip(1)
            .filter_map(|part| part.split('>').next())
            .map(|name| name.trim_start_matches("p:"))
            .filter(|name| *name != "p")
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_has_one_spelling(row in 0..KEYS.len(), ids: [u128; 5], partition: u8, at: usize, to in "[0-9a-f{}:<>p+]") {
            let [user, session, circle, message, draft] = ids.map(|id| Some(Uuid::from_u128(id)));
            let partition = Partition::all().nth(usize::from(partition));
            let parameters = Parameters { user, session, circle, message, draft, partition };
            let mut name = KEYS[row].key.render(&parameters).unwrap();
            prop_assert_eq!(Key::parse(&name).map(|(key, _)| key), Some(KEYS[row].key));
            let at = at % name.len();
            name.replace_range(at..=at, &to);
            if let Some((key, parameters)) = Key::parse(&name) {
                prop_assert_eq!(key.render(&parameters), Some(name));
            }
        }

        #[test]
        fn whatever_comes_as_a_key_is_told_from_one(name in "(circle|session|vouch|limit):[{]?p?[0-9a-f-]{0,36}[}]?(:[a-z0-9-]{0,36}){0,3}|\\PC*") {
            if let Some((key, parameters)) = Key::parse(&name) {
                prop_assert_eq!(key.render(&parameters), Some(name));
            }
        }
    }

    fn parameters() -> Parameters {
        let id = |n: u128| Some(Uuid::from_u128(n));
        let partition = None;
        Parameters { user: id(1), session: id(2), circle: id(3), message: id(4), draft: id(5), partition }
    }

    #[test]
    fn rows_are_found_by_name_and_render() {
        for (index, row) in KEYS.iter().enumerate() {
            assert_eq!(row.key as usize, index, "{} stands out of order", row.template);
            let rendered = row.key.render(&parameters()).expect(row.template);
            assert!(!rendered.contains(['<', '>']), "{rendered}");
            assert_eq!(rendered.matches('{').count(), 1, "{rendered} has one hash tag");
            let (key, parsed) = Key::parse(&rendered).expect(&rendered);
            assert_eq!((key, key.render(&parsed)), (row.key, Some(rendered)));
        }
    }

    #[test]
    fn sessions_and_memberships_are_tagged_by_user() {
        let user = Uuid::from_u128(1);
        assert_eq!(
            Key::Session.render(&parameters()).unwrap(),
            format!("session:{{{user}}}:{}", Uuid::from_u128(2))
        );
        assert_eq!(
            Key::Membership.render(&parameters()).unwrap(),
            format!("membership:{{{user}}}:{}", Uuid::from_u128(3))
        );
    }

    #[test]
    fn only_what_a_row_describes_is_parsed() {
        let circle = Key::Circle.render(&parameters()).unwrap();
        let elsewhere = circle.replacen(&Partition::of(Uuid::from_u128(3)).to_string(), "p000", 1);
        let bad = [
            &elsewhere,
            &circle[1..],
            &circle[..circle.len() - 1],
            &format!("{circle}:x"),
            "",
            "vouch:{p256}",
        ];
        for name in bad {
            assert_eq!(Key::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_missing_parameter_renders_nothing() {
        assert_eq!(Key::Circle.render(&Parameters::default()), None);
    }
}
