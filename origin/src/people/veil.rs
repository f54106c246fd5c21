//! What of an answer, or of what a subscriber receives, is hidden from those who have blocked somebody.
//!
//! It knows the shapes in which people appear, and nothing of routes: whatever names a person in another way must not be shown to those
//! who may have blocked them.

use optimist_shared::blocks::Blocked;
use optimist_shared::ids::parse_id;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// What is shown of a message whose author the reader has blocked.
#[derive(Serialize, JsonSchema)]
pub struct HiddenMessage {
    id: optimist_shared::ids::Uuid,
    /// Its place within the circle.
    #[schemars(range(min = 1))]
    number: i64,
    /// True.
    hidden: bool,
}

/// What remains of a value: messages keep their ids and numbers, and whatever else is about somebody blocked is left out. `None` if
/// nothing remains.
pub fn veil(blocked: Blocked<'_>, value: Value) -> Option<Value> {
    match value {
        Value::Array(items) => Some(items.into_iter().filter_map(|item| veil(blocked, item)).collect()),
        Value::Object(fields) if is_by(blocked, &fields) => {
            Some(json!({"id": fields.get("id"), "number": fields.get("number"), "hidden": true}))
        }
        Value::Object(fields) if is_about(blocked, &fields) => None,
        Value::Object(fields) => {
            let remains =
                fields.into_iter().map(|(name, value)| (name, veil(blocked, value).unwrap_or_default()));
            Some(Value::Object(remains.collect()))
        }
        other => Some(other),
    }
}

/// Whether it is a message of somebody blocked.
fn is_by(blocked: Blocked<'_>, fields: &Map<String, Value>) -> bool {
    fields.get("author").is_some_and(|author| is_blocked(blocked, author))
}

/// Whether it is somebody blocked, or what they do, are or did.
fn is_about(blocked: Blocked<'_>, fields: &Map<String, Value>) -> bool {
    ["id", "user", "user_id", "actor"]
        .iter()
        .filter_map(|name| fields.get(*name))
        .any(|person| is_blocked(blocked, person))
}

/// Whether it is a blocked person or their id.
fn is_blocked(blocked: Blocked<'_>, person: &Value) -> bool {
    let id = person.as_str().or_else(|| person.get("id")?.as_str());
    id.and_then(parse_id).is_some_and(|id| blocked.contains(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: &str = "0190a0a0-0000-7000-8000-00000000000a";
    const BOB: &str = "0190a0a0-0000-7000-8000-00000000000b";

    fn veiled(value: Value) -> Option<Value> {
        veil(Blocked::parse(BOB).unwrap(), value)
    }

    #[test]
    fn of_a_message_its_id_and_number_remain() {
        let message = |author: &str| json!({"id": "m", "number": 7, "author": {"id": author, "name": "X"}, "body": "Hi."});
        let hidden = json!({"id": "m", "number": 7, "hidden": true});
        let list = json!({"items": [message(ADA), message(BOB)], "next": "c"});
        assert_eq!(veiled(list), Some(json!({"items": [message(ADA), hidden], "next": "c"})));
        let kept = json!({"items": [{"message": message(BOB), "added_at": "t"}]});
        assert_eq!(veiled(kept), Some(json!({"items": [{"message": hidden, "added_at": "t"}]})));
    }

    #[test]
    fn people_and_what_they_do_are_left_out() {
        let members =
            json!([{"user": {"id": BOB}, "role": "owner"}, {"user": {"id": ADA}, "role": "member"}]);
        assert_eq!(veiled(members), Some(json!([{"user": {"id": ADA}, "role": "member"}])));
        let present = json!({"people": [{"user_id": BOB}], "online": 2});
        assert_eq!(veiled(present), Some(json!({"people": [], "online": 2})));
        assert_eq!(veiled(json!({"id": BOB, "name": "Bob"})), None);
        assert_eq!(veiled(json!({"circle": ADA, "user": BOB})), None, "an event");
        let told = json!([{"id": ADA, "actor": {"id": BOB}}, {"id": ADA, "actor": null}]);
        assert_eq!(veiled(told), Some(json!([{"id": ADA, "actor": null}])));
    }
}
