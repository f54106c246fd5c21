//! A position in everything that a region's subscribers receive: `<timeline>.<xid>-<seq>`, the `id` of an event.

use crate::redis::Position;

/// A row of the outbox, on a timeline of Postgres's. Transactions of different timelines are not compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Place {
    pub timeline: u64,
    pub at: Position,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.timeline, self.at)
    }
}

impl Place {
    /// `None` for any other spelling than the one that is given out.
    pub fn parse(text: &str) -> Option<Place> {
        let (timeline, at) = text.split_once('.')?;
        let place = Place { timeline: timeline.parse().ok()?, at: Position::parse(at)? };
        (place.at >= Position::default() && place.to_string() == text).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_place_has_one_spelling(text in "[+0-9]{1,3}[.][-+0-9]{1,4}-[-+0-9]{1,4}|\\PC*") {
            if let Some(place) = Place::parse(&text) {
                prop_assert_eq!(place.to_string(), text);
            }
        }

        #[test]
        fn places_round_trip(timeline: u32, xid in 0..i64::MAX, seq in 0..i64::MAX) {
            let place = Place { timeline: timeline.into(), at: Position(xid, seq) };
            prop_assert_eq!(Place::parse(&place.to_string()), Some(place));
        }
    }
}
