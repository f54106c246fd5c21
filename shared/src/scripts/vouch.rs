//! `vouch.lua`: the relay vouches for a partition by writing a [`Vouched`].

use super::script::{Script, script};
use super::{Call, Scalars};
use crate::ids::Partition;
use crate::keys::Key;
use crate::vouching::Vouched;

pub static VOUCH: Script = script!("vouch": "clock_core.lua", "vouch.lua");

/// `read_at_ms` is Redis's time before the region's row was read; the vouching ends `lasts_ms` after it.
pub fn call(partition: Partition, vouched: Vouched, read_at_ms: u64, lasts_ms: u64) -> Call<'static> {
    Call::new(&VOUCH)
        .keys([Key::Epoch, Key::Vouch].map(|key| key.of_partition(partition)))
        .hex(vouched.epoch)
        .text(if vouched.degraded { "d" } else { "" })
        .number(read_at_ms)
        .number(lasts_ms)
}

/// Whether the script accepted the vouching.
pub fn read(reply: &mut impl Scalars) -> bool {
    reply.int() == 1
}
