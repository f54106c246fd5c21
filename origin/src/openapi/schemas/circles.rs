//! Shapes of circles, their members, messages and reactions.

use serde_json::{Value, json};

use super::{
    answer, change, count, id, line, lines, list, optional, optional_reference, promise, reaction_kind,
    reference, request, string, text, time, with,
};
use crate::circles::definition as circles;
use crate::messages::message as messages;
use crate::people::me;

pub fn schemas() -> Vec<(&'static str, Value)> {
    let visibility = || json!({"type": "string", "enum": ["public", "private"]});
    let role = || json!({"type": "string", "enum": ["owner", "moderator", "member"]});
    let circle = json!({
        "id": id(),
        "name": text(circles::NAME),
        "description": text(circles::DESCRIPTION),
        "rules": text(circles::RULES),
        "visibility": visibility(),
        "owner_id": id(),
        "member_count": count("Owner and moderators are members too."),
        "archived_at": optional(time()),
        "created_at": time(),
        "updated_at": time(),
    });
    let deeds = json!({
        "day": {"type": "string", "format": "date"},
        "posts": count("Messages posted."),
        "reactions": count("Reactions made."),
        "visits": count("Visits, one in five minutes at most."),
        "last_seen_at": optional(time()),
    });
    let mut circle_with_role = circle.clone();
    circle_with_role["role"] = optional(role());
    vec![
        ("Circle", answer(circle, &[])),
        ("Circles", list("Circle")),
        ("CircleWithRole", answer(circle_with_role, &[])),
        (
            "CreateCircle",
            request(
                &["name", "visibility"],
                json!({
                    "name": line(circles::NAME),
                    "description": optional(lines(circles::DESCRIPTION)),
                    "rules": optional(lines(circles::RULES)),
                    "visibility": visibility(),
                }),
            ),
        ),
        (
            "UpdateCircle",
            change(json!({
                "name": line(circles::NAME),
                "description": lines(circles::DESCRIPTION),
                "rules": lines(circles::RULES),
                "visibility": visibility(),
            })),
        ),
        ("Person", answer(json!({"id": id(), "name": text(me::NAME)}), &[])),
        ("Member", answer(json!({"user": reference("Person"), "role": role(), "joined_at": time()}), &[])),
        ("Members", list("Member")),
        ("Join", request(&[], json!({"invite": optional(invite())}))),
        ("UpdateMember", request(&["role"], json!({"role": role()}))),
        ("CreateInvite", request(&[], json!({"user": optional(id())}))),
        ("Invite", answer(json!({"invite": string(), "expires_at": time()}), &[])),
        ("WriteMessage", request(&["body"], json!({"body": lines(messages::BODY)}))),
        (
            "Message",
            answer(
                json!({
                    "id": id(),
                    "circle_id": id(),
                    "number": {"type": "integer", "minimum": 1, "description": "Its place within the circle."},
                    "author": reference("Person"),
                    "body": text(messages::BODY),
                    "created_at": time(),
                    "edited_at": optional(time()),
                    "reactions": optional(counts()),
                }),
                &[],
            ),
        ),
        ("Messages", list("Message")),
        (
            "Reacted",
            answer(
                json!({
                    "kind": reaction_kind(),
                    "reacted": {"type": "boolean"},
                    "counts": counts(),
                    "promise": promise(),
                }),
                &[],
            ),
        ),
        (
            "Reaction",
            answer(
                json!({
                    "user": reference("Person"), "kind": reaction_kind(), "reacted_at": time(),
                }),
                &[],
            ),
        ),
        (
            "Reactions",
            answer(
                json!({
                    "counts": counts(),
                    "mine": {"type": "array", "items": reaction_kind()},
                    "items": {"type": "array", "items": reference("Reaction")},
                }),
                &[],
            ),
        ),
        ("Promised", answer(json!({"promise": promise()}), &[])),
        ("LiveActivity", answer(with(&deeds, json!({"people": count("Who did any of it.")})), &[])),
        (
            "ActivityDay",
            answer(with(&deeds, json!({"user": reference("Person"), "last_seen_at": time()})), &[]),
        ),
        ("Activity", list("ActivityDay")),
        (
            "Notification",
            answer(
                json!({
                    "id": id(),
                    "kind": {"type": "string", "enum": ["message", "reaction", "role", "invite"]},
                    "circle": optional_reference("NamedCircle"),
                    "message_id": optional(id()),
                    "actor": optional_reference("Person"),
                    "others": count("How many more did it."),
                    "role": optional(role()),
                    "invite": optional(string()),
                    "created_at": time(),
                    "updated_at": time(),
                    "read": {"type": "boolean"},
                }),
                &[],
            ),
        ),
        ("NamedCircle", answer(json!({"id": id(), "name": text(circles::NAME)}), &[])),
        ("Notifications", list("Notification")),
        ("Unread", answer(json!({"unread": count("Unread notifications.")}), &[])),
    ]
}

/// As it is sent: base64url of 32 bytes.
fn invite() -> Value {
    json!({"type": "string", "pattern": "^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$"})
}

/// How many people reacted, by kind; null in an answer that is marked as degraded, when nobody knows.
fn counts() -> Value {
    json!({
        "type": "object",
        "description": "How many people reacted, by kind; kinds that nobody used are left out.",
        "propertyNames": reaction_kind(),
        "additionalProperties": {"type": "integer", "minimum": 1},
    })
}
