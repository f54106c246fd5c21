//! The events of circles and their members that subscribers receive, and what those events let them receive.

use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::Loaded;
use optimist_plane::ctx::Ctx;
use optimist_plane::domain::{Of, Right, State, Told};
use optimist_plane::error::Result;
use optimist_plane::http::body::to_json;
use optimist_plane::live::rights::Change;
use optimist_plane::operation::shape;
use optimist_plane::outbox::event::Event;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{BoundKey, Key};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::circles::definition::Circle;
use crate::circles::standing::MemberRole;
use crate::people::me::Profile;

#[rustfmt::skip] // One line a row.
pub const TOLD: &[Told] = &[
    Told::new("circle.created", "The subscriber has made a circle.", &["circle"], shape::<ChangedCircle>).shows(circle),
    Told::new("circle.updated", "A circle's name, description, rules or visibility was changed.", &["circle"], shape::<ChangedCircle>).shows(circle),
    Told::new("circle.archived", "A circle was archived: nothing in it changes any more.", &["circle"], shape::<ChangedCircle>).shows(circle),
    Told::new("circle.restored", "A circle is active again.", &["circle"], shape::<ChangedCircle>).shows(circle),
    Told::new("member.joined", "Somebody has joined a circle.", &["circle", "user"], shape::<JoinedMember>).shows(profile),
    Told::new("member.role", "A member's role was changed.", &["circle", "user", "role"], shape::<MemberWithRole>),
    Told::new("member.left", "A member has left a circle.", &["circle", "user"], shape::<FormerMember>),
    // A stranger who is banned is the moderators' affair.
    Told::new("member.removed", "A member was removed from a circle.", &["circle", "user"], shape::<FormerMember>).only(|event| event.is("member")),
];

pub const STATES: &[State] = &[State {
    name: "members",
    what: "How many members a circle has.",
    shape: shape::<MemberCount>,
    of: Of::Followed,
    load: |ctx, circle| Box::pin(member_count(ctx, circle)),
    after: &["member.joined", "member.left", "member.removed"],
}];

async fn member_count(ctx: &Ctx, circle: Uuid) -> Result<Option<Vec<u8>>> {
    #[derive(Deserialize)]
    struct Counted {
        member_count: i64,
    }
    let Loaded::Object { json, .. } = &*read_through(ctx, Key::circle(circle)).await? else {
        return Ok(None);
    };
    let counted: Option<Counted> = serde_json::from_slice(json).ok();
    counted.map(|counted| to_json(&MemberCount { count: counted.member_count })).transpose()
}

/// A person's own topic is among those of each of these events.
pub const RIGHTS: &[Right] = &[
    ("circle.created", |event| Some(Change::Gained { user: event.actor?, topic: event.id("circle")? })),
    ("member.joined", |event| Some(Change::Gained { user: event.id("user")?, topic: event.id("circle")? })),
    ("member.left", lost),
    ("member.removed", lost),
];

fn lost(event: &Event) -> Option<Change> {
    Some(Change::Lost { user: event.id("user")?, topic: event.id("circle")? })
}

fn circle(event: &Event) -> Option<BoundKey> {
    event.id("circle").map(Key::circle)
}

fn profile(event: &Event) -> Option<BoundKey> {
    event.id("user").map(Key::profile)
}

#[derive(Serialize, JsonSchema)]
struct ChangedCircle {
    circle: Uuid,
    /// Null if it is longer than a frame may be.
    shown: Option<Circle>,
}

#[derive(Serialize, JsonSchema)]
struct JoinedMember {
    circle: Uuid,
    user: Uuid,
    /// Null if their account is suspended.
    shown: Option<Profile>,
}

#[derive(Serialize, JsonSchema)]
struct MemberWithRole {
    circle: Uuid,
    user: Uuid,
    #[schemars(with = "MemberRole")]
    role: &'static str,
}

#[derive(Serialize, JsonSchema)]
struct MemberCount {
    /// Owner and moderators are members too.
    #[schemars(range(min = 0))]
    count: i64,
}

#[derive(Serialize, JsonSchema)]
struct FormerMember {
    circle: Uuid,
    user: Uuid,
}
