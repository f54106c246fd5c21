//! `invalidate.lua`: the relay drops a copy that a committed transaction made stale, and leaves a floor for fills.

use super::script::{Script, script};
use super::{Call, Scalars};
use crate::keys::Companions;

pub static INVALIDATE: Script = script!("invalidate": "envelope_core.lua", "invalidate.lua");

/// The floor lasts `lasts_ms`: longer than a reader may lag behind, and a fill take.
pub fn call<'a>(name: &'a str, beside: &'a Companions, transaction: u64, lasts_ms: u64) -> Call<'a> {
    let keys = [name, &beside.hidden, &beside.floor];
    Call::new(&INVALIDATE).keys(keys).hex(transaction).number(lasts_ms)
}

/// The number of copies dropped.
pub fn read(reply: &mut impl Scalars) -> u64 {
    reply.count()
}
