//! The states that subscribers receive: who types and who is present in a circle, one's own presence, and where one has drafts.
//!
//! A frame is small, so each names the first few and counts the rest; the routes have all.

use optimist_plane::ctx::Ctx;
use optimist_plane::domain::{Of, State};
use optimist_plane::error::Result;
use optimist_plane::http::body::to_json;
use optimist_plane::operation::shape;
use optimist_shared::ids::Uuid;
use optimist_shared::scripts::{message_drafts, presence as scripts};
use schemars::JsonSchema;
use serde::Serialize;

use crate::presence::live::{self, Present, Types};
use crate::presence::saying::{self, without_redis};

/// People, or drafts, that a state names: each takes at most 76 bytes of 3 KiB.
const NAMED: usize = 36;

#[rustfmt::skip] // One line a row.
pub const STATES: &[State] = &[
    State { name: scripts::TYPING, what: "Who types in a circle. Each person counts for `expires_in` seconds, unless they are named again.", shape: shape::<Typing>, of: Of::Followed, load: |ctx, circle| Box::pin(typing(ctx, circle)), after: &["member.left", "member.removed"] },
    State { name: scripts::OF_CIRCLE, what: "Who is present in a circle.", shape: shape::<Online>, of: Of::Followed, load: |ctx, circle| Box::pin(online(ctx, circle)), after: &["member.joined", "member.left", "member.removed"] },
    State { name: scripts::OF_PERSON, what: "One's own presence, of all devices together.", shape: shape::<Own>, of: Of::Person, load: |ctx, user| Box::pin(own(ctx, user)), after: &[] },
    State { name: message_drafts::OF_PERSON, what: "The circles in which one composes a message, on any device.", shape: shape::<Drafts>, of: Of::Person, load: |ctx, user| Box::pin(drafts(ctx, user)), after: &[] },
];

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TypingState")]
struct Typing {
    circle_id: Uuid,
    typing: Vec<Types>,
}

async fn typing(ctx: &Ctx, circle: Uuid) -> Result<Option<Vec<u8>>> {
    let Some(live) = live::read(ctx, circle, None).await? else { return Ok(None) };
    let typing = live.typing.into_iter().take(NAMED).collect();
    to_json(&Typing { circle_id: circle, typing }).map(Some)
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LiveState")]
struct Online {
    circle_id: Uuid,
    /// Members, present or not.
    members: i32,
    /// Members who are present.
    online: u64,
    /// Those. Null if they are too many for a frame.
    people: Option<Vec<Present>>,
}

async fn online(ctx: &Ctx, circle: Uuid) -> Result<Option<Vec<u8>>> {
    let Some(live) = live::read(ctx, circle, None).await? else { return Ok(None) };
    let people = live.people.filter(|people| people.len() <= NAMED);
    to_json(&Online { circle_id: circle, members: live.members, online: live.online, people }).map(Some)
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PresenceState")]
struct Own {
    /// `online`, `away`, `busy`, `invisible` or `offline`.
    state: &'static str,
}

async fn own(ctx: &Ctx, user: Uuid) -> Result<Option<Vec<u8>>> {
    let state = saying::read(ctx, user).await?;
    to_json(&Own { state: state.map_or("offline", |state| state.as_str()) }).map(Some)
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DraftsState")]
struct Drafts {
    drafts: Vec<InCircle>,
    /// There are more than these, which are the newest.
    more: bool,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DraftInCircle")]
struct InCircle {
    circle_id: Uuid,
    /// Seconds until it is forgotten.
    expires_in: u64,
}

async fn drafts(ctx: &Ctx, user: Uuid) -> Result<Option<Vec<u8>>> {
    let mut reply = ctx.redis.call_one(&message_drafts::list(user)).await.map_err(|_| without_redis())?;
    let mut listed = message_drafts::listed(&mut reply);
    listed.sort_by_key(|(_, left_ms)| std::cmp::Reverse(*left_ms));
    let more = listed.len() > NAMED;
    let drafts = listed
        .into_iter()
        .take(NAMED)
        .map(|(circle_id, left_ms)| InCircle { circle_id, expires_in: left_ms / 1_000 })
        .collect();
    to_json(&Drafts { drafts, more }).map(Some)
}
