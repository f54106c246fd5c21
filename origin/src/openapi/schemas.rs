//! What the routes table does not say of the API: summaries, and the shapes of bodies.
//!
//! Bounds of texts are the domains' own; that a schema fits what a handler answers is for the API's tests to see.

use std::ops::RangeInclusive;

use optimist_shared::reactions::KINDS;
use serde_json::{Value, json};

use crate::{auth, circles, journal, me, messages};

/// A route's summary, its success, and the schemas of its answer and its body.
pub struct Described {
    pub route: &'static str,
    pub summary: &'static str,
    pub status: u16,
    pub answer: Option<&'static str>,
    pub body: Option<&'static str>,
    pub notes: &'static str,
}

impl Described {
    const fn new(
        route: &'static str,
        status: u16,
        answer: Option<&'static str>,
        summary: &'static str,
    ) -> Self {
        Described { route, summary, status, answer, body: None, notes: "" }
    }

    const fn body(mut self, body: &'static str) -> Self {
        self.body = Some(body);
        self
    }

    const fn notes(mut self, notes: &'static str) -> Self {
        self.notes = notes;
        self
    }
}

const fn shows(route: &'static str, answer: &'static str, summary: &'static str) -> Described {
    Described::new(route, 200, Some(answer), summary)
}

const fn makes(route: &'static str, answer: &'static str, summary: &'static str) -> Described {
    Described::new(route, 201, Some(answer), summary)
}

const fn ends(route: &'static str, summary: &'static str) -> Described {
    Described::new(route, 204, None, summary)
}

pub const DESCRIPTIONS: &[Described] = &[
    shows("openapi", "Document", "This document."),
    makes("auth.register", "Opened", "Create an account and open a session.").body("Register"),
    shows("auth.login", "Opened", "Open a session.")
        .body("Login")
        .notes("An unknown e-mail and a wrong password are answered alike. Attempts are limited by account and by address."),
    shows("auth.refresh", "Refreshed", "Open the session that succeeds another.").body("Refresh").notes(
        "Safe to repeat when the answer was lost: the same successor is answered until it is first used, and for 60 \
         seconds more. A refresh token that is shown later revokes every session that came from the same log-in.",
    ),
    ends("auth.logout", "End the session, and all that it could be refreshed from or to."),
    shows("auth.session", "SessionInfo", "Whose the session is, and how long it lasts."),
    shows("me.get", "Me", "The caller's account."),
    shows("me.update", "Me", "Change the caller's account.").body("UpdateMe"),
    shows("me.limits", "Limits", "Each limit of the caller, what is left and when it resets."),
    shows("sessions.list", "Sessions", "The caller's sessions, newest first."),
    ends("sessions.revoke", "End one of the caller's sessions, and all that it could be refreshed from or to."),
    shows("users.get", "Profile", "What everyone may see of an account."),
    makes("circles.create", "CircleWithRole", "Create a circle and own it.").body("CreateCircle"),
    shows("circles.discover", "Circles", "Public circles, newest first.")
        .notes("The first page may be up to a quarter of an hour old."),
    shows("circles.get", "CircleWithRole", "A circle, and the caller's role in it."),
    shows("circles.update", "CircleWithRole", "Change a circle.").body("UpdateCircle"),
    ends("circles.archive", "Archive a circle.")
        .notes("Members may still read it, and leave; for others it does not exist any more, and nothing in it changes."),
    shows("members.list", "Members", "The members of a circle, longest first."),
    makes("members.join", "CircleWithRole", "Join a circle.")
        .body("Join")
        .notes("A private circle takes an invitation, which is used up. Who is a member already is answered 200."),
    ends("members.leave", "Leave a circle.").notes("The owner hands the circle over first."),
    shows("members.update", "Member", "Change a member's role.").body("UpdateMember").notes(
        "Moderators make members moderators, and may step down. Only the owner does more: `owner` hands the circle over, \
         and makes the former owner a moderator.",
    ),
    ends("members.remove", "Remove a member, or ban someone.")
        .notes("Moderators act on members, the owner on everyone else."),
    makes("invites.create", "Invite", "Invite one person, within seven days.").body("CreateInvite"),
    makes("messages.post", "Message", "Post a message.").body("WriteMessage"),
    shows("messages.list", "Messages", "A circle's messages, newest first."),
    shows("messages.get", "Message", "One message."),
    shows("messages.edit", "Message", "Change one's own message.").body("WriteMessage"),
    ends("messages.delete", "Delete a message: one's own, or as a moderator anyone's."),
    Described::new("reactions.add", 202, Some("Reacted"), "React to a message.").notes(REACTED),
    Described::new("reactions.remove", 202, Some("Reacted"), "Take a reaction back.").notes(REACTED),
    shows("reactions.list", "Reactions", "A message's reactions: counts, the caller's own, and the newest hundred."),
    shows("drafts.save", "SavedDraft", "Save a draft.").body("SaveDraft").notes(
        "`base_version` is the version that the text was based on, null for a new draft. If that is not the current one, the \
         text is kept as a draft of its own, and 409 shows both. Of one draft a save in every two minutes counts against the \
         limit; all are stored.",
    ),
    shows("drafts.list", "Drafts", "The caller's drafts, newest first."),
    shows("drafts.get", "Draft", "A draft."),
    ends("drafts.discard", "Discard a draft."),
    makes("journal.save", "Entry", "Save a journal entry, and clear its draft.").body("SaveEntry"),
    shows("journal.list", "Entries", "The caller's entries, by their days, newest first."),
    shows("journal.get", "Entry", "An entry."),
    shows("journal.edit", "Entry", "Change an entry. What it said before is kept.").body("EditEntry"),
    ends("journal.delete", "Delete an entry, with what it said before."),
    shows("journal.prompts", "Prompts", "What one might write about."),
    shows("journal.streak", "Streak", "How many days in a row the caller has written, in their own time zone."),
    shows("journal.tags", "Tags", "Tags of the caller's newest entries."),
    makes("mood.log", "Mood", "Log a mood.").body("LogMood"),
    shows("mood.list", "Moods", "The caller's moods, newest first."),
    shows("admin.jobs", "Jobs", "The region's jobs, and how they went. For administrators."),
    shows("admin.policies", "Policies", "The tables of routes, keys and limits. For administrators."),
];

