//! Reactions: their kinds, and counts by kind as Redis holds them and as clients get them. [`crate::scripts::react`] makes a
//! reaction.

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::ids::parse_hex;
use crate::session::hex;

/// All kinds. Redis and the scripts know a kind by its place: new kinds are added at the end, and none is ever removed.
pub const KINDS: [&str; 6] = ["heart", "hug", "strength", "celebrate", "laugh", "thanks"];

/// One of [`KINDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(u8);

impl Kind {
    pub fn parse(text: &str) -> Option<Kind> {
        KINDS.iter().position(|kind| *kind == text).map(|index| Kind(index as u8))
    }

    /// The kind at a place, counted from 1 as scripts count.
    pub fn from_place(place: usize) -> Option<Kind> {
        (1..=KINDS.len()).contains(&place).then(|| Kind((place - 1) as u8))
    }

    pub fn place(self) -> usize {
        usize::from(self.0) + 1
    }

    pub fn as_str(self) -> &'static str {
        KINDS[usize::from(self.0)]
    }
}

/// How many people reacted to a message, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u32; KINDS.len()]);

impl Counts {
    /// Parses numbers separated by commas, in the order of kinds; an older release wrote fewer than there are kinds.
    pub fn parse(text: &str) -> Option<Counts> {
        let mut counts = Counts::default();
        for (index, number) in text.split(',').enumerate() {
            *counts.0.get_mut(index)? = number.parse().ok()?;
        }
        Some(counts)
    }

    /// Parses a field of a circle's counts: the epoch of the counts, 16 hex digits, and the numbers.
    pub fn parse_live(field: &[u8]) -> Option<(u64, Counts)> {
        let (epoch, counts) = std::str::from_utf8(field).ok()?.split_at_checked(16)?;
        Some((parse_hex(epoch)?, Counts::parse(counts)?))
    }

    /// The form that [`Counts::parse`] reads.
    pub fn render(&self) -> String {
        self.0.map(|count| count.to_string()).join(",")
    }

    pub fn get(&self, kind: Kind) -> u32 {
        self.0[usize::from(kind.0)]
    }

    pub fn set(&mut self, kind: Kind, count: u32) {
        self.0[usize::from(kind.0)] = count;
    }

    /// The JSON that clients get.
    pub fn to_json(&self) -> String {
        // A map of names to numbers always serialises.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Only the kinds that somebody used.
impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(KINDS.iter().zip(self.0).filter(|(_, count)| *count > 0))
    }
}

/// The most entries in a partition's stream before its writers must wait for Postgres: some seconds of a very busy circle.
pub const WRITES_BOUND: &str = "10000";

/// Where an acknowledged write is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// As durable as Redis is configured to be.
    Redis,
    Postgres,
    /// Redis alone ever holds it, for as long as it says.
    RedisOnly,
}

impl Promise {
    pub fn as_str(self) -> &'static str {
        match self {
            Promise::Redis => "redis",
            Promise::Postgres => "postgres",
            Promise::RedisOnly => "redis-only",
        }
    }
}

/// The part of an answer's entity tag that its counts decide. An unknown count has a version of its own.
pub fn counts_version(shown: &[Option<Counts>]) -> String {
    let mut hash = Sha256::new();
    for counts in shown {
        hash.update(counts.map_or_else(|| "-".to_owned(), |counts| counts.render()));
        hash.update(b";");
    }
    hex(&hash.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_are_read_back_as_they_are_written(numbers: [u32; KINDS.len()], field in "[0-9a-fA-F+]{16}[0-9,+-]{0,24}|\\PC*") {
            let counts = Counts(numbers);
            prop_assert_eq!(Counts::parse(&counts.render()), Some(counts));
            if let Some((epoch, counts)) = Counts::parse_live(field.as_bytes()) {
                prop_assert_eq!(&field[..16], format!("{epoch:016x}"));
                prop_assert_eq!(Counts::parse(&counts.render()), Some(counts));
            }
        }
    }

    #[test]
    fn counts_round_trip_and_tell_their_epoch() {
        let mut counts = Counts::default();
        counts.set(Kind::parse("hug").unwrap(), 12);
        assert_eq!(counts.render(), "0,12,0,0,0,0");
        assert_eq!(Counts::parse(&counts.render()), Some(counts));
        assert_eq!(Counts::parse("0,12"), Some(counts), "an older release knew fewer kinds");
        assert_eq!(Counts::parse("0,0,0,0,0,0,1"), None);
        assert_eq!(Counts::parse_live(b"000000000000000a0,12"), Some((10, counts)));
        assert_eq!(Counts::parse_live(b""), None);
        assert_eq!(counts.to_json(), r#"{"hug":12}"#);
    }

    #[test]
    fn kinds_have_places() {
        for (index, name) in KINDS.iter().enumerate() {
            let kind = Kind::parse(name).unwrap();
            assert_eq!((kind.place(), Kind::from_place(index + 1)), (index + 1, Some(kind)));
        }
        assert_eq!((Kind::parse("frown"), Kind::from_place(0), Kind::from_place(7)), (None, None, None));
    }
}
