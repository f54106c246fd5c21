//! What a connection may receive: its person's own topic, and those that the person follows, each from a position on; and of whom it
//! receives nothing.
//!
//! They are read once, from Postgres, and then follow the events that change them. The snapshot of that read says which events it
//! had seen already: an older change, read again from a stream, must not undo a newer one.

use std::collections::{BTreeSet, HashMap, HashSet};

use optimist_shared::ids::Uuid;

use crate::redis::Position;

/// An event's effect on what a person may receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// From this event on the person receives a topic's.
    Gained { user: Uuid, topic: Uuid },
    /// The person receives nothing of the topic any more.
    Lost { user: Uuid, topic: Uuid },
    /// Some of the person's sessions are over, or end sooner.
    Sessions { user: Uuid },
    /// From this event on the person receives nothing of the other, who does not see the person any more; or they do again.
    Blocks { user: Uuid, other: Uuid, is_on: bool },
}

/// What a person follows besides their own topic, and from whom something is hidden, as one snapshot shows it.
#[derive(Debug, Default)]
pub struct Subscription {
    /// The snapshot, as Postgres writes it.
    pub seen: String,
    pub topics: Vec<Uuid>,
    /// Those whom the person has blocked.
    pub blocked: Vec<Uuid>,
    /// Those who have blocked the person, at most [`BLOCKERS`] and one.
    pub blockers: Vec<Uuid>,
}

/// People whose presence is hidden one by one from somebody whom they have blocked. Whom more have blocked sees nobody's.
pub const BLOCKERS: usize = 1_000;

/// Of whom a connection receives nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Veiled {
    pub blocked: BTreeSet<Uuid>,
    /// Those whose presence it does not see either.
    pub blockers: BTreeSet<Uuid>,
}

/// Postgres's text of a snapshot: `xmin:xmax:xip,xip…`.
#[derive(Debug, Default)]
pub struct Seen {
    xmin: i64,
    xmax: i64,
    running: Vec<i64>,
}

impl Seen {
    pub fn parse(text: &str) -> Option<Seen> {
        let mut parts = text.split(':');
        let (xmin, xmax, running) = (parts.next()?, parts.next()?, parts.next()?);
        let running = running.split(',').filter(|xid| !xid.is_empty()).map(str::parse);
        Some(Seen {
            xmin: xmin.parse().ok()?,
            xmax: xmax.parse().ok()?,
            running: running.collect::<Result<_, _>>().ok()?,
        })
    }

    /// Whether the snapshot shows what this transaction did.
    pub fn has(&self, xid: i64) -> bool {
        xid < self.xmin || (xid < self.xmax && !self.running.contains(&xid))
    }
}

/// The rights of a connection.
#[derive(Debug, Default)]
pub struct Rights {
    /// Each topic with the position after which its events are received.
    pub topics: HashMap<Uuid, Position>,
    /// The topics that the client asked for, if it did not ask for all.
    only: Option<HashSet<Uuid>>,
    pub veiled: Veiled,
    /// `None` until they are read.
    seen: Option<Seen>,
    /// Changes that came before that.
    early: Vec<(Position, Change)>,
}

/// The effect of a change on what a connection follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    None,
    Follows(Uuid),
    Leaves(Uuid),
}

impl Rights {
    pub fn new(only: Option<HashSet<Uuid>>) -> Rights {
        Rights { only, ..Rights::default() }
    }

    /// Takes what Postgres has said, and the changes since. `user` is whose they are.
    pub fn settle(&mut self, user: Uuid, seen: Seen, subscription: Subscription) {
        let Subscription { topics, blocked, blockers, .. } = subscription;
        self.veiled =
            Veiled { blocked: blocked.into_iter().collect(), blockers: blockers.into_iter().collect() };
        for topic in topics.into_iter().chain([user]) {
            if self.wants(topic) {
                self.topics.insert(topic, Position::default());
            }
        }
        self.seen = Some(seen);
        for (at, change) in std::mem::take(&mut self.early) {
            self.change(user, at, change);
        }
    }

