//! The parameters of an operation besides its body: ids in its path, its query, its conditions.

use optimist_shared::envelope::{DEFAULT_LIMIT, LIST_LIMIT};
use optimist_shared::routes::{Method, Route};
use serde_json::{Value, json};

use super::schemas::Schemas;
use super::{Filter, Operation};

pub fn of(route: &Route, operation: &Operation, schemas: &mut Schemas) -> Vec<Value> {
    let names = route.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let in_path = |name: &str| {
        let shape = operation.path.iter().find(|(known, _)| *known == name);
        let id = || json!({"type": "string", "format": "uuid"});
        let schema = shape.map_or_else(id, |(_, shape)| schemas.of_request(*shape).0);
        json!({"name": name, "in": "path", "required": true, "schema": schema})
    };
    let mut parameters: Vec<Value> = names.map(in_path).collect();
    if let Some(cursor) = operation.cursor {
        let limit = json!({"type": "integer", "minimum": 1, "maximum": LIST_LIMIT, "default": DEFAULT_LIMIT});
        parameters.push(optional("query", "limit", "Items in the page.", limit));
        let after = json!({"type": "string", "format": "cursor"});
        parameters.push(optional("query", cursor, "The `next` of the page before.", after));
    }
    for Filter { name, description, shape, is_required } in &operation.filters {
        let schema = schemas.of_request(*shape).0;
        let mut parameter = optional("query", name, description, schema);
        if *is_required {
            parameter["required"] = true.into();
        }
        parameters.push(parameter);
    }
    let text = || json!({"type": "string"});
    if route.method == Method::Get && operation.is_tagged {
        parameters.push(optional("header", "If-None-Match", "Entity tags of what the client has.", text()));
    }
    if operation.takes_if_match(route) {
        parameters.push(optional(
            "header",
            "If-Match",
            "The entity tag of the version to change, and no other.",
            text(),
        ));
    }
    if operation.is_idempotent {
        let key = json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"});
        let description =
            "Makes the request safe to repeat for 24 hours: it is done once, and answered the same.";
        parameters.push(optional("header", "Idempotency-Key", description, key));
    }
    parameters
}

fn optional(place: &str, name: &str, description: &str, schema: Value) -> Value {
    json!({"name": name, "in": place, "description": description, "schema": schema})
}
