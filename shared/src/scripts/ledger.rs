//! `open.lua` and `trim.lua`: opening a partition for write-behind entries, and removing the flushed ones.

use super::script::{Script, script};
use super::{Call, Scalars};
use crate::ids::Partition;
use crate::keys::Key;

pub static OPEN: Script = script!("open": "writes_core.lua", "open.lua");
pub static TRIM: Script = script!("trim": "writes_core.lua", "trim.lua");

/// Opens a partition for writes of the vouched epoch. New ids follow `floor`, a stream's id.
pub fn open<'a>(partition: Partition, epoch: u64, generation: i64, floor: &'a str) -> Call<'a> {
    Call::new(&OPEN)
        .keys([Key::Vouch, Key::Ledger, Key::Writes].map(|key| key.of_partition(partition)))
        .hex(epoch)
        .text(generation.to_string())
        .text(floor)
}

/// Whether the partition is open; otherwise another epoch is vouched, or a later generation is open.
pub fn is_open(reply: &mut impl Scalars) -> bool {
    reply.text() == "open"
}

/// Removes the entries up to `position`; `next` is the id that follows it. Both are stream ids.
pub fn trim<'a>(partition: Partition, generation: i64, position: &'a str, next: &'a str) -> Call<'a> {
    Call::new(&TRIM)
        .keys([Key::Ledger, Key::Writes].map(|key| key.of_partition(partition)))
        .text(generation.to_string())
        .text(position)
        .text(next)
}
