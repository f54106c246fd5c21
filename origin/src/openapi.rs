//! The OpenAPI 3.1 document: operations, security, limits and errors from the tables, schemas by hand beside them.
//!
//! A route without a description here fails a test, as does a description without a route.

use std::sync::LazyLock;

use axum::http::HeaderMap;
use axum::response::Response;
use optimist_shared::error::ErrorCode;
use optimist_shared::routes::{Caller, Method, Pattern, ROUTES, Route};
use optimist_shared::session::hex;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::app::{Handlers, on};
use crate::body::tagged;
use crate::error::Result;
use crate::policies::pattern;

mod schemas;

static DOCUMENT: LazyLock<String> = LazyLock::new(|| build().to_string());
static VERSION: LazyLock<String> = LazyLock::new(|| hex(&Sha256::digest(DOCUMENT.as_bytes())[..8]));

pub fn routes() -> Handlers {
    vec![on("openapi", serve)]
}

async fn serve(headers: HeaderMap) -> Result<Response> {
    Ok(tagged(&headers, &VERSION, "", DOCUMENT.as_bytes().to_vec()))
}

/// The document, as JSON.
pub fn document() -> &'static str {
    &DOCUMENT
}

fn build() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Optimist",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "People, circles and messages. Times are RFC 3339 in UTC; lists are pages with an opaque cursor; errors are problems (RFC 9457) with a stable code.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "securitySchemes": {"session": {"type": "http", "scheme": "bearer", "description": "A session's opaque token."}},
            "schemas": schemas::components(),
            "headers": headers(),
        },
    })
}

fn headers() -> Value {
    let text = |description: &str| json!({"description": description, "schema": {"type": "string"}});
    json!({
        "ETag": text("The version of what is shown."),
        "Age": {"description": "Seconds since a cached answer was read from the database.", "schema": {"type": "integer", "minimum": 0}},
        "CacheStatus": text("How the edge came by the answer (RFC 9211)."),
        "RateLimit": text("What is left of each limit, and seconds until more is."),
        "RateLimitPolicy": text("Each limit's quota and window in seconds."),
        "RetryAfter": {"description": "Seconds after which to try again.", "schema": {"type": "integer", "minimum": 1}},
        "RequestId": text("The request's id in every log."),
    })
}

fn operation(route: &Route) -> Value {
    let described = schemas::DESCRIPTIONS.iter().find(|described| described.route == route.name);
    let (summary, answer, schema) = described.map_or(("", 200, None), |d| (d.summary, d.status, d.answer));
    let mut responses = Map::new();
    let mut answered = json!({
        "description": summary,
        "headers": {
            "X-Request-Id": {"$ref": "#/components/headers/RequestId"},
            "RateLimit": {"$ref": "#/components/headers/RateLimit"},
            "RateLimit-Policy": {"$ref": "#/components/headers/RateLimitPolicy"},
        },
    });
    if let Some(schema) = schema {
        answered["content"] =
            json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{schema}")}}});
    }
    if route.method == Method::Get && route.pattern != Pattern::RedisOnly {
        for (name, reference) in [("ETag", "ETag"), ("Age", "Age"), ("Cache-Status", "CacheStatus")] {
            answered["headers"][name] = json!({"$ref": format!("#/components/headers/{reference}")});
        }
        responses.insert("304".to_owned(), json!({"description": "As the client has it (If-None-Match)."}));
    }
    responses.insert(answer.to_string(), answered.clone());
    if route.name == "members.join" {
        answered["description"] = json!("A member already.");
        responses.insert("200".to_owned(), answered);
    }
    for code in errors(route) {
        let status = code.status().to_string();
        let entry = responses.entry(status).or_insert_with(|| {
            json!({"description": "", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}})
        });
        let before = entry["description"].as_str().unwrap_or_default().to_owned();
        let separator = if before.is_empty() { "" } else { "; " };
        entry["description"] = json!(format!("{before}{separator}`{}`: {}", code.as_str(), code.title()));
        if matches!(code, ErrorCode::RateLimited | ErrorCode::Unavailable) {
            entry["headers"] = json!({"Retry-After": {"$ref": "#/components/headers/RetryAfter"}});
        }
    }
    let limits: Vec<Value> = route
        .limits
        .iter()
        .map(|limit| limit.row())
        .map(|row| {
            let windows: Vec<Value> =
                row.windows.iter().map(|w| json!({"admitted": w.admitted, "seconds": w.seconds})).collect();
            json!({"name": row.name, "windows": windows})
        })
        .collect();
    let mut operation = json!({
        "operationId": route.name.replace('.', "_"),
        "summary": summary,
        "tags": [route.name.split('.').next().unwrap_or_default()],
        "parameters": parameters(route),
        "responses": responses,
        "security": if route.caller == Caller::Public { json!([]) } else { json!([{"session": []}]) },
        "x-data-pattern": pattern(route.pattern),
        "x-rate-limits": limits,
    });
    if let Some(body) = described.and_then(|described| described.body) {
        operation["requestBody"] = json!({
            "required": !matches!(route.name, "members.join" | "invites.create"),
            "content": {"application/json": {"schema": {"$ref": format!("#/components/schemas/{body}")}}},
        });
    }
    operation
}

