//! The order of results: what says more of what is looked for comes first, and of messages what is newer.
//!
//! A place depends on nothing but the result and the query, so that a page goes on where the one before ended.

use optimist_plane::http::page::Cursor;
use optimist_shared::ids::{Uuid, parse_id};

/// A message that says twice as much of what is looked for comes before one that is 21 days newer: ln 2 of this.
const AGES: f64 = 30.0 * 86_400_000.0;

/// A place among the results of a query: the greatest is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    score: i64,
    id: Uuid,
}

impl Place {
    /// Of a message, by its weight and its id's time.
    pub fn in_time(weight: f64, message: Uuid) -> Place {
        let (most, _) = message.as_u64_pair();
        let lead = (weight.ln() * AGES) as i64;
        Place { score: (most >> 16).cast_signed().saturating_add(lead), id: message }
    }

    /// Of what has no time.
    pub fn by_weight(weight: f64, id: Uuid) -> Place {
        let score = (weight * 1_000_000.0) as i64;
        Place { score, id }
    }
}

impl Cursor for Place {
    const KIND: char = 's';

    fn render(&self) -> String {
        format!("{}:{}", self.score, self.id)
    }

    fn parse(text: &str) -> Option<Place> {
        let (score, id) = text.split_once(':')?;
        Some(Place { score: score.parse().ok()?, id: parse_id(id)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(days: u64) -> Uuid {
        Uuid::from_u128(u128::from(1_800_000_000_000 + days * 86_400_000) << 80)
    }

    #[test]
    fn weight_and_time_are_exchanged_for_one_another() {
        assert!(Place::in_time(1.0, at(1)) > Place::in_time(1.0, at(0)));
        assert!(Place::in_time(2.0, at(0)) > Place::in_time(1.0, at(20)));
        assert!(Place::in_time(2.0, at(0)) < Place::in_time(1.0, at(21)));
        assert!(Place::by_weight(0.7, at(0)) > Place::by_weight(0.5, at(9)));
    }

    #[test]
    fn a_place_is_a_cursor() {
        for place in [Place::in_time(0.1, at(3)), Place { score: -5, id: at(0) }] {
            assert_eq!(Place::decode(&place.encode()), Some(place));
        }
        assert_eq!(Place::parse("+1:00000000-0000-0000-0000-000000000007").map(|place| place.score), Some(1));
    }
}
