//! `react.lua`: a reaction, made or taken back in Redis. The flush writes it to Postgres.

use serde::Serialize;

use super::script::{Script, script};
use super::{Call, Scalars};
use crate::ids::{Partition, Uuid};
use crate::keys::Key;
use crate::reactions::{Counts, Kind, Promise, WRITES_BOUND};

pub static REACT: Script = script!("react": "writes_core.lua", "react_core.lua", "react.lua");

/// A reaction to make or to take back.
#[derive(Clone, Copy, Debug)]
pub struct Reaction {
    pub user: Uuid,
    pub circle: Uuid,
    pub message: Uuid,
    pub kind: Kind,
    /// Made, rather than taken back.
    pub reacted: bool,
}

/// The outcome of a reaction in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reacted {
    /// Done, or nothing to change: the counts now.
    Done(Counts),
    /// The partition takes no writes of this epoch: it must be opened.
    Closed,
    /// Redis lacks the message's state: it must be installed.
    Absent,
    /// The stream holds as many entries as it takes, all waiting for Postgres.
    Full,
}

impl Reaction {
    pub fn call(&self) -> Call<'static> {
        let vouch = Key::Vouch.of_partition(Partition::of(self.circle));
        self.describe(Call::new(&REACT).keys([vouch]).keys(self.keys()))
    }

    /// The keys that `react_core.lua` takes.
    pub(super) fn keys(&self) -> [String; 5] {
        let Reaction { circle, message, .. } = *self;
        let [ledger, writes] = [Key::Ledger, Key::Writes].map(|key| key.of_partition(Partition::of(circle)));
        let [state, counts, page] =
            [Key::reactions(circle, message), Key::counts(circle), Key::counts_page(circle)]
                .map(|key| key.name());
        [ledger, writes, state, counts, page]
    }

    /// Adds the arguments that it reads.
    pub(super) fn describe<'a>(&self, call: Call<'a>) -> Call<'a> {
        let Reaction { user, circle, message, kind, reacted } = *self;
        call.text(user.to_string())
            .text(circle.to_string())
            .text(message.to_string())
            .number(kind.place() as u64)
            .flag(reacted)
            .text(WRITES_BOUND)
    }

    /// The answer to a client: 202.
    pub fn answer(&self, counts: &Counts, promise: Promise) -> Vec<u8> {
        #[derive(Serialize)]
        struct Answer<'a> {
            kind: &'static str,
            reacted: bool,
            counts: &'a Counts,
            promise: &'static str,
        }

        let (kind, promise) = (self.kind.as_str(), promise.as_str());
        // Names, numbers and a flag always serialise.
        serde_json::to_vec(&Answer { kind, reacted: self.reacted, counts, promise }).unwrap_or_default()
    }
}

/// `None` if the reply is malformed.
pub fn read(reply: &mut impl Scalars) -> Option<Reacted> {
    Reacted::read(&reply.text(), &reply.text())
}

impl Reacted {
    /// From the two texts that the script returns.
    fn read(outcome: &str, counts: &str) -> Option<Reacted> {
        Some(match outcome {
            "done" | "same" => Reacted::Done(Counts::parse(counts)?),
            "closed" => Reacted::Closed,
            "absent" => Reacted::Absent,
            "full" => Reacted::Full,
            _ => return None,
        })
    }
}
