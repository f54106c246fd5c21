//! `invalidate.lua`: the relay drops a copy that a committed transaction made stale, and leaves a floor for fills.

use super::script::{Script, script};
use super::{Call, Scalars};
use crate::keys::Companions;

pub static INVALIDATE: Script = script!("invalidate": "envelope_core.lua", "invalidate.lua");

/// The server from which the relay learned of the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Primary,
    /// It may show the transaction before the primary does.
    Replica,
}

/// The floor lasts `lasts_ms`: longer than a reader may lag behind, and a fill take.
pub fn call<'a>(
    name: &'a str,
    beside: &'a Companions,
    transaction: u64,
    lasts_ms: u64,
    from: From,
) -> Call<'a> {
    let keys = [name, &beside.hidden, &beside.floor];
    let from = match from {
        From::Primary => "p",
        From::Replica => "r",
    };
    Call::new(&INVALIDATE).keys(keys).hex(transaction).number(lasts_ms).text(from)
}

/// The number of copies dropped.
pub fn read(reply: &mut impl Scalars) -> u64 {
    reply.count()
}
