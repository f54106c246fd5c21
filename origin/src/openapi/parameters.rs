//! What an operation takes besides its body: ids in its path, its query, its conditions.

use optimist_shared::envelope::{DEFAULT_LIMIT, LIST_LIMIT};
use optimist_shared::routes::{Method, Route};
use serde_json::{Value, json};

use super::schemas;

/// Whether a repetition is answered as the first time. Other POSTs change nothing when they are repeated, but for those
/// that open sessions.
pub fn takes_idempotency_key(route: &Route) -> bool {
    const KEYED: [&str; 6] =
        ["circles.create", "members.join", "invites.create", "messages.post", "journal.save", "mood.log"];
    KEYED.contains(&route.name)
}

pub fn takes_if_match(route: &Route) -> bool {
    route.method == Method::Patch && route.name != "members.update"
}

/// The query's name of a list's cursor.
fn cursor_name(route: &Route) -> Option<&'static str> {
    match route.name {
        "messages.list" | "notifications.list" => Some("before"),
        "circles.discover" | "members.list" | "activity.history" | "drafts.list" | "journal.list"
        | "journal.prompts" | "mood.list" => Some("cursor"),
        _ => None,
    }
}

/// What a list can be narrowed by.
fn filters(route: &Route) -> Vec<(&'static str, &'static str, Value)> {
    let day = || json!({"type": "string", "format": "date"});
    match route.name {
        "journal.prompts" => vec![("category", "Of this category alone.", schemas::sought())],
        "journal.list" => vec![
            ("tag", "With this tag.", schemas::sought()),
            ("mood", "With this mood.", json!({"type": "integer", "minimum": 1, "maximum": 5})),
            ("from", "Of this day or later.", day()),
            ("to", "Of this day or earlier.", day()),
        ],
        _ => Vec::new(),
    }
}

fn in_path(name: &str) -> Value {
    let schema = match name {
        "kind" => schemas::reaction_kind(),
        "key" => {
            json!({"type": "string", "minLength": 1, "description": "As `GET /v1/admin/policies` describes keys."})
        }
        _ => schemas::id(),
    };
    json!({"name": name, "in": "path", "required": true, "schema": schema})
}

/// `is_tagged` says whether its answer has an entity tag.
pub fn of(route: &Route, is_tagged: bool) -> Vec<Value> {
    let names = route.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = names.map(in_path).collect();
    let mut add = |place: &str, name: &str, description: &str, schema: Value| {
        parameters.push(json!({"name": name, "in": place, "description": description, "schema": schema}));
    };
    if let Some(cursor) = cursor_name(route) {
        let limit = json!({"type": "integer", "minimum": 1, "maximum": LIST_LIMIT, "default": DEFAULT_LIMIT});
        add("query", "limit", "Items in the page.", limit);
        let after = json!({"type": "string", "format": "cursor"});
        add("query", cursor, "The `next` of the page before.", after);
    }
    for (name, description, schema) in filters(route) {
        add("query", name, description, schema);
    }
    if route.name == "members.remove" {
        let description =
            "`true` also keeps them out, `false` also lifts a ban; without it a ban stays as it is.";
        add("query", "ban", description, json!({"type": "boolean"}));
    }
    if route.method == Method::Get && is_tagged {
        add("header", "If-None-Match", "Entity tags of what the client has.", schemas::string());
    }
    if takes_if_match(route) {
        let description = "The entity tag of the version to change, and no other.";
        add("header", "If-Match", description, schemas::string());
    }
    if takes_idempotency_key(route) {
        let key = json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"});
        let description =
            "Makes the request safe to repeat for 24 hours: it is done once, and answered the same.";
        add("header", "Idempotency-Key", description, key);
    }
    parameters
}
