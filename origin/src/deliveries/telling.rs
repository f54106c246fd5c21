//! What a delivery says to programs: ids, and a short line for a person to read.

use serde_json::{Value, json};

use crate::deliveries::checking::Wanted;
use crate::deliveries::words::line;

/// What programs are told.
pub fn data(wanted: &Wanted, id: optimist_shared::ids::Uuid) -> Value {
    json!({
        "id": id,
        "kind": wanted.kind,
        "circle_id": wanted.circle.as_ref().map(|(id, _)| id),
        "message_id": wanted.message,
        "actor_id": wanted.actor.as_ref().map(|(id, _)| id),
        "actors": wanted.actors,
        "role": wanted.role,
        "line": line(wanted),
    })
}
