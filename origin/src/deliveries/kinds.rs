//! The kinds of notifications that a person can turn on and off, and where.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a kind of notification goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Channels {
    /// The record itself: without it nobody is told of this kind anywhere.
    pub in_app: bool,
    pub push: bool,
    pub email: bool,
    pub webhook: bool,
}

/// What one may be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kinds {
    /// In a circle of up to 200 members; and comments in threads that one follows, in any circle.
    pub message: Channels,
    /// A message that names one (`<@` id `>`) among its first 20, in any circle.
    pub mention: Channels,
    pub reaction: Channels,
    /// One's role, a circle that is offered to one, and what is reported and decided about messages.
    pub role: Channels,
    pub invite: Channels,
}

/// Each channel's kinds, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masks {
    pub in_app: i16,
    pub push: i16,
    pub email: i16,
    pub webhook: i16,
}

/// All kinds.
const ALL: i16 = 31;

impl Default for Masks {
    /// Everything but e-mail.
    fn default() -> Masks {
        Masks { in_app: ALL, push: ALL, email: 0, webhook: ALL }
    }
}

impl Kinds {
    /// In the order of their bits.
    fn each(self) -> [Channels; 5] {
        [self.message, self.mention, self.reaction, self.role, self.invite]
    }

    pub fn masks(self) -> Masks {
        let mask = |of: fn(Channels) -> bool| {
            self.each().into_iter().enumerate().filter(|(_, on)| of(*on)).map(|(bit, _)| 1 << bit).sum()
        };
        Masks {
            in_app: mask(|on| on.in_app),
            push: mask(|on| on.push),
            email: mask(|on| on.email),
            webhook: mask(|on| on.webhook),
        }
    }

    pub fn of(masks: Masks) -> Kinds {
        let on = |bit: i16| Channels {
            in_app: masks.in_app & bit != 0,
            push: masks.push & bit != 0,
            email: masks.email & bit != 0,
            webhook: masks.webhook & bit != 0,
        };
        Kinds { message: on(1), mention: on(2), reaction: on(4), role: on(8), invite: on(16) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_bits_and_back() {
        let masks = Masks { in_app: 31, push: 5, email: 16, webhook: 0 };
        let kinds = Kinds::of(masks);
        assert_eq!(kinds.masks(), masks);
        assert!(kinds.message.push && !kinds.mention.push && kinds.reaction.push && kinds.invite.email);
        assert!(Kinds::of(Masks::default()).each().iter().all(|on| on.in_app && on.push && !on.email));
    }
}
