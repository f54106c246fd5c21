//! The events of messages that subscribers receive.
//!
//! They are written where messages are: see [`super::posting`] and [`super::writing`].

use std::collections::BTreeMap;

use optimist_plane::ctx::Ctx;
use optimist_plane::domain::{Of, State, Told};
use optimist_plane::error::Result;
use optimist_plane::http::body::to_json;
use optimist_plane::operation::shape;
use optimist_plane::outbox::event::Event;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{BoundKey, Key};
use optimist_shared::reactions::Counts;
use schemars::JsonSchema;
use serde::Serialize;

use crate::messages::message::Message;
use crate::messages::reading;
use crate::reactions::shapes::ReactionCounts;

#[rustfmt::skip] // One line a row.
pub const TOLD: &[Told] = &[
    Told::new("message.posted", "A message was posted, perhaps as a comment.", &["circle", "message", "number", "parent"], shape::<PostedMessage>).shows(message),
    Told::new("message.edited", "A message's text was changed.", &["circle", "message"], shape::<ChangedMessage>).shows(message),
    Told::new("message.deleted", "A message was deleted.", &["circle", "message", "parent"], shape::<DeletedMessage>),
];

pub const STATES: &[State] = &[State {
    name: "reactions",
    what: "The reaction counts of a circle's newest messages that have any.",
    shape: shape::<NewestReactions>,
    of: Of::Followed,
    load: |ctx, circle| Box::pin(newest_counts(ctx, circle)),
    after: &["reaction.written-through"],
}];

/// Messages of which counts are told: so many fit into a frame.
const NEWEST: usize = 20;

async fn newest_counts(ctx: &Ctx, circle: Uuid) -> Result<Option<Vec<u8>>> {
    let counts = reading::counts_of(ctx, circle).await?;
    let newest = counts.into_iter().take(NEWEST).filter(|(_, counts)| *counts != Counts::default());
    let messages: BTreeMap<String, Counts> =
        newest.map(|(message, counts)| (message.to_string(), counts)).collect();
    to_json(&NewestReactions { messages }).map(Some)
}

/// By the messages' ids.
#[derive(Serialize, JsonSchema)]
struct NewestReactions {
    #[schemars(with = "BTreeMap<String, ReactionCounts>")]
    messages: BTreeMap<String, Counts>,
}

fn message(event: &Event) -> Option<BoundKey> {
    Some(Key::message(event.id("circle")?, event.id("message")?))
}

#[derive(Serialize, JsonSchema)]
struct PostedMessage {
    circle: Uuid,
    message: Uuid,
    /// Its place within the circle.
    #[schemars(range(min = 1))]
    number: i64,
    /// Of a comment: the message that it belongs to, which has one more.
    #[schemars(with = "Uuid")]
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<Uuid>,
    /// Null if it was deleted since, or is longer than a frame may be.
    shown: Option<Message>,
}

#[derive(Serialize, JsonSchema)]
struct ChangedMessage {
    circle: Uuid,
    message: Uuid,
    /// Null if it was deleted since, or is longer than a frame may be.
    shown: Option<Message>,
}

#[derive(Serialize, JsonSchema)]
struct DeletedMessage {
    circle: Uuid,
    message: Uuid,
    /// Of a comment: the message that it belonged to, which has one less.
    #[schemars(with = "Uuid")]
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<Uuid>,
}
