//! What can be done with an answer: OpenAPI links, from one operation's success to another's parameters and body.
//!
//! The natural next steps alone. That names lead somewhere is for the tests to see.

use serde_json::{Map, Value, json};

/// From an operation's success to another operation, with where its parameters come from and what its body may be.
pub struct Link {
    pub from: &'static str,
    pub to: &'static str,
    pub parameters: &'static [(&'static str, &'static str)],
    /// A body's fields: a runtime expression, or a text as it stands.
    pub body: &'static [(&'static str, &'static str)],
}

const fn link(
    from: &'static str,
    to: &'static str,
    parameters: &'static [(&'static str, &'static str)],
) -> Link {
    Link { from, to, parameters, body: &[] }
}

const fn with_body(
    from: &'static str,
    to: &'static str,
    parameters: &'static [(&'static str, &'static str)],
    body: &'static [(&'static str, &'static str)],
) -> Link {
    Link { from, to, parameters, body }
}

const ID: &str = "$response.body#/id";
const FIRST_ID: &str = "$response.body#/items/0/id";
const CIRCLE: (&str, &str) = ("circle", "$request.path.circle");
const MESSAGE: (&str, &str) = ("message", "$request.path.message");
const NEW_CIRCLE: &[(&str, &str)] = &[("circle", ID)];
const NEW_MESSAGE: &[(&str, &str)] = &[CIRCLE, ("message", ID)];
const FIRST_MESSAGE: &[(&str, &str)] = &[CIRCLE, ("message", FIRST_ID)];
const SAME_MESSAGE: &[(&str, &str)] = &[CIRCLE, MESSAGE];
const SAME_DRAFT: &[(&str, &str)] = &[("draft", "$request.path.draft")];
const REFRESH: &[(&str, &str)] = &[("refresh_token", "$response.body#/refresh_token")];

/// The table.
#[rustfmt::skip] // One line a row.
pub const LINKS: &[Link] = &[
    with_body("auth.register", "auth.refresh", &[], REFRESH),
    link("auth.register", "users.get", &[("user", "$response.body#/user/id")]),
    with_body("auth.login", "auth.refresh", &[], REFRESH),
    with_body("auth.refresh", "auth.refresh", &[], REFRESH),
    link("sessions.list", "sessions.revoke", &[("session", FIRST_ID)]),
    link("circles.create", "circles.get", NEW_CIRCLE),
    link("circles.create", "circles.update", NEW_CIRCLE),
    link("circles.create", "circles.archive", NEW_CIRCLE),
    link("circles.create", "invites.create", NEW_CIRCLE),
    link("circles.create", "members.list", NEW_CIRCLE),
    link("circles.create", "messages.post", NEW_CIRCLE),
    link("circles.create", "messages.list", NEW_CIRCLE),
    link("circles.create", "visits.record", NEW_CIRCLE),
    link("circles.create", "activity.live", NEW_CIRCLE),
    link("circles.discover", "circles.get", &[("circle", FIRST_ID)]),
    link("circles.discover", "members.join", &[("circle", FIRST_ID)]),
    with_body("invites.create", "members.join", &[CIRCLE], &[("invite", "$response.body#/invite")]),
    link("members.join", "messages.list", &[CIRCLE]),
    link("members.join", "members.leave", &[CIRCLE]),
    link("members.list", "members.update", &[CIRCLE, ("user", "$response.body#/items/0/user/id")]),
    link("members.list", "users.get", &[("user", "$response.body#/items/0/user/id")]),
    link("messages.post", "messages.get", NEW_MESSAGE),
    link("messages.post", "messages.edit", NEW_MESSAGE),
    link("messages.post", "messages.delete", NEW_MESSAGE),
    link("messages.post", "reactions.add", NEW_MESSAGE),
    link("messages.list", "messages.get", FIRST_MESSAGE),
    link("messages.list", "reactions.list", FIRST_MESSAGE),
    link("reactions.add", "reactions.list", SAME_MESSAGE),
    link("reactions.add", "reactions.remove", &[CIRCLE, MESSAGE, ("kind", "$request.path.kind")]),
    link("notifications.list", "notifications.read", &[("notification", FIRST_ID)]),
    link("drafts.save", "drafts.get", SAME_DRAFT),
    link("drafts.save", "drafts.discard", SAME_DRAFT),
    with_body("drafts.save", "drafts.save", SAME_DRAFT, &[
        ("body", "And on it goes."),
        ("base_version", "$response.body#/version"),
    ]),
    with_body("drafts.save", "journal.save", &[], &[
        ("body", "What it came to."),
        ("draft_id", "$request.path.draft"),
    ]),
    link("drafts.list", "drafts.get", &[("draft", FIRST_ID)]),
    link("journal.save", "journal.get", &[("entry", ID)]),
    link("journal.save", "journal.edit", &[("entry", ID)]),
    link("journal.save", "journal.delete", &[("entry", ID)]),
    link("journal.list", "journal.get", &[("entry", FIRST_ID)]),
];

/// The links of a route's success; nothing if it has none.
pub fn of(route: &str) -> Option<Value> {
    let links: Map<String, Value> = LINKS
        .iter()
        .filter(|link| link.from == route)
        .map(|link| (operation_id(link.to), rendered(link)))
        .collect();
    (!links.is_empty()).then_some(Value::Object(links))
}

pub fn operation_id(route: &str) -> String {
    route.replace(['.', '-'], "_")
}

fn rendered(link: &Link) -> Value {
    let object = |pairs: &[(&str, &str)]| {
        Value::Object(pairs.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect())
    };
    let mut rendered = json!({"operationId": operation_id(link.to)});
    if !link.parameters.is_empty() {
        rendered["parameters"] = object(link.parameters);
    }
    if !link.body.is_empty() {
        rendered["requestBody"] = object(link.body);
    }
    rendered
}
