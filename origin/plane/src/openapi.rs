//! The OpenAPI 3.1 document: paths, callers, limits and most errors and headers from the tables; summaries and the types of
//! bodies from the handlers, which declare them where they are served.
//!
//! It names no route and no domain. The document describes a type only as far as the type describes itself.

use bytes::Bytes;
use optimist_shared::error::ErrorCode;
use optimist_shared::routes::{ROUTES, Route};
use serde_json::{Map, Value, json};

use crate::domain::Registry;
use crate::hash::digest;
use crate::http::served::{Served, Tag};
use crate::operation;
use crate::operation::schemas::Schemas;

/// The document as it is served, and its version.
pub struct Document {
    pub json: Bytes,
    pub version: String,
}

impl Document {
    /// Describes the endpoints of all domains. It needs no running origin.
    pub fn of(registry: &Registry) -> Document {
        let served: Vec<Served> = registry.domains.iter().flat_map(|domain| (domain.routes)()).collect();
        let json = Bytes::from(build(registry, &served).to_string());
        Document { version: digest(&[&json]), json }
    }
}

fn build(registry: &Registry, served: &[Served]) -> Value {
    let mut schemas = Schemas::default();
    let mut paths = Map::new();
    let mut codes = vec![ErrorCode::MethodNotAllowed.as_str()];
    for (route, served) in described(served) {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_lowercase()] = served.operation.render(route, &mut schemas);
        codes.extend(served.operation.errors(route).into_iter().map(ErrorCode::as_str));
    }
    codes.sort_unstable();
    codes.dedup();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": registry.title,
            "version": env!("CARGO_PKG_VERSION"),
            "description": registry.description,
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The edge that serves this document."}],
        "tags": tags(registry),
        "paths": paths,
        "x-events": events(registry, &mut schemas),
        "x-commands": commands(registry),
        "components": {
            "securitySchemes": {
                "session": {
                    "type": "http", "scheme": "bearer",
                    "description": "The token of a session, opaque. It ends after 30 idle minutes, or after 30 days.",
                },
            },
            "schemas": schemas.components(&codes),
            "headers": headers(),
        },
    })
}

/// The table's routes, with their handlers.
fn described(served: &[Served]) -> impl Iterator<Item = (&'static Route, &Served)> {
    ROUTES.iter().filter_map(|route| Some((route, served.iter().find(|served| served.route == route.name)?)))
}

/// What subscribers receive, by type: each with the schema of its data.
fn events(registry: &Registry, schemas: &mut Schemas) -> Value {
    let told = registry.domains.iter().flat_map(|domain| domain.told);
    let durable = told.map(|told| (told.kind, told.what, told.shape, true));
    let states = registry.domains.iter().flat_map(|domain| domain.states);
    let states = states.map(|state| (state.name, state.what, state.shape, false));
    let described = durable.chain(states).map(|(name, what, shape, has_id)| {
        (name.to_owned(), json!({"description": what, "has-id": has_id, "data": schemas.of_answer(shape)}))
    });
    described.collect::<Map<_, _>>().into()
}

/// What clients may send through a socket, by type: each with the operation that it stands for.
fn commands(registry: &Registry) -> Value {
    let commands = registry.domains.iter().flat_map(|domain| domain.commands);
    let described = commands.map(|command| {
        (command.name.to_owned(), json!({"operationId": operation::links::operation_id(command.route)}))
    });
    described.collect::<Map<_, _>>().into()
}

/// The descriptions of the groups of operations, in the order of the table.
fn tags(registry: &Registry) -> Vec<Value> {
    let mut names: Vec<&str> = ROUTES.iter().map(operation::tag).collect();
    names.dedup();
    let described: Vec<Tag> = registry.domains.iter().flat_map(|domain| domain.tags).copied().collect();
    let in_order = names.iter().filter_map(|name| described.iter().find(|(tag, _)| tag == name));
    in_order.map(|(name, description)| json!({"name": name, "description": description})).collect()
}

/// Headers of answers, by name. The `ALWAYS` present ones are required wherever they are named.
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
