//! What a delivery says: ids, and a short line without any text that people have written in messages.

use serde_json::{Value, json};

use crate::deliveries::checking::Wanted;

/// Characters of a name in a line.
const NAME: usize = 60;

/// A line for a person to read.
pub fn line(wanted: &Wanted) -> String {
    let short = |name: &str| name.chars().take(NAME).collect::<String>();
    let who = wanted.actor.as_ref().map_or_else(|| "Someone".to_owned(), |(_, name)| short(name));
    let circle = wanted.circle.as_ref().map_or_else(|| "a circle".to_owned(), |(_, name)| short(name));
    match wanted.kind.as_str() {
        "message" => format!("{who} wrote in {circle}"),
        "mention" => format!("{who} mentioned you in {circle}"),
        "reaction" if wanted.actors > 1 => {
            format!("{who} and {} more reacted to your message in {circle}", wanted.actors - 1)
        }
        "reaction" => format!("{who} reacted to your message in {circle}"),
        "role" => format!("{who} made you {} of {circle}", wanted.role.as_deref().unwrap_or("a member")),
        "invite" => format!("{who} invited you to {circle}"),
        _ => "There is more news than we tell one by one".to_owned(),
    }
}

/// The same for programs.
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
