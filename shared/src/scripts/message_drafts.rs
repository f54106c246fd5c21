//! The scripts of messages that are being composed. [`crate::presence`] has their bounds.

use super::presence::waking;
use super::script::{Script, script};
use super::{Call, Scalars};
use crate::ids::{Uuid, parse_id};
use crate::keys::Key;
use crate::presence::MESSAGE_DRAFT_MS;
use crate::quotas::Quota;

pub static SAVE_MESSAGE_DRAFT: Script =
    script!("save_message_draft": "clock_core.lua", "save_message_draft.lua");
pub static READ_MESSAGE_DRAFT: Script = script!("read_message_draft": "read_message_draft.lua");
pub static DROP_MESSAGE_DRAFT: Script = script!("drop_message_draft": "drop_message_draft.lua");
pub static LIST_MESSAGE_DRAFTS: Script =
    script!("list_message_drafts": "clock_core.lua", "list_message_drafts.lua");

/// The state that a person's subscribers are woken for.
pub const OF_PERSON: &str = "drafts";

/// The outcome of keeping a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Saved,
    /// The person's drafts leave no room: see [`Quota::MessageDrafts`].
    Full,
}

fn keys(user: Uuid, circle: Uuid) -> [String; 2] {
    [Key::message_draft(user, circle).name(), Key::message_drafts(user).name()]
}

pub fn save(user: Uuid, circle: Uuid, text: &str) -> Call<'_> {
    let quota = Quota::MessageDrafts.row();
    let call = Call::new(&SAVE_MESSAGE_DRAFT)
        .keys(keys(user, circle))
        .text(circle.to_string())
        .text(text)
        .number(quota.counted(text.len() as u64))
        .number(quota.most)
        .number(MESSAGE_DRAFT_MS);
    waking(call, OF_PERSON, user)
}

/// `None` if the reply is malformed.
pub fn kept(reply: &mut impl Scalars) -> Option<Kept> {
    match reply.text().as_str() {
        "saved" => Some(Kept::Saved),
        "full" => Some(Kept::Full),
        _ => None,
    }
}

pub fn read(user: Uuid, circle: Uuid) -> Call<'static> {
    Call::new(&READ_MESSAGE_DRAFT).keys([Key::message_draft(user, circle).name()])
}

/// The draft's text and the milliseconds that it is still kept; `None` if there is none.
pub fn draft(reply: &mut impl Scalars) -> Option<(String, u64)> {
    let left_ms = u64::try_from(reply.int()).ok()?;
    Some((reply.text(), left_ms))
}

pub fn discard(user: Uuid, circle: Uuid) -> Call<'static> {
    let call = Call::new(&DROP_MESSAGE_DRAFT).keys(keys(user, circle)).text(circle.to_string());
    waking(call, OF_PERSON, user)
}

pub fn list(user: Uuid) -> Call<'static> {
    Call::new(&LIST_MESSAGE_DRAFTS).keys([Key::message_drafts(user).name()])
}

/// The circles with a draft, and the milliseconds that each is still kept.
pub fn listed(reply: &mut impl Scalars) -> Vec<(Uuid, u64)> {
    std::iter::from_fn(|| Some((parse_id(&reply.text())?, reply.count()))).collect()
}
