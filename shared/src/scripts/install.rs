//! `install.lua`, `fill_counted.lua` and `audit.lua`: a snapshot of messages' reactions in Postgres, installed in Redis, alone or
//! with the messages themselves, or compared with it. The origin reads the snapshot.

use super::lease::Fill;
use super::script::{Script, script};
use super::{Call, Scalars};
use crate::ids::{Partition, Uuid};
use crate::keys::{Companions, Key};
use crate::reactions::{Counts, Kind};

pub static INSTALL: Script = script!(
    "install": "clock_core.lua", "fences_core.lua", "writes_core.lua", "install_core.lua", "install.lua"
);
pub static FILL_COUNTED: Script = script!(
    "fill_counted": "clock_core.lua", "envelope_core.lua", "fences_core.lua", "writes_core.lua", "fill_core.lua",
    "install_core.lua", "fill_counted.lua"
);
pub static AUDIT: Script = script!("audit": "writes_core.lua", "audit.lua");

/// The state of messages' reactions in one snapshot of Postgres.
#[derive(Clone, Debug)]
pub struct Known {
    pub circle: Uuid,
    /// The partition's generation, and the position up to which its entries are flushed: a stream's id.
    pub generation: i64,
    pub position: String,
    /// `pg_snapshot_xmin` of the snapshot.
    pub seen_xmin: u64,
    pub counts: Vec<(Uuid, Counts)>,
    /// The message whose every reaction is in `members`.
    pub whole: Option<Uuid>,
    pub members: Vec<(Kind, Uuid)>,
}

/// The outcome of an installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Installed {
    /// The counts that Redis has now, in the snapshot's order.
    Done(Vec<(Uuid, Counts)>),
    /// Flushed or changed since: read again.
    Late,
    /// The partition must be opened first.
    Closed,
}

/// The outcome of a comparison. `None` if it was not possible.
pub type Compared = Option<Difference>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    pub checked: u64,
    pub differ: u64,
}

impl Known {
    /// Installs counts, and the whole message's reactions under `lease`, if `epoch` is vouched.
    pub fn install(&self, epoch: u64, lease: &str) -> Call<'static> {
        let mut call = Call::new(&INSTALL).keys(self.keys());
        if let Some(message) = self.whole {
            let state = Key::reactions(self.circle, message).name();
            let Companions { fence, lease, floor, .. } = Companions::of(&state);
            call = call.keys([state, fence, lease, floor]);
        }
        let call = self.place(call, epoch);
        let call = call.optional(self.whole).text(lease.to_owned()).hex(self.seen_xmin);
        self.describe(call)
    }

    /// Fills a key with the messages themselves, and installs their counts, if `epoch` is vouched. The reply begins as that of
    /// a fill does.
    pub fn fill<'a>(&self, fill: Fill<'a>, epoch: u64) -> Call<'a> {
        let call = self.place(fill.by(&FILL_COUNTED).keys(self.keys()), epoch);
        self.describe(call)
    }

    pub fn read_installed(&self, reply: &mut impl Scalars) -> Installed {
        match reply.text().as_str() {
            "taken" => Installed::Done(self.counts.clone()),
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

    /// Compares the snapshot with Redis; with `repair`, drops what differs.
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

    /// Adds the epoch, the snapshot's place in the partition's stream, and how long the counts live.
    fn place<'a>(&self, call: Call<'a>, epoch: u64) -> Call<'a> {
        let lives_ms = u64::from(Key::Counts.row().kept_seconds().unwrap_or_default()) * 1000;
        let call = call.hex(epoch).text(self.generation.to_string()).text(self.position.clone());
        call.number(lives_ms)
    }

    /// Adds the arguments that `writes_core.lua` reads as a snapshot.
    fn describe<'a>(&self, call: Call<'a>) -> Call<'a> {
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
