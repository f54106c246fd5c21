//! What the routes table does not say of the API: summaries, and the shapes of bodies.

use serde_json::{Value, json};

/// A route's summary, its success, and the schemas of its answer and its body.
pub struct Described {
    pub route: &'static str,
    pub summary: &'static str,
    pub status: u16,
    pub answer: Option<&'static str>,
    pub body: Option<&'static str>,
}

const fn described(
    route: &'static str,
    summary: &'static str,
    status: u16,
    answer: Option<&'static str>,
    body: Option<&'static str>,
) -> Described {
    Described { route, summary, status, answer, body }
}

pub const DESCRIPTIONS: &[Described] = &[
    described("openapi", "This document.", 200, Some("Document"), None),
    described(
        "auth.register",
        "Create an account and open a session.",
        201,
        Some("Opened"),
        Some("Register"),
    ),
    described("auth.login", "Open a session.", 200, Some("Opened"), Some("Login")),
    described(
        "auth.refresh",
        "Open the session that succeeds another.",
        200,
        Some("Refreshed"),
        Some("Refresh"),
    ),
    described("auth.logout", "End the session and what it could be refreshed to.", 204, None, None),
    described(
        "auth.session",
        "Who the session belongs to, and how long it lasts.",
        200,
        Some("SessionInfo"),
        None,
    ),
    described("me.get", "The caller's account.", 200, Some("Me"), None),
    described("me.update", "Change the caller's account.", 200, Some("Me"), Some("UpdateMe")),
    described(
        "me.limits",
        "Each limit of the caller, what is left and when it resets.",
        200,
        Some("Limits"),
        None,
    ),
    described("sessions.list", "The caller's sessions.", 200, Some("Sessions"), None),
    described("sessions.revoke", "End one of the caller's sessions.", 204, None, None),
    described("users.get", "What everyone may see of an account.", 200, Some("Profile"), None),
    described(
        "circles.create",
        "Create a circle and own it.",
        201,
        Some("CircleWithRole"),
        Some("CreateCircle"),
    ),
    described("circles.discover", "Public circles, newest first.", 200, Some("Circles"), None),
    described("circles.get", "A circle, and the caller's role in it.", 200, Some("CircleWithRole"), None),
    described("circles.update", "Change a circle.", 200, Some("CircleWithRole"), Some("UpdateCircle")),
    described(
        "circles.archive",
        "Archive a circle: it can be read, and nothing in it changes any more.",
        204,
        None,
        None,
    ),
    described("members.list", "The members of a circle, longest first.", 200, Some("Members"), None),
    described(
        "members.join",
        "Join a circle; a private one with an invitation.",
        201,
        Some("CircleWithRole"),
        Some("Join"),
    ),
    described("members.leave", "Leave a circle.", 204, None, None),
    described(
        "members.update",
        "Change a member's role; `owner` hands the circle over.",
        200,
        Some("Member"),
        Some("UpdateMember"),
    ),
    described("members.remove", "Remove a member, or ban someone.", 204, None, None),
    described(
        "invites.create",
        "Invite one person, within seven days.",
        201,
        Some("Invite"),
        Some("CreateInvite"),
    ),
    described("messages.post", "Post a message.", 201, Some("Message"), Some("WriteMessage")),
    described("messages.list", "A circle's messages, newest first.", 200, Some("Messages"), None),
    described("messages.get", "One message.", 200, Some("Message"), None),
    described("messages.edit", "Change one's own message.", 200, Some("Message"), Some("WriteMessage")),
    described("messages.delete", "Delete a message: one's own, or anyone's as a moderator.", 204, None, None),
];

fn text(least: u32, most: u32) -> Value {
    json!({"type": "string", "minLength": least, "maxLength": most})
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties})
}

/// A request's body, in which unknown fields are refused.
fn request(required: &[&str], properties: Value) -> Value {
    let mut schema = object(required, properties);
    schema["additionalProperties"] = json!(false);
    schema
}

fn list(item: &str) -> Value {
    object(
        &["items", "next"],
        json!({
            "items": {"type": "array", "items": {"$ref": format!("#/components/schemas/{item}")}},
            "next": {"type": ["string", "null"], "description": "The cursor of the next page."},
        }),
    )
}