const REACTED: &str = "Safe to repeat. `promise` says where it is safe: in Redis as that is configured, on its way to \
                       Postgres within a second or so, or in Postgres.";

/// The domains, as the document groups operations.
pub fn tags() -> Value {
    let tags = [
        ("openapi", "This document."),
        ("auth", "Accounts and sessions: registering, logging in and out, refreshing."),
        ("me", "The caller's own account and limits."),
        ("sessions", "Where the caller is logged in."),
        ("users", "Other people."),
        ("circles", "Communities, public or private."),
        ("members", "Who is in a circle, and as what."),
        ("invites", "Ways into a private circle."),
        ("messages", "What is said in a circle. Each message has a number there."),
        ("reactions", "How people take a message. Counts are live."),
        ("drafts", "Journal entries while they are written. Sealed, as all of a journal is."),
        ("journal", "Private entries, prompts, tags and streaks."),
        ("mood", "How one feels."),
        ("admin", "How the service does, for its administrators."),
    ];
    tags.iter().map(|(name, description)| json!({"name": name, "description": description})).collect()
}

fn text(bounds: RangeInclusive<usize>) -> Value {
    json!({"type": "string", "minLength": bounds.start(), "maxLength": bounds.end()})
}

/// The same, or null.
fn optional(mut schema: Value) -> Value {
    schema["type"] = json!([schema["type"].take(), "null"]);
    if let Some(values) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        values.push(Value::Null);
    }
    schema
}

/// What the origin answers: every property is always there, unless it is named in `but`.
fn answer(properties: Value, but: &[&str]) -> Value {
    let names = properties.as_object().into_iter().flat_map(|members| members.keys());
    let required: Vec<&String> = names.filter(|name| !but.contains(&name.as_str())).collect();
    json!({"type": "object", "required": required, "properties": properties})
}

/// A request's body, in which unknown fields are refused.
fn request(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false})
}