    fn wants(&self, topic: Uuid) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&topic))
    }

    /// Changes the rights, unless what was read shows the change already.
    pub fn change(&mut self, me: Uuid, at: Position, change: Change) -> Effect {
        let Some(seen) = &self.seen else {
            self.early.push((at, change));
            return Effect::None;
        };
        if seen.has(at.0) {
            return Effect::None;
        }
        match change {
            Change::Gained { topic, .. } if self.wants(topic) => {
                self.topics.entry(topic).or_insert(at);
                Effect::Follows(topic)
            }
            Change::Lost { topic, .. } if self.topics.remove(&topic).is_some() => Effect::Leaves(topic),
            // There are more than are known, whoever begins or ends to.
            Change::Blocks { user, .. } if me != user && self.veiled.blockers.len() > BLOCKERS => {
                Effect::None
            }
            Change::Blocks { user, other, is_on } => {
                let (people, whom) = match me == user {
                    true => (&mut self.veiled.blocked, other),
                    false => (&mut self.veiled.blockers, user),
                };
                if is_on {
                    people.insert(whom)
                } else {
                    people.remove(&whom)
                };
                Effect::None
            }
            _ => Effect::None,
        }
    }

    /// Whether an event of these topics may be received.
    pub fn allow(&self, topics: &[Uuid], at: Position) -> bool {
        topics.iter().any(|topic| self.topics.get(topic).is_some_and(|from| at >= *from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: &str = "10:20:12,15";

    fn follows(topics: Vec<Uuid>) -> Subscription {
        Subscription { topics, ..Subscription::default() }
    }

    #[test]
    fn blocks_hide_each_from_the_other() {
        let [user, other] = [1, 2].map(Uuid::from_u128);
        let block = |user, other, is_on| Change::Blocks { user, other, is_on };
        let mut rights = Rights::new(None);
        let blocked = Subscription { blocked: vec![other], ..Subscription::default() };
        rights.settle(user, Seen::parse(SEEN).unwrap(), blocked);
        rights.change(user, Position(30, 0), block(other, user, true));
        let both = Veiled { blocked: [other].into(), blockers: [other].into() };
        assert_eq!(rights.veiled, both);
        rights.change(user, Position(11, 0), block(user, other, false));
        assert_eq!(rights.veiled, both, "the snapshot showed it");
        rights.change(user, Position(31, 0), block(user, other, false));
        rights.change(user, Position(32, 0), block(other, user, false));
        assert_eq!(rights.veiled, Veiled::default());
        // Of more than are known one by one, none is known to be the last.
        let blockers = (10..).map(Uuid::from_u128).take(BLOCKERS + 1).collect();
        rights.settle(user, Seen::default(), Subscription { blockers, ..Subscription::default() });
        rights.change(user, Position(33, 0), block(Uuid::from_u128(10), user, false));
        rights.change(user, Position(34, 0), block(other, user, true));
        assert_eq!(rights.veiled.blockers.len(), BLOCKERS + 1);
    }

    #[test]
    fn a_snapshot_shows_what_had_ended() {
        let seen = Seen::parse(SEEN).unwrap();
        let shown: Vec<i64> = (9..22).filter(|xid| seen.has(*xid)).collect();
        assert_eq!(shown, [9, 10, 11, 13, 14, 16, 17, 18, 19]);
        assert!(Seen::parse("10:20:").is_some_and(|seen| seen.running.is_empty()));
        assert!(Seen::parse("10:20").is_none() && Seen::parse("a:b:").is_none());
    }

    #[test]
    fn changes_that_were_read_already_change_nothing() {
        let [user, old, new] = [1, 2, 3].map(Uuid::from_u128);
        let mut rights = Rights::new(None);
        let lost = |topic| Change::Lost { user, topic };
        let gained = |topic| Change::Gained { user, topic };
        // Before the read has come back.
        assert_eq!(rights.change(user, Position(12, 1), lost(old)), Effect::None);
        rights.settle(user, Seen::parse(SEEN).unwrap(), follows(vec![old]));
        assert!(!rights.allow(&[old], Position(30, 1)), "the snapshot did not show it");
        assert_eq!(rights.change(user, Position(11, 1), gained(old)), Effect::None, "the snapshot showed it");
        assert_eq!(rights.change(user, Position(25, 1), gained(new)), Effect::Follows(new));
        assert!(!rights.allow(&[new], Position(24, 9)) && rights.allow(&[new], Position(25, 1)));
        assert_eq!(rights.change(user, Position(26, 1), lost(new)), Effect::Leaves(new));
        assert!(!rights.allow(&[new], Position(25, 2)), "what was not delivered is not");
    }

    #[test]
    fn a_client_may_want_some_topics_only() {
        let [user, wanted, other] = [1, 2, 3].map(Uuid::from_u128);
        let mut rights = Rights::new(Some([user, wanted].into()));
        rights.settle(user, Seen::default(), follows(vec![wanted, other]));
        assert!(rights.allow(&[wanted], Position(5, 0)) && !rights.allow(&[other], Position(5, 0)));
        assert_eq!(rights.change(user, Position(9, 0), Change::Gained { user, topic: other }), Effect::None);
    }
}
