//! The people whom somebody has blocked: the form of the list in Redis, and the search for their ids in an answer.
//!
//! It does not say what is hidden of them: the origin makes answers that hide something.

use crate::ids::{Uuid, parse_id};

/// The most people that one may block.
pub const BLOCKED: usize = 1_000;
/// Bytes of an id as text.
const ID: usize = 36;

/// Ids as text, in order and without anything between them. Empty for somebody who has blocked nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocked<'a>(&'a [[u8; ID]]);

impl<'a> Blocked<'a> {
    /// `None` for what is no such list.
    pub fn parse(text: &'a str) -> Option<Blocked<'a>> {
        let (ids, rest) = text.as_bytes().as_chunks::<ID>();
        let is_id = |id: &[u8; ID]| std::str::from_utf8(id).ok().and_then(parse_id).is_some();
        let is_list = rest.is_empty() && ids.iter().all(is_id) && ids.is_sorted();
        is_list.then_some(Blocked(ids))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, id: Uuid) -> bool {
        !self.is_empty() && self.has(id.to_string().as_bytes())
    }

    fn has(&self, id: &[u8]) -> bool {
        self.0.binary_search_by(|known| known.as_slice().cmp(id)).is_ok()
    }

    /// Whether a JSON text names one of them, anywhere.
    pub fn are_named(&self, json: &[u8]) -> bool {
        if self.is_empty() {
            return false;
        }
        // The hyphens of an id stand at fixed places.
        let starts = |window: &[u8]| [8, 13, 18, 23].iter().all(|at| window[*at] == b'-');
        json.windows(ID).any(|window| starts(window) && self.has(window))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    fn text_of(ids: impl IntoIterator<Item = u128>) -> String {
        ids.into_iter().map(|id| Uuid::from_u128(id).to_string()).collect()
    }

    proptest! {
        #[test]
        fn whoever_is_listed_is_found(ids in btree_set(any::<u128>(), 0..20), other: u128, before in "[-0-9a-f\"]{0,40}") {
            let text = text_of(ids.iter().copied());
            let blocked = Blocked::parse(&text).unwrap();
            for id in &ids {
                prop_assert!(blocked.contains(Uuid::from_u128(*id)));
                let json = format!("{before}\"{}\"", Uuid::from_u128(*id));
                prop_assert!(blocked.are_named(json.as_bytes()));
            }
            if !ids.contains(&other) {
                prop_assert!(!blocked.contains(Uuid::from_u128(other)));
                let json = format!("{{\"author\":\"{}\"}}", Uuid::from_u128(other));
                prop_assert!(!blocked.are_named(json.as_bytes()));
            }
        }

        #[test]
        fn what_is_no_list_is_refused(text in "[-0-9a-fA-F]{30,80}|\\PC*") {
            if let Some(blocked) = Blocked::parse(&text) {
                prop_assert_eq!(blocked.0.len() * ID, text.len());
            }
        }
    }

    #[test]
    fn a_list_is_in_order() {
        assert_eq!(Blocked::parse(""), Some(Blocked::default()));
        assert!(Blocked::parse(&text_of([1, 2])).is_some());
        assert!(Blocked::parse(&text_of([2, 1])).is_none());
    }
}
