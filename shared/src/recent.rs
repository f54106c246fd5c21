//! What a person has looked at lately: its kinds, spelling and bounds. Redis alone holds it.
//!
//! Only ids are kept: whoever shows what they name checks the right to it then.

use crate::ids::{Uuid, parse_id};

/// Things that are remembered; a newer one takes the oldest's place.
pub const MOST_RECENT: u32 = 100;
/// Milliseconds after which each is forgotten.
pub const RECENT_MS: u64 = 24 * 3_600_000;

/// What somebody has looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recent {
    Circle(Uuid),
    Message { circle: Uuid, message: Uuid },
    Person(Uuid),
    Entry(Uuid),
}

impl Recent {
    /// From its kind, its id and, of a message alone, its circle's.
    pub fn new(kind: &str, id: Uuid, circle: Option<Uuid>) -> Option<Recent> {
        Some(match (kind, circle) {
            ("circle", None) => Recent::Circle(id),
            ("message", Some(circle)) => Recent::Message { circle, message: id },
            ("person", None) => Recent::Person(id),
            ("entry", None) => Recent::Entry(id),
            _ => return None,
        })
    }

    pub fn kind(self) -> &'static str {
        match self {
            Recent::Circle(_) => "circle",
            Recent::Message { .. } => "message",
            Recent::Person(_) => "person",
            Recent::Entry(_) => "entry",
        }
    }

    pub fn id(self) -> Uuid {
        match self {
            Recent::Circle(id) | Recent::Person(id) | Recent::Entry(id) => id,
            Recent::Message { message, .. } => message,
        }
    }

    /// The circle of a message.
    pub fn circle_of_message(self) -> Option<Uuid> {
        match self {
            Recent::Message { circle, .. } => Some(circle),
            Recent::Circle(_) | Recent::Person(_) | Recent::Entry(_) => None,
        }
    }

    /// The circle that it is, or that it is in.
    pub fn circle(self) -> Option<Uuid> {
        match self {
            Recent::Circle(circle) | Recent::Message { circle, .. } => Some(circle),
            Recent::Person(_) | Recent::Entry(_) => None,
        }
    }

    /// As Redis keeps it.
    pub fn render(self) -> String {
        match self.circle_of_message() {
            Some(circle) => format!("message {} {circle}", self.id()),
            None => format!("{} {}", self.kind(), self.id()),
        }
    }

    pub fn parse(text: &str) -> Option<Recent> {
        let mut words = text.split(' ');
        let (kind, id) = (words.next()?, parse_id(words.next()?)?);
        let circle = match words.next() {
            Some(circle) => Some(parse_id(circle)?),
            None => None,
        };
        Recent::new(kind, id, circle).filter(|_| words.next().is_none())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_text_is_one_that_is_rendered_or_refused(
            kind in 0..4usize,
            id: u128,
            circle: u128,
            noise in "(circle|message|person|entry)( [0-9a-f-]{36}){0,3}|\\PC*",
        ) {
            let (id, circle) = (Uuid::from_u128(id), Uuid::from_u128(circle));
            let recent = [
                Recent::Circle(id), Recent::Message { circle, message: id }, Recent::Person(id), Recent::Entry(id),
            ][kind];
            prop_assert_eq!(Recent::parse(&recent.render()), Some(recent));
            prop_assert_eq!(Recent::new(recent.kind(), recent.id(), recent.circle_of_message()), Some(recent));
            if let Some(parsed) = Recent::parse(&noise) {
                prop_assert_eq!(parsed.render(), noise);
            }
        }
    }

    #[test]
    fn messages_alone_name_their_circle() {
        let (id, circle) = (Uuid::from_u128(1), Some(Uuid::from_u128(2)));
        for kind in ["circle", "person", "entry"] {
            assert!(
                Recent::new(kind, id, None).is_some() && Recent::new(kind, id, circle).is_none(),
                "{kind}"
            );
        }
        assert!(Recent::new("message", id, circle).is_some() && Recent::new("message", id, None).is_none());
        assert_eq!((Recent::new("mood", id, None), Recent::new("", id, None)), (None, None));
    }
}
