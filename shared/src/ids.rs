//! Ids, the names that paths and key templates give them, and the partitions that they hash to.
//!
//! Ids are UUIDv7: in text always the hyphenated lower-case form, which is also what keys contain. Nothing here mints an id.

pub use uuid::Uuid;

/// An id that a path names in braces (`{circle}`), or a key's template in angle brackets (`<circle>`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Id {
    User,
    Session,
    Circle,
    Message,
    Draft,
    Entry,
    Mood,
    Notification,
    Invite,
    Token,
    Export,
}

impl Id {
    pub const ALL: [Id; 11] = [
        Id::User,
        Id::Session,
        Id::Circle,
        Id::Message,
        Id::Draft,
        Id::Entry,
        Id::Mood,
        Id::Notification,
        Id::Invite,
        Id::Token,
        Id::Export,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Id::User => "user",
            Id::Session => "session",
            Id::Circle => "circle",
            Id::Message => "message",
            Id::Draft => "draft",
            Id::Entry => "entry",
            Id::Mood => "mood",
            Id::Notification => "notification",
            Id::Invite => "invite",
            Id::Token => "token",
            Id::Export => "export",
        }
    }

    pub fn parse(name: &str) -> Option<Id> {
        Id::ALL.into_iter().find(|id| id.as_str() == name)
    }
}

/// The ids of a path or of a key, by name. Two are equal if they have the same ids, whatever the order of setting them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ids {
    values: [Option<Uuid>; Id::ALL.len()],
    last: Option<Id>,
}

impl Ids {
    pub fn get(&self, id: Id) -> Option<Uuid> {
        self.values[id as usize]
    }

    pub fn with(mut self, id: Id, value: Uuid) -> Ids {
        self.values[id as usize] = Some(value);
        self.last = Some(id);
        self
    }

    /// Adds an id unless it is set: a path's own ids take precedence over the session's. [`Ids::last`] does not change.
    pub fn or(mut self, id: Id, value: Uuid) -> Ids {
        self.values[id as usize].get_or_insert(value);
        self
    }

    /// The id that [`Ids::with`] set last: the entity that a path leads to.
    pub fn last(&self) -> Option<Uuid> {
        self.get(self.last?)
    }
}

impl PartialEq for Ids {
    fn eq(&self, other: &Ids) -> bool {
        self.values == other.values
    }
}

impl Eq for Ids {}

/// Entities are spread over this many fixed partitions: the unit of Redis Cluster slots, of streams and of vouching.
pub const PARTITIONS: u16 = 256;

/// One of the 256 partitions; displayed as in keys, `p000` to `p255`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(u8);

impl Partition {
    /// The partition of an entity: FNV-1a over the sixteen bytes of its id, mixed, and its top eight bits.
    pub fn of(id: Uuid) -> Partition {
        let hash = id.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        // One more multiplication spreads the last bytes' differences over the top bits.
        Partition(((hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd) >> 56) as u8)
    }

    /// The partition of values that belong to no entity, such as the discovery list.
    pub const COMMON: Partition = Partition(0);

    pub fn all() -> impl Iterator<Item = Partition> {
        (0..=u8::MAX).map(Partition)
    }

    /// From its displayed form.
    pub fn parse(text: &str) -> Option<Partition> {
        let number = text.strip_prefix('p').filter(|digits| digits.len() == 3)?;
        number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok().map(Partition)).flatten()
    }

    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl std::fmt::Display for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p{:03}", self.0)
    }
}

/// Parses a number of exactly `length` digits: no sign, no space.
pub(crate) fn parse_digits(text: &str, length: usize) -> Option<u64> {
    let is_number = text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// Parses a number of exactly 16 lower-case hexadecimal digits.
pub fn parse_hex(text: &str) -> Option<u64> {
    let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == 16 && text.bytes().all(is_digit)).then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// Parses an id in its one accepted form: 36 characters, hyphenated, lower case.
pub fn parse_id(text: &str) -> Option<Uuid> {
    let canonical = text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
    canonical.then(|| Uuid::try_parse(text).ok()).flatten()
}

/// Parses an id as a client sends it: in that form, or in upper case, as some platforms write UUIDs. Keys, answers and cursors have
/// the one form.
pub fn parse_sent_id(text: &str) -> Option<Uuid> {
    (text.len() == 36).then(|| Uuid::try_parse(text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_and_partitions_have_one_spelling(
            id in "[{]?[0-9a-fA-F]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-fA-F]{12}|\\PC{36}",
            partition in "p?[+0-9]{0,4}",
        ) {
            if let Some(parsed) = parse_id(&id) {
                prop_assert_eq!(parsed.to_string(), &id[..]);
            }
            if let Some(parsed) = parse_sent_id(&id) {
                prop_assert_eq!(parsed.to_string(), id.to_ascii_lowercase());
            }
            if let Some(parsed) = Partition::parse(&partition) {
                prop_assert_eq!(parsed.to_string(), partition);
            }
        }

        #[test]
        fn every_id_parses(number: u128) {
            let id = Uuid::from_u128(number);
            prop_assert_eq!(parse_id(&id.to_string()), Some(id));
        }
    }

    #[test]
    fn ids_spread_evenly_over_partitions() {
        let mut counts = [0u32; PARTITIONS as usize];
        for n in 0..25_600u128 {
            // Ids of one burst share their first bits: time and version.
            counts[Partition::of(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + n)).index()] +=
                1;
        }
        assert!(counts.iter().all(|count| (40..=180).contains(count)), "{counts:?}");
    }

    #[test]
    fn ids_are_found_by_name_and_the_last_is_the_one_that_was_set_last() {
        for (index, id) in Id::ALL.into_iter().enumerate() {
            assert_eq!((id as usize, Id::parse(id.as_str())), (index, Some(id)));
        }
        assert_eq!(Id::parse("key"), None);
        let [one, two, three] = [1, 2, 3].map(Uuid::from_u128);
        let ids = Ids::default().with(Id::Circle, one).with(Id::User, two).or(Id::Session, three);
        assert_eq!(ids.or(Id::User, three), ids, "the path's own user stays");
        assert_eq!(
            (ids.get(Id::Circle), ids.get(Id::Session), ids.get(Id::Draft)),
            (Some(one), Some(three), None)
        );
        assert_eq!((ids.last(), Ids::default().last()), (Some(two), None));
        assert_eq!(Ids::default().or(Id::Session, three).with(Id::User, two).with(Id::Circle, one), ids);
    }

    #[test]
    fn only_the_canonical_form_is_an_id() {
        assert!(parse_id("0190a0a0-0000-7000-8000-000000000001").is_some());
        assert!(parse_id("0190A0A0-0000-7000-8000-000000000001").is_none());
        assert!(parse_id("0190a0a0000070008000000000000001").is_none());
        assert!(parse_id("{0190a0a0-0000-7000-8000-00000000001}").is_none());
    }

    #[test]
    fn clients_may_send_upper_case() {
        let id = parse_id("0190a0a0-0000-7000-8000-00000000000f");
        assert!(id.is_some());
        for sent in ["0190a0a0-0000-7000-8000-00000000000f", "0190A0A0-0000-7000-8000-00000000000F"] {
            assert_eq!(parse_sent_id(sent), id);
        }
        for bad in ["0190A0A0000070008000000000000001", "{0190A0A0-0000-7000-8000-00000000001}", ""] {
            assert_eq!(parse_sent_id(bad), None, "{bad}");
        }
    }
}
