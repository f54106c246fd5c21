//! Wakes: the messages on a partition's shard channel, which `Key::Wake` names. They say that there is something new to read, and a
//! lost one costs time only: readers look by themselves too.
//!
//! Scripts publish them by `SPUBLISH`, beside their writes.

use crate::ids::{Uuid, parse_id};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake<'a> {
    /// `e`: the partition's stream has new entries.
    Events,
    /// `u <position>`: all streams hold their events up to this position, which `Key::Settled` holds too.
    Settled(&'a str),
    /// `s <state> <topic>`: a state of a topic, the id of a circle or a user, has changed.
    State { name: &'a str, topic: Uuid },
}

impl<'a> Wake<'a> {
    pub fn parse(text: &'a str) -> Option<Wake<'a>> {
        if text == "e" {
            return Some(Wake::Events);
        }
        let (kind, rest) = text.split_once(' ')?;
        match kind {
            "u" => Some(Wake::Settled(rest)),
            "s" => {
                let (name, topic) = rest.split_once(' ')?;
                Some(Wake::State { name, topic: parse_id(topic)? })
            }
            _ => None,
        }
    }

    pub fn render(&self) -> String {
        match self {
            Wake::Events => "e".to_owned(),
            Wake::Settled(position) => format!("u {position}"),
            Wake::State { name, topic } => format!("s {name} {topic}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_wake_has_one_spelling(name in "[a-z]{1,12}", topic: u128, position in "[0-9]+[.][0-9]+-[0-9]+") {
            let topic = Uuid::from_u128(topic);
            for wake in [Wake::Events, Wake::Settled(&position), Wake::State { name: &name, topic }] {
                let text = wake.render();
                prop_assert_eq!(Wake::parse(&text), Some(wake));
            }
        }

        #[test]
        fn whatever_comes_as_a_wake_is_told_from_one(text in "[eus]( [a-z0-9-]{0,36}){0,3}|\\PC*") {
            if let Some(wake) = Wake::parse(&text) {
                prop_assert_eq!(wake.render(), text);
            }
        }
    }
}
