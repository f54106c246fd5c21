//! `install.lua` and `audit.lua`: what Postgres knew of messages' reactions at one moment, put into Redis or compared with
//! what Redis has. Reading it from Postgres is the origin's.

use super::script::{Script, script};
use super::{Call, Scalars};
use crate::ids::{Partition, Uuid};
use crate::keys::{Companions, Key};
use crate::reactions::{Counts, Kind};

pub static INSTALL: Script =
    script!("install": "clock_core.lua", "fences_core.lua", "writes_core.lua", "install.lua");
pub static AUDIT: Script = script!("audit": "writes_core.lua", "audit.lua");

/// What Postgres knew in one snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub circle: Uuid,
    /// The partition's, with how far its entries are flushed: a stream's id.
    pub generation: i64,
    pub position: String,
    /// `pg_snapshot_xmin` of the snapshot.
    pub seen_xmin: u64,
    pub counts: Vec<(Uuid, Counts)>,
    /// The message of which everyone who reacted is known.
    pub whole: Option<Uuid>,
    pub members: Vec<(Kind, Uuid)>,
}

/// What an installation came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Installed {
    /// The counts that Redis has now, in the snapshot's order.
    Done(Vec<(Uuid, Counts)>),
    /// Flushed since, or changed: to be read anew.
    Late,
    /// The partition is to be opened first.
    Closed,
}

/// What a comparison came to. `None` where it was not possible.
pub type Compared = Option<Difference>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    pub checked: u64,
    pub differ: u64,
}

impl Snapshot {
    /// Installs counts, and the whole message's reactions under `lease`, if Redis is vouched under this epoch.
    pub fn install(&self, epoch: u64, lease: &str) -> Call<'static> {
        let lives_ms = u64::from(Key::Counts.row().kept_seconds().unwrap_or_default()) * 1000;
        let mut call = Call::new(&INSTALL).keys(self.keys());
        if let Some(message) = self.whole {
            let state = Key::reactions(self.circle, message).name();
            let Companions { fence, lease, .. } = Companions::of(&state);
            call = call.keys([state, fence, lease]);
        }
        let call = call
            .hex(epoch)
            .text(self.generation.to_string())
            .text(self.position.clone())
            .number(lives_ms)
            .optional(self.whole)
            .text(lease.to_owned())
            .hex(self.seen_xmin);
        self.describe(call)
    }

    pub fn read_installed(&self, reply: &mut impl Scalars) -> Installed {
        match reply.text().as_str() {
            "done" => {
                let counts = self.counts.iter();
                Installed::Done(
                    counts
                        .map(|(message, _)| (*message, Counts::parse(&reply.text()).unwrap_or_default()))
                        .collect(),
                )
            }
            "closed" => Installed::Closed,
            _ => Installed::Late,
        }
    }

    /// Compares; with `repair`, what differs is dropped.
    pub fn audit(&self, repair: bool) -> Call<'static> {
        let mut call = Call::new(&AUDIT).keys(self.keys());
        if let Some(message) = self.whole {
            let state = Key::reactions(self.circle, message).name();
            let fence = Companions::of(&state).fence;
            call = call.keys([state, fence]);
        }
        let call = call
            .text(self.generation.to_string())
            .text(self.position.clone())
            .flag(repair)
            .optional(self.whole);
        self.describe(call)
    }

    pub fn read_compared(reply: &mut impl Scalars) -> Compared {
        let is_checked = reply.text() == "checked";
        is_checked.then(|| Difference { checked: reply.count(), differ: reply.count() })
    }

    fn keys(&self) -> [String; 5] {
        let partition = Partition::of(self.circle);
        [
            Key::Vouch.of_partition(partition),
            Key::Ledger.of_partition(partition),
            Key::Writes.of_partition(partition),
            Key::counts(self.circle).name(),
            Key::counts_page(self.circle).name(),
        ]
    }

    /// Adds what `writes_core.lua` reads of a snapshot.
    fn describe(&self, call: Call<'static>) -> Call<'static> {
        let mut call = call.number(self.counts.len() as u64);
        for (message, counts) in &self.counts {
            call = call.text(message.to_string()).text(counts.render());
        }
        call = call.number(self.members.len() as u64);
        for (kind, user) in &self.members {
            call = call.text(format!("{}:{user}", kind.place()));
        }
        call
    }
}