/// Every error that a route can answer.
fn errors(route: &Route) -> Vec<ErrorCode> {
    use ErrorCode::*;
    let mut errors =
        vec![RateLimited, Internal, BadGateway, Unavailable, GatewayTimeout, BadRequest, TooLarge];
    if route.caller != Caller::Public {
        errors.push(Unauthenticated);
    }
    match route.name {
        "auth.login" => errors.push(BadCredentials),
        "auth.refresh" => errors.push(Unauthenticated),
        _ => {}
    }
    if route.path.contains('{') {
        errors.push(NotFound);
    }
    if matches!(route.method, Method::Post | Method::Patch | Method::Put) {
        errors.extend([Invalid, UnsupportedMediaType]);
    }
    if route.method == Method::Post && route.caller != Caller::Public {
        errors.push(KeyReused);
    }
    if route.method == Method::Patch {
        errors.push(VersionMismatch);
    }
    if matches!(route.caller, Caller::Member | Caller::Moderator | Caller::Owner)
        || route.name == "members.join"
    {
        errors.extend([Forbidden, Conflict]);
    }
    if route.name == "auth.register" {
        errors.push(Conflict);
    }
    errors
}

fn parameters(route: &Route) -> Vec<Value> {
    let mut parameters: Vec<Value> = route
        .path
        .split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "format": "uuid"}}))
        .collect();
    let cursor = match route.name {
        "messages.list" => Some("before"),
        "circles.discover" | "members.list" => Some("cursor"),
        _ => None,
    };
    if let Some(cursor) = cursor {
        parameters.push(json!({"name": "limit", "in": "query", "description": "Items in the page.",
            "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}}));
        parameters
            .push(json!({"name": cursor, "in": "query", "description": "The `next` of the page before.",
            "schema": {"type": "string"}}));
    }
    if route.name == "members.remove" {
        parameters.push(json!({"name": "ban", "in": "query", "description": "Whether to keep them out.",
            "schema": {"type": "boolean", "default": false}}));
    }
    let header = |name: &str, description: &str, schema: Value| json!({"name": name, "in": "header", "description": description, "schema": schema});
    let text = || json!({"type": "string"});
    if route.method == Method::Get {
        parameters.push(header("If-None-Match", "Tags that the client has.", text()));
    }
    if route.method == Method::Patch && route.name != "members.update" {
        parameters.push(header("If-Match", "The version to change, and no other.", text()));
    }
    if route.method == Method::Post && route.caller != Caller::Public && !route.name.starts_with("auth.") {
        let schema = json!({"type": "string", "minLength": 1, "maxLength": 255});
        parameters.push(header("Idempotency-Key", "Makes the request safe to repeat for 24 hours.", schema));
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let described: BTreeSet<_> = schemas::DESCRIPTIONS.iter().map(|described| described.route).collect();
        let routed: BTreeSet<_> = ROUTES.iter().map(|route| route.name).collect();
        assert_eq!(described, routed);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(members) => {
                    found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    members.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                _ => {}
            }
        }
        let document = build();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    }
}
