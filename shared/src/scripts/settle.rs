//! `settle.lua`: the relay says up to where all streams hold their events.

use super::Call;
use super::script::{Script, script};
use crate::ids::Partition;
use crate::keys::Key;

pub static SETTLE: Script = script!("settle": "settle.lua");

/// All streams hold the events up to the row `xid-seq` of this timeline.
pub fn call(timeline: u64, xid: u64, seq: u64) -> Call<'static> {
    let lives_ms = u64::from(Key::Settled.row().kept_seconds().unwrap_or_default()) * 1000;
    Call::new(&SETTLE)
        .keys([Key::Settled, Key::Wake].map(|key| key.of_partition(Partition::COMMON)))
        .number(timeline)
        .number(xid)
        .number(seq)
        .number(lives_ms)
}
