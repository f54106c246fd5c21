//! The events of sessions that subscribers receive, and those that may end what they receive.

use optimist_plane::domain::{Right, Told};
use optimist_plane::live::rights::Change;
use optimist_plane::operation::shape;
use optimist_plane::outbox::event::Event;
use optimist_shared::ids::Uuid;
use schemars::JsonSchema;
use serde::Serialize;

use crate::people::blocking::{ADDED, LIFTED};

pub const TOLD: &[Told] = &[Told::new(
    "session.revoked",
    "Sessions of the subscriber were ended.",
    &["session"],
    shape::<RevokedSessions>,
)];

/// The person's own topic is among those of each of these events.
pub const RIGHTS: &[Right] = &[
    ("session.revoked", sessions),
    ("session.reused", sessions),
    // Its predecessor lasts five minutes more.
    ("session.refreshed", sessions),
    ("session.opened", sessions),
    ("password.changed", sessions),
    ("admin.suspended", sessions),
    ("account.erased", sessions),
    (ADDED, |event| blocks(event, true)),
    (LIFTED, |event| blocks(event, false)),
];

fn blocks(event: &Event, is_on: bool) -> Option<Change> {
    Some(Change::Blocks { user: event.id("user")?, other: event.id("other")?, is_on })
}

fn sessions(event: &Event) -> Option<Change> {
    Some(Change::Sessions { user: event.id("user")? })
}

#[derive(Serialize, JsonSchema)]
struct RevokedSessions {
    /// The one that was named; absent if all others were ended, or all.
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<Uuid>,
}