fn list(item: &str) -> Value {
    let next = json!({"type": ["string", "null"], "description": "The cursor of the page that follows."});
    let items = json!({"type": "array", "items": reference(item)});
    answer(json!({"items": items, "next": next}), &[])
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

pub fn reaction_kind() -> Value {
    json!({"type": "string", "enum": KINDS})
}

/// Properties, and more of them.
fn with(properties: &Value, more: Value) -> Value {
    let all = [properties.clone(), more].into_iter();
    all.flat_map(|part| part.as_object().cloned().unwrap_or_default()).collect()
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

/// `codes` are all that a problem may have.
pub fn components(codes: &[&str]) -> Value {
    let string = || json!({"type": "string"});
    let id = || json!({"type": "string", "format": "uuid"});
    let time = || json!({"type": "string", "format": "date-time"});
    let count = |description: &str| json!({"type": "integer", "minimum": 0, "description": description});
    let seconds_left = || count("Seconds until it is over if it stays idle.");
    let visibility = || json!({"type": "string", "enum": ["public", "private"]});
    let role = || json!({"type": "string", "enum": ["owner", "moderator", "member"]});
    let zone = || json!({"type": "string", "description": "The IANA name of a time zone: `Europe/Vienna`."});
    let day = || json!({"type": "string", "format": "date"});
    let mood = || json!({"type": "integer", "minimum": 1, "maximum": 5});
    let tags = || {
        let tag = text(journal::TAG);
        json!({"type": "array", "maxItems": journal::TAGS, "items": tag})
    };
    let written =
        json!({"title": optional(text(journal::TITLE)), "tags": optional(tags()), "mood": optional(mood())});
    let shown = json!({
        "title": text(journal::TITLE), "body": text(journal::BODY), "tags": tags(), "mood": optional(mood()),
        "prompt_id": optional(id()),
    });
    let session = answer(json!({"token": string(), "expires_in": seconds_left()}), &[]);
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
    let mut circle_with_role = circle.clone();
    circle_with_role["role"] = optional(role());
    let field_error = json!({
        "field": {"type": "string", "description": "A field of the body, a parameter, or a header."},
        "reason": string(),
    });
    let schemas = [
        (
            "Problem",
            answer(
                json!({
                    "type": {"type": "string", "format": "uri", "description": "`urn:optimist:problem:` and the code."},
                    "title": string(),
                    "status": {"type": "integer"},
                    "code": {"type": "string", "enum": codes, "description": "Stable, for programs."},
                    "detail": string(),
                    "errors": {"type": "array", "items": answer(field_error, &[])},
                    "limit": {"type": "string", "description": "The policy that refused, as `RateLimit-Policy` names it."},
                    "request_id": string(),
                }),
                &["detail", "errors", "limit"],
            ),
        ),
        ("Document", json!({"type": "object"})),
        (
            "Register",
            request(
                &["email", "password", "name"],
                json!({
                    "email": {"type": "string", "format": "email", "maxLength": 254},
                    "password": text(auth::SHORTEST_PASSWORD..=auth::LONGEST_PASSWORD),
                    "name": text(me::NAME),
                    "time_zone": optional(zone()),
                }),
            ),
        ),
        (
            "Login",
            request(
                &["email", "password"],
                json!({
                    "email": {"type": "string", "format": "email", "maxLength": 254},
                    "password": text(1..=auth::LONGEST_PASSWORD),
                }),
            ),
        ),
        ("Refresh", request(&["refresh_token"], json!({"refresh_token": string()}))),
        (
            "Opened",
            answer(json!({"user": reference("Me"), "session": session, "refresh_token": string()}), &[]),
        ),
        ("Refreshed", answer(json!({"session": session, "refresh_token": string()}), &[])),
        (
            "SessionInfo",
            answer(json!({"user_id": id(), "session_id": id(), "expires_in": seconds_left()}), &[]),
        ),
        (
            "Me",
            answer(
                json!({
                    "id": id(), "email": string(), "name": text(me::NAME), "bio": text(me::BIO), "time_zone": zone(),
                    "email_verified": {"type": "boolean"}, "created_at": time(), "updated_at": time(),
                }),
                &[],
            ),
        ),
        (
            "UpdateMe",
            request(
                &[],
                json!({
                    "name": optional(text(me::NAME)), "bio": optional(text(me::BIO)), "time_zone": optional(zone()),
                }),
            ),
        ),
        (
            "Profile",
            answer(
                json!({"id": id(), "name": text(me::NAME), "bio": text(me::BIO), "created_at": time()}),
                &[],
            ),
        ),
        (
            "LimitState",
            answer(
                json!({
                    "name": string(),
                    "policy": {"type": "string", "description": "As `RateLimit` and `RateLimit-Policy` name it."},
                    "limit": count("Admitted in any window."),
                    "window_seconds": count("The window's length."),
                    "remaining": count("Admitted at once."),
                    "resets_in": count("Seconds until at least one more is."),
                }),
                &[],
            ),
        ),
        ("Limits", list("LimitState")),
        (
            "Session",
            answer(
                json!({
                    "id": id(), "created_at": time(), "expires_at": time(), "user_agent": optional(string()),
                    "current": {"type": "boolean", "description": "The one that asks."},
                }),
                &[],
            ),
        ),
        ("Sessions", list("Session")),
        ("Circle", answer(circle, &[])),
        ("Circles", list("Circle")),
        ("CircleWithRole", answer(circle_with_role, &[])),
        (
            "CreateCircle",
            request(
                &["name", "visibility"],
                json!({
                    "name": text(circles::NAME),
                    "description": optional(text(circles::DESCRIPTION)),
                    "rules": optional(text(circles::RULES)),
                    "visibility": visibility(),
                }),
            ),
        ),
        (
            "UpdateCircle",
            request(
                &[],
                json!({
                    "name": optional(text(circles::NAME)),
                    "description": optional(text(circles::DESCRIPTION)),
                    "rules": optional(text(circles::RULES)),
                    "visibility": optional(visibility()),
                }),
            ),
        ),
        ("Person", answer(json!({"id": id(), "name": text(me::NAME)}), &[])),
        ("Member", answer(json!({"user": reference("Person"), "role": role(), "joined_at": time()}), &[])),
        ("Members", list("Member")),
        ("Join", request(&[], json!({"invite": optional(string())}))),
        ("UpdateMember", request(&["role"], json!({"role": role()}))),
        ("CreateInvite", request(&[], json!({}))),
        ("Invite", answer(json!({"invite": string(), "expires_at": time()}), &[])),
        ("WriteMessage", request(&["body"], json!({"body": text(messages::BODY)}))),
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
                    "promise": {"type": "string", "enum": ["redis", "postgres"]},
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
        (
            "SaveDraft",
            request(
                &["body", "base_version"],
                with(
                    &written,
                    json!({
                        "body": text(journal::BODY), "prompt_id": optional(id()), "base_version": optional(string()),
                    }),
                ),
            ),
        ),
        (
            "SavedDraft",
            answer(
                json!({
                    "version": string(), "saved_at": time(), "promise": {"type": "string", "enum": ["redis", "postgres"]},
                }),
                &[],
            ),
        ),
        (
            "Draft",
            answer(
                with(
                    &shown,
                    json!({
                        "id": id(), "version": string(), "sibling_of": optional(id()), "saved_at": time(),
                    }),
                ),
                &[],
            ),
        ),
        ("Drafts", list("Draft")),
        (
            "DraftConflict",
            answer(
                json!({
                    "type": string(), "title": string(), "status": {"type": "integer"}, "code": string(), "detail": string(),
                    "request_id": string(), "sibling": reference("Draft"),
                    "current": {"oneOf": [reference("Draft"), {"type": "null"}]},
                }),
                &[],
            ),
        ),
        (
            "SaveEntry",
            request(
                &["body"],
                with(
                    &written,
                    json!({
                        "body": text(1..=*journal::BODY.end()), "prompt_id": optional(id()), "draft_id": optional(id()),
                        "entry_date": optional(day()),
                    }),
                ),
            ),
        ),
        (
            "EditEntry",
            request(
                &[],
                with(
                    &written,
                    json!({
                        "body": optional(text(1..=*journal::BODY.end())), "entry_date": optional(day()),
                    }),
                ),
            ),
        ),
        (
            "Entry",
            answer(
                with(
                    &shown,
                    json!({
                        "id": id(), "entry_date": day(), "created_at": time(), "updated_at": time(),
                    }),
                ),
                &[],
            ),
        ),
        ("Entries", list("Entry")),
        ("Prompt", answer(json!({"id": id(), "category": string(), "body": string()}), &[])),
        ("Prompts", list("Prompt")),
        (
            "Streak",
            answer(
                json!({
                    "current": count("Days in a row up to today or yesterday."), "longest": count("The longest there was."),
                    "last_entry_date": optional(day()), "today": day(), "time_zone": zone(),
                }),
                &[],
            ),
        ),
        (
            "Tags",
            answer(
                json!({
                    "items": {"type": "array", "items": string()}, "next": {"type": "null"},
                }),
                &[],
            ),
        ),
        (
            "LogMood",
            request(
                &["score"],
                json!({
                    "score": {"type": "integer", "minimum": 1, "maximum": 5}, "emotions": optional(tags()),
                    "note": optional(text(journal::NOTE)), "tags": optional(tags()), "logged_at": optional(time()),
                }),
            ),
        ),
        (
            "Mood",
            answer(
                json!({
                    "id": id(), "score": {"type": "integer", "minimum": 1, "maximum": 5}, "emotions": tags(), "tags": tags(),
                    "note": text(journal::NOTE), "logged_at": time(),
                }),
                &[],
            ),
        ),
        ("Moods", list("Mood")),
        (
            "Job",
            answer(
                json!({
                    "name": string(),
                    "what": string(),
                    "every_seconds": count("Seconds from one start to the next."),
                    "started_at": optional(time()),
                    "finished_at": optional(time()),
                    "done": optional(count("Rows dealt with.")),
                    "error": optional(string()),
                }),
                &[],
            ),
        ),
        ("Jobs", list("Job")),
        (
            "Policies",
            answer(
                json!({
                    "routes": {"type": "array", "items": {"type": "object"}},
                    "keys": {"type": "array", "items": {"type": "object"}},
                    "limits": {"type": "array", "items": {"type": "object"}},
                }),
                &[],
            ),
        ),
    ];
    schemas
        .into_iter()
        .map(|(name, schema)| (name.to_owned(), schema))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
