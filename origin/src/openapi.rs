//! The OpenAPI 3.1 document: paths, callers, parameters, errors, headers and limits from the tables, so that they cannot
//! drift; summaries and the shapes of bodies by hand, in [`schemas`].
//!
//! A route without a description there fails a test, as does a description without a route.

use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use optimist_shared::error::ErrorCode;
use optimist_shared::limits::{Counts, Scope};
use optimist_shared::routes::{Caller, Method, Pattern, ROUTES, Route};
use serde_json::{Map, Value, json};

use optimist_plane::error::Result;
use optimist_plane::hash::digest;
use optimist_plane::http::body::tagged;
use optimist_plane::http::served::{Served, on};

use crate::operations::policies::{caller, pattern};

mod descriptions;
mod examples;
mod links;
mod parameters;
mod schemas;

use descriptions::{DESCRIPTIONS, Described};

static DOCUMENT: LazyLock<String> = LazyLock::new(|| build().to_string());
/// The document as it is served, and its version.
static SERVED: LazyLock<(Bytes, String)> =
    LazyLock::new(|| (Bytes::from_static(DOCUMENT.as_bytes()), digest(&[DOCUMENT.as_bytes()])));

pub fn routes() -> Vec<Served> {
    vec![on("openapi", serve)]
}

async fn serve(headers: HeaderMap) -> Result<Response> {
    let (json, version) = &*SERVED;
    let mut response = tagged(&headers, version, "", json.clone());
    // The same for everyone, until the next release.
    response.headers_mut().insert("cache-control", HeaderValue::from_static("public, max-age=300"));
    Ok(response)
}

/// The document, as JSON.
pub fn document() -> &'static str {
    &DOCUMENT
}

fn build() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_lowercase()] = operation(route, described(route));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Optimist",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The edge that serves this document."}],
        "tags": descriptions::tags(),
        "paths": paths,
        "components": {
            "securitySchemes": {
                "session": {
                    "type": "http", "scheme": "bearer",
                    "description": "The token of a session, opaque. It ends after 30 idle minutes, or after 30 days.",
                },
            },
            "schemas": schemas::components(&all_codes()),
            "headers": headers(),
        },
    })
}

const DESCRIPTION: &str = "\
People, circles, messages and reactions, notifications, private journals.\n\n\
Times are RFC 3339 in UTC; ids are UUIDs in lower case. Lists are pages: `next` is the cursor of the page that follows, or \
null. Errors are problems (RFC 9457) with a stable `code`. Unknown fields of bodies and parameters of lists are refused. The space around texts \
is dropped, and counts towards their length. `x-rate-limits` are the limits of each operation, `x-data-pattern` says where \
its answer comes from. For strangers and the banned a private \
circle does not exist (404).";

/// What the table does not say of a route; a test sees to it that there is one for each.
fn described(route: &Route) -> &'static Described {
    const UNKNOWN: Described =
        Described { route: "", summary: "", status: 200, answer: None, body: None, notes: "" };
    DESCRIPTIONS.iter().find(|described| described.route == route.name).unwrap_or(&UNKNOWN)
}

/// Headers of answers, by name. Those that are `ALWAYS` there are required wherever they are named.
fn headers() -> Value {
    const ALWAYS: [&str; 5] = ["ETag", "Location", "Retry-After", "WWW-Authenticate", "X-Request-Id"];
    let text = || json!({"type": "string"});
    let seconds = || json!({"type": "integer", "minimum": 0});
    let described = [
        (
            "ETag",
            "The version of what is shown, for `If-None-Match`, and for `If-Match` where it is taken.",
            text(),
        ),
        ("Age", "Seconds since a cached answer was read from the database.", seconds()),
        ("Cache-Status", "How the edge came by the answer (RFC 9211).", text()),
        ("Warning", "`110` when the database cannot be reached and what is shown may be stale.", text()),
        ("Location", "The path of what was created.", text()),
        ("RateLimit", "What is left of each limit, and seconds until more is.", text()),
        ("RateLimit-Policy", "Each limit's quota and window in seconds.", text()),
        ("Retry-After", "Seconds after which to try again.", seconds()),
        ("WWW-Authenticate", "`Bearer`.", text()),
        ("X-Request-Id", "The request's id in every log.", text()),
    ];
    let header = |name: &str, description: &str, schema: Value| json!({"description": description, "required": ALWAYS.contains(&name), "schema": schema});
    let headers = described.into_iter();
    headers
        .map(|(name, description, schema)| (name.to_owned(), header(name, description, schema)))
        .collect::<Map<_, _>>()
        .into()
}

