//! `fence.lua`, `release.lua` and `unhide.lua`: a writer's fence over a key, raised before the commit and dropped after it or
//! after a rollback. A write's handler decides which keys it fences.

use super::script::{Script, script};
use super::{Call, Scalars};
use crate::keys::Companions;

pub static FENCE: Script = script!("fence": "clock_core.lua", "fences_core.lua", "fence.lua");
pub static RELEASE: Script = script!("release": "clock_core.lua", "fences_core.lua", "release.lua");
pub static UNHIDE: Script = script!("unhide": "clock_core.lua", "fences_core.lua", "unhide.lua");

/// Hides the value, voids leases and blocks fills, for `stands_ms` at most.
pub fn raise<'a>(name: &'a str, beside: &'a Companions, token: &'a str, stands_ms: u64) -> Call<'a> {
    call(&FENCE, name, beside, token).number(stands_ms)
}

/// After the commit: drops the hidden value and this writer's fence, and voids the leases given since.
pub fn release<'a>(name: &'a str, beside: &'a Companions, token: &'a str) -> Call<'a> {
    call(&RELEASE, name, beside, token)
}

/// Whether the released key was warm and has no other fence: the writer that released it then refills it.
pub fn is_warm(reply: &mut impl Scalars) -> bool {
    reply.int() == 1
}

/// After a rollback that is certain: the value returns once no fence is up.
pub fn unhide<'a>(name: &'a str, beside: &'a Companions, token: &'a str) -> Call<'a> {
    call(&UNHIDE, name, beside, token)
}

fn call<'a>(script: &'static Script, name: &'a str, beside: &'a Companions, token: &'a str) -> Call<'a> {
    let Companions { hidden, fence, lease, .. } = beside;
    Call::new(script).keys([name, hidden, fence, lease]).text(token)
}
