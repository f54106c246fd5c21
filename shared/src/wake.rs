//! Wakes: the messages on a partition's shard channel, which `Key::Wake` names. They say that there is something new to read, and a
//! lost one costs time only: readers look by themselves too.
//!
//! Scripts publish them by `SPUBLISH`, beside their writes.

use crate::ids::{Uuid, parse_id};

/// Topics that one message names at most: its text has some ten thousand bytes.
pub const TOPICS: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake<'a> {
    /// `e`: the partition's stream has new entries.
    Events,
    /// `u <position>`: all streams hold their events up to this position, which `Key::Settled` holds too.
    Settled(&'a str),
    /// `s <state> <topic> <topic>…`: a state of each of these topics, ids of circles or users, has changed. It comes by any partition's
    /// channel.
    State { name: &'a str, topics: Vec<Uuid> },
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
                let (name, topics) = rest.split_once(' ')?;
                let topics =
                    topics.split(' ').take(TOPICS + 1).map(parse_id).collect::<Option<Vec<Uuid>>>()?;
                (topics.len() <= TOPICS).then_some(Wake::State { name, topics })
            }
            _ => None,
        }
    }

    pub fn render(&self) -> String {
        match self {
            Wake::Events => "e".to_owned(),
            Wake::Settled(position) => format!("u {position}"),
            Wake::State { name, topics } => {
                let mut text = format!("s {name}");
                topics.iter().for_each(|topic| text.push_str(&format!(" {topic}")));
                text
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_wake_has_one_spelling(
            name in "[a-z]{1,12}", topics in vec(any::<u128>(), 1..4), position in "[0-9]+[.][0-9]+-[0-9]+",
        ) {
            let topics = topics.into_iter().map(Uuid::from_u128).collect();
            for wake in [Wake::Events, Wake::Settled(&position), Wake::State { name: &name, topics }] {
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

    #[test]
    fn a_wake_names_so_many_topics_at_most() {
        for (count, is_one) in [(0, false), (TOPICS, true), (TOPICS + 1, false)] {
            let text = Wake::State { name: "unread", topics: vec![Uuid::nil(); count] }.render();
            assert_eq!(Wake::parse(&text).is_some(), is_one, "{count}");
        }
    }
}