fn reference_headers(names: &[&str]) -> Value {
    let references =
        names.iter().map(|name| (*name, json!({"$ref": format!("#/components/headers/{name}")})));
    Value::Object(references.map(|(name, value)| (name.to_owned(), value)).collect())
}

fn operation(route: &Route, described: &Described) -> Value {
    let mut operation = json!({
        "operationId": links::operation_id(route.name),
        "summary": described.summary,
        "tags": [tag(route)],
        "parameters": parameters::of(route, is_tagged(route, described)),
        "responses": responses(route, described),
        "security": if route.caller == Caller::Public { json!([]) } else { json!([{"session": []}]) },
        "x-caller": caller(route.caller),
        "x-data-pattern": pattern(route.pattern),
        "x-rate-limits": limits(route),
    });
    if !described.notes.is_empty() {
        operation["description"] = json!(described.notes);
    }
    if let Some(body) = described.body {
        // What has no required field, and need not change any, may be left out.
        let required =
            schemas::components(&[])[body]["required"].as_array().is_some_and(|names| !names.is_empty());
        operation["requestBody"] = json!({
            "required": required || route.method == Method::Patch,
            "content": {"application/json": {
                "schema": {"$ref": format!("#/components/schemas/{body}")},
                "example": examples::of(body),
            }},
            "x-most-bytes": route.body,
        });
    }
    operation
}

fn tag(route: &Route) -> &str {
    route.name.split('.').next().unwrap_or_default()
}

fn responses(route: &Route, described: &Described) -> Value {
    let mut responses = Map::new();
    let mut headers = vec!["X-Request-Id", "RateLimit", "RateLimit-Policy"];
    if is_tagged(route, described) {
        headers.push("ETag");
    }
    if route.pattern == Pattern::CacheAside {
        headers.extend(["Age", "Cache-Status", "Warning"]);
    }
    if route.method == Method::Get && is_tagged(route, described) {
        let unchanged =
            json!({"description": "As the client has it.", "headers": reference_headers(&headers)});
        responses.insert("304".to_owned(), unchanged);
    }
    if matches!(route.name, "circles.create" | "messages.post" | "journal.save") {
        headers.push("Location");
    }
    let mut answer = json!({"description": described.summary, "headers": reference_headers(&headers)});
    if let Some(schema) = described.answer {
        let schema = json!({"$ref": format!("#/components/schemas/{schema}")});
        answer["content"] = json!({"application/json": {"schema": schema}});
    }
    if let Some(links) = links::of(route.name) {
        answer["links"] = links;
    }
    responses.insert(described.status.to_string(), answer.clone());
    if route.name == "members.join" {
        answer["description"] = json!("A member already.");
        responses.insert("200".to_owned(), answer);
    }
    if route.name == "drafts.save" {
        let schema = json!({"$ref": "#/components/schemas/DraftConflict"});
        let conflict = json!({
            "description": "The draft has another version; both texts are kept.",
            "headers": reference_headers(&["X-Request-Id"]),
            "content": {"application/problem+json": {"schema": schema}},
        });
        responses.insert("409".to_owned(), conflict);
    }
    for (status, codes) in errors_by_status(route) {
        let texts: Vec<String> =
            codes.iter().map(|code| format!("`{}`: {}.", code.as_str(), code.title())).collect();
        let mut headers = vec!["X-Request-Id"];
        match status {
            401 => headers.push("WWW-Authenticate"),
            429 => headers.extend(["Retry-After", "RateLimit", "RateLimit-Policy"]),
            503 => headers.push("Retry-After"),
            _ => {}
        }
        let schema = json!({"$ref": "#/components/schemas/Problem"});
        let problem = json!({
            "description": texts.join(" "),
            "headers": reference_headers(&headers),
            "content": {"application/problem+json": {"schema": schema}},
        });
        responses.insert(status.to_string(), problem);
    }
    Value::Object(responses)
}

