//! `invalidate.lua`: the relay drops a copy that a committed transaction made stale.

use super::script::{Script, script};
use super::{Call, Scalars};
use crate::keys::Companions;

pub static INVALIDATE: Script = script!("invalidate": "envelope_core.lua", "invalidate.lua");

pub fn call<'a>(name: &'a str, beside: &'a Companions, transaction: u64) -> Call<'a> {
    Call::new(&INVALIDATE).keys([name, &beside.hidden, &beside.lease]).hex(transaction)
}

/// The number of copies dropped.
pub fn read(reply: &mut impl Scalars) -> u64 {
    reply.count()
}
