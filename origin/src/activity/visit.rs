//! A visit as an entry of a partition's stream, parsed and nothing more.

use optimist_shared::ids::{Uuid, parse_id};

/// A person's visit of a circle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VisitEntry {
    pub user: Uuid,
    pub circle: Uuid,
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
}

impl VisitEntry {
    /// Parses an entry's value, as `visit.lua` writes it; `at_ms` are the milliseconds of the entry's id.
    pub fn parse(value: &str, at_ms: i64) -> Option<VisitEntry> {
        let (user, circle) = value.split_once(' ')?;
        Some(VisitEntry { user: parse_id(user)?, circle: parse_id(circle)?, at_ms })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_entry_is_a_visit_in_its_one_spelling_or_is_passed_over(
            value in "([0-9a-fA-F]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12} ?){0,3}|\\PC*",
            at: i64,
        ) {
            if let Some(visit) = VisitEntry::parse(&value, at) {
                prop_assert_eq!(format!("{} {}", visit.user, visit.circle), value);
                prop_assert_eq!(visit.at_ms, at);
            }
        }
    }

    #[test]
    fn only_what_the_script_writes_is_understood() {
        let id = Uuid::from_u128(7);
        let visit = VisitEntry { user: id, circle: id, at_ms: 5 };
        assert_eq!(VisitEntry::parse(&format!("{id} {id}"), 5), Some(visit));
        for value in [id.to_string(), format!("{id} {id} {id}"), String::new()] {
            assert_eq!(VisitEntry::parse(&value, 5), None, "{value}");
        }
    }
}