/// Whether the answer shows something that has a version. What the service tells of itself changes all the time.
fn is_tagged(route: &Route, described: &Described) -> bool {
    let versioned = matches!(described.answer, Some("Me" | "CircleWithRole" | "Message" | "Entry"));
    let read = route.method == Method::Get
        && matches!(route.pattern, Pattern::CacheAside | Pattern::Joined | Pattern::Direct);
    versioned || (read && !matches!(route.name, "admin.jobs" | "admin.consistency"))
}

fn limits(route: &Route) -> Vec<Value> {
    let limit = |row: &optimist_shared::limits::LimitRow| {
        let windows = row.windows.iter().map(|w| json!({"admitted": w.admitted, "seconds": w.seconds}));
        let per = match row.scope {
            Scope::User => "user",
            Scope::Address => "address",
            Scope::Account => "account",
        };
        let counts = if row.counts == Counts::Attempts { "attempts" } else { "successes" };
        json!({"name": row.name, "per": per, "counts": counts, "windows": windows.collect::<Vec<_>>()})
    };
    route.limits.iter().map(|name| limit(name.row())).collect()
}

fn errors_by_status(route: &Route) -> Vec<(u16, Vec<ErrorCode>)> {
    let mut by_status: Vec<(u16, Vec<ErrorCode>)> = Vec::new();
    for code in errors(route) {
        match by_status.iter_mut().find(|(status, _)| *status == code.status()) {
            Some((_, codes)) => codes.push(code),
            None => by_status.push((code.status(), vec![code])),
        }
    }
    by_status
}

/// Every error that a route can answer.
fn errors(route: &Route) -> Vec<ErrorCode> {
    use ErrorCode::*;
    let mut errors =
        vec![BadRequest, TooLarge, RateLimited, Internal, BadGateway, Unavailable, GatewayTimeout];
    if route.caller != Caller::Public || route.name == "auth.refresh" {
        errors.push(Unauthenticated);
    }
    if route.name == "auth.login" {
        errors.push(BadCredentials);
    }
    if route.path.contains('{') {
        errors.push(NotFound);
    }
    if described(route).body.is_some() {
        errors.extend([Invalid, UnsupportedMediaType]);
    }
    if route.name == "admin.drop-copy" {
        errors.push(Invalid);
    }
    if parameters::takes_idempotency_key(route) {
        errors.push(KeyReused);
    }
    if parameters::takes_if_match(route) {
        errors.push(VersionMismatch);
    }
    if !matches!(route.caller, Caller::Public | Caller::User | Caller::CircleReader) {
        errors.push(Forbidden);
    }
    // What is archived, or owned, or taken, stands in the way; archiving what is archived does not.
    let in_circle = route.caller.wants_membership() && route.method != Method::Get;
    if (in_circle && route.name != "circles.archive")
        || matches!(route.name, "auth.register" | "members.join")
    {
        errors.push(Conflict);
    }
    errors
}

/// The names of every error that any route answers, and of those that no route does.
fn all_codes() -> Vec<&'static str> {
    let of_routes = ROUTES.iter().flat_map(errors);
    let mut codes: Vec<&str> =
        of_routes.chain([ErrorCode::MethodNotAllowed]).map(ErrorCode::as_str).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

#[cfg(test)]
mod tests;
