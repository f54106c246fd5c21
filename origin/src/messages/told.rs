//! The events of messages that subscribers receive.
//!
//! They are written where messages are: see [`super::posting`] and [`super::writing`].

use optimist_plane::domain::Told;
use optimist_plane::operation::shape;
use optimist_plane::outbox::event::Event;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{BoundKey, Key};
use schemars::JsonSchema;
use serde::Serialize;

use crate::messages::message::Message;

#[rustfmt::skip] // One line a row.
pub const TOLD: &[Told] = &[
    Told::new("message.posted", "A message was posted.", &["circle", "message", "number"], shape::<PostedMessage>).shows(message),
    Told::new("message.edited", "A message's text was changed.", &["circle", "message"], shape::<ChangedMessage>).shows(message),
    Told::new("message.deleted", "A message was deleted.", &["circle", "message"], shape::<DeletedMessage>),
];

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
}
