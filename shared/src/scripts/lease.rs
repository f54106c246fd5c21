//! `lease.lua` and `fill.lua`: the right to fill a key, and the fill.

use std::borrow::Cow;

use super::script::{Script, script};
use super::{Call, Scalars};
use crate::keys::Companions;

pub static LEASE: Script =
    script!("lease": "clock_core.lua", "envelope_core.lua", "fences_core.lua", "lease.lua");
pub static FILL: Script =
    script!("fill": "clock_core.lua", "envelope_core.lua", "fences_core.lua", "fill_core.lua", "fill.lua");

/// The outcome of a request for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leased {
    /// A good value is there already: its envelope.
    Value(Vec<u8>),
    Granted,
    /// Somebody else holds the lease.
    Taken,
    /// A writer's fence is up.
    Fenced,
}

/// Asks for the lease. `token` has 32 characters; `epoch` is the vouched one, read before.
pub fn ask<'a>(
    name: &'a str,
    beside: &'a Companions,
    token: &'a str,
    lasts_ms: u64,
    epoch: u64,
    now_ms: u64,
) -> Call<'a> {
    Call::new(&LEASE)
        .keys([name, &beside.fence, &beside.lease, &beside.floor])
        .text(token)
        .number(lasts_ms)
        .hex(epoch)
        .text(format!("{now_ms:014}"))
}

/// A malformed reply counts as a refusal.
pub fn read(reply: &mut impl Scalars) -> Leased {
    match reply.text().as_str() {
        "value" => Leased::Value(reply.bytes()),
        "granted" => Leased::Granted,
        "leased" => Leased::Taken,
        _ => Leased::Fenced,
    }
}

/// A value, and the lease that gives the right to store it.
#[derive(Clone, Copy)]
pub struct Fill<'a> {
    pub name: &'a str,
    pub beside: &'a Companions,
    pub token: &'a str,
    /// An envelope; empty if the lease is only given back.
    pub value: &'a [u8],
    pub kept_ms: u64,
}

impl<'a> Fill<'a> {
    /// Fills the key if the lease still stands, and the envelope's snapshot has seen the floor's transaction.
    pub fn call(self) -> Call<'a> {
        self.by(&FILL)
    }

    /// Begins the call of a script that fills.
    pub(super) fn by(self, script: &'static Script) -> Call<'a> {
        let Fill { name, beside, token, value, kept_ms } = self;
        Call::new(script)
            .keys([name, &beside.fence, &beside.lease, &beside.floor])
            .text(token)
            .bytes(Cow::Borrowed(value))
            .number(kept_ms)
    }
}

/// Whether the key was filled; otherwise the value may be stale, and must not be shared.
pub fn is_filled(reply: &mut impl Scalars) -> bool {
    reply.int() == 1
}

/// Gives the lease back without filling.
pub fn give_back<'a>(name: &'a str, beside: &'a Companions, token: &'a str) -> Call<'a> {
    Fill { name, beside, token, value: b"", kept_ms: 1 }.call()
}
