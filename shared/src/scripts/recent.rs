//! The scripts of what a person has looked at lately. [`crate::recent`] has the values and bounds.

use super::script::{Script, script};
use super::{Call, Scalars};
use crate::ids::Uuid;
use crate::keys::Key;
use crate::recent::{MOST_RECENT, RECENT_MS, Recent};

pub static NOTE_RECENT: Script = script!("note_recent": "clock_core.lua", "note_recent.lua");
pub static LIST_RECENT: Script = script!("list_recent": "clock_core.lua", "list_recent.lua");

pub fn note(user: Uuid, recent: Recent) -> Call<'static> {
    let call = Call::new(&NOTE_RECENT).keys([Key::recent(user).name()]);
    call.text(recent.render()).number(RECENT_MS).number(MOST_RECENT.into())
}

/// Whether a reply to [`note`] says that Redis has taken it.
pub fn is_noted(reply: &mut impl Scalars) -> bool {
    reply.int() == 1
}

pub fn list(user: Uuid) -> Call<'static> {
    Call::new(&LIST_RECENT).keys([Key::recent(user).name()]).number(RECENT_MS).number(MOST_RECENT.into())
}

/// What is remembered, the newest first, with the milliseconds that each still is.
pub fn listed(reply: &mut impl Scalars) -> Vec<(Recent, u64)> {
    std::iter::from_fn(|| Some((Recent::parse(&reply.text())?, reply.count()))).collect()
}