pub fn components() -> Value {
    let id = || json!({"type": "string", "format": "uuid"});
    let time = || json!({"type": "string", "format": "date-time"});
    let maybe_time = || json!({"type": ["string", "null"], "format": "date-time"});
    let reference = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let session = object(
        &["token", "expires_in"],
        json!({
            "token": {"type": "string"},
            "expires_in": {"type": "integer", "description": "Seconds until it is over if it stays idle."},
        }),
    );
    let email = json!({"type": "string", "format": "email", "maxLength": 254});
    let password = || json!({"type": "string", "minLength": 10, "maxLength": 200});
    let visibility = || json!({"type": "string", "enum": ["public", "private"]});
    let role = || json!({"type": "string", "enum": ["owner", "moderator", "member"]});
    let circle = json!({
        "id": id(), "name": text(1, 80), "description": text(0, 2000), "rules": text(0, 8000),
        "visibility": visibility(), "owner_id": id(), "member_count": {"type": "integer"},
        "archived_at": maybe_time(), "created_at": time(), "updated_at": time(),
    });
    let mut circle_with_role = circle.clone();
    circle_with_role["role"] =
        json!({"type": ["string", "null"], "enum": ["owner", "moderator", "member", null]});
    let circle_fields = [
        "id",
        "name",
        "description",
        "rules",
        "visibility",
        "owner_id",
        "member_count",
        "archived_at",
        "created_at",
        "updated_at",
    ];
    let circle_with_role_fields: Vec<&str> = circle_fields.iter().copied().chain(["role"]).collect();
    json!({
        "Problem": object(&["type", "title", "status", "code", "request_id"], json!({
            "type": {"type": "string", "format": "uri"}, "title": {"type": "string"}, "status": {"type": "integer"},
            "code": {"type": "string", "description": "Stable, for programs."}, "detail": {"type": "string"},
            "errors": {"type": "array", "items": object(&["field", "reason"], json!({"field": {"type": "string"}, "reason": {"type": "string"}}))},
            "limit": {"type": "string", "description": "The limit that refused."}, "request_id": {"type": "string"},
        })),
        "Document": {"type": "object"},
        "Register": request(&["email", "password", "name"], json!({
            "email": email, "password": password(), "name": text(1, 80),
            "time_zone": {"type": ["string", "null"], "description": "An IANA name."},
        })),
        "Login": request(&["email", "password"], json!({"email": {"type": "string"}, "password": {"type": "string"}})),
        "Refresh": request(&["refresh_token"], json!({"refresh_token": {"type": "string"}})),
        "Opened": object(&["user", "session", "refresh_token"], json!({
            "user": reference("Me"), "session": session, "refresh_token": {"type": "string"},
        })),
        "Refreshed": object(&["session", "refresh_token"], json!({"session": session, "refresh_token": {"type": "string"}})),
        "SessionInfo": object(&["user_id", "session_id", "expires_in"], json!({
            "user_id": id(), "session_id": id(), "expires_in": {"type": "integer"},
        })),
        "Me": object(&["id", "email", "name", "bio", "time_zone", "email_verified", "created_at", "updated_at"], json!({
            "id": id(), "email": {"type": "string"}, "name": text(1, 80), "bio": text(0, 1000),
            "time_zone": {"type": "string"}, "email_verified": {"type": "boolean"}, "created_at": time(), "updated_at": time(),
        })),
        "UpdateMe": request(&[], json!({
            "name": {"type": ["string", "null"], "minLength": 1, "maxLength": 80},
            "bio": {"type": ["string", "null"], "maxLength": 1000}, "time_zone": {"type": ["string", "null"]},
        })),
        "Profile": object(&["id", "name", "bio", "created_at"], json!({
            "id": id(), "name": text(1, 80), "bio": text(0, 1000), "created_at": time(),
        })),
        "LimitState": object(&["name", "policy", "limit", "window_seconds", "remaining", "resets_in"], json!({
            "name": {"type": "string"}, "policy": {"type": "string"}, "limit": {"type": "integer"},
            "window_seconds": {"type": "integer"}, "remaining": {"type": "integer"},
            "resets_in": {"type": "integer", "description": "Seconds until more is available."},
        })),
        "Limits": list("LimitState"),
        "Session": object(&["id", "created_at", "expires_at", "user_agent", "current"], json!({
            "id": id(), "created_at": time(), "expires_at": time(), "user_agent": {"type": ["string", "null"]},
            "current": {"type": "boolean"},
        })),
        "Sessions": list("Session"),
        "Circle": object(&circle_fields, circle),
        "Circles": list("Circle"),
        "CircleWithRole": object(&circle_with_role_fields, circle_with_role),
        "CreateCircle": request(&["name", "visibility"], json!({
            "name": text(1, 80), "description": {"type": ["string", "null"], "maxLength": 2000},
            "rules": {"type": ["string", "null"], "maxLength": 8000}, "visibility": visibility(),
        })),
        "UpdateCircle": request(&[], json!({
            "name": {"type": ["string", "null"], "minLength": 1, "maxLength": 80},
            "description": {"type": ["string", "null"], "maxLength": 2000},
            "rules": {"type": ["string", "null"], "maxLength": 8000},
            "visibility": {"type": ["string", "null"], "enum": ["public", "private", null]},
        })),
        "Person": object(&["id", "name"], json!({"id": id(), "name": text(1, 80)})),
        "Member": object(&["user", "role", "joined_at"], json!({"user": reference("Person"), "role": role(), "joined_at": time()})),
        "Members": list("Member"),
        "Join": request(&[], json!({"invite": {"type": ["string", "null"]}})),
        "UpdateMember": request(&["role"], json!({"role": role()})),
        "CreateInvite": request(&[], json!({})),
        "Invite": object(&["invite", "expires_at"], json!({"invite": {"type": "string"}, "expires_at": time()})),
        "WriteMessage": request(&["body"], json!({"body": text(1, 8000)})),
        "Message": object(&["id", "circle_id", "number", "author", "body", "created_at", "edited_at"], json!({
            "id": id(), "circle_id": id(), "number": {"type": "integer", "description": "Its place within the circle, from 1."},
            "author": reference("Person"), "body": text(1, 8000), "created_at": time(), "edited_at": maybe_time(),
        })),
        "Messages": list("Message"),
    })
}
