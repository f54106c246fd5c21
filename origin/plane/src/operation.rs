//! An operation: its handler's declarations, and whatever follows from its route.

use optimist_shared::error::ErrorCode;
use optimist_shared::limits::{Counted, LimitRow};
use optimist_shared::routes::{Audience, Method, Pattern, Route};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

pub mod links;
mod parameters;
pub mod schemas;

use links::Link;
use schemas::Schemas;

/// The description of an endpoint beyond the routes table.
pub struct Operation {
    pub summary: &'static str,
    pub notes: &'static str,
    pub body: Option<(Shape, Value)>,
    pub status: u16,
    pub answer: Option<Shape>,
    pub also: Option<(u16, &'static str)>,
    /// A success with another answer.
    pub or: Option<(u16, &'static str, Shape)>,
    pub conflict: Option<Conflict>,
    pub cursor: Option<&'static str>,
    /// Parameters of its path that are no ids.
    pub path: Vec<(&'static str, Shape)>,
    pub filters: Vec<Filter>,
    pub links: Vec<Link>,
    /// The content type of its answer.
    pub form: &'static str,
    pub is_tagged: bool,
    pub is_conditional: bool,
    pub is_idempotent: bool,
    pub has_location: bool,
    pub refuses: &'static [ErrorCode],
    pub never: Option<ErrorCode>,
}

/// A type's schema, or a reference to it.
pub type Shape = fn(&mut SchemaGenerator) -> Schema;

pub fn shape<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// A parameter of a query.
pub struct Filter {
    pub name: &'static str,
    pub description: &'static str,
    pub shape: Shape,
    /// Whether a request must name it.
    pub is_required: bool,
}

/// An answer of 409 with more fields than a problem's.
pub struct Conflict {
    pub shape: Shape,
    pub meaning: &'static str,
}

impl Default for Operation {
    /// An operation that takes no body, and answers none.
    fn default() -> Operation {
        Operation {
            summary: "",
            notes: "",
            body: None,
            status: 204,
            answer: None,
            also: None,
            or: None,
            conflict: None,
            cursor: None,
            path: Vec::new(),
            filters: Vec::new(),
            links: Vec::new(),
            form: "application/json",
            is_tagged: false,
            is_conditional: false,
            is_idempotent: false,
            has_location: false,
            refuses: &[],
            never: None,
        }
    }
}

impl Operation {
    /// The operation as the document shows it.
    pub fn render(&self, route: &Route, schemas: &mut Schemas) -> Value {
        let mut rendered = json!({
            "operationId": links::operation_id(route.name),
            "summary": self.summary,
            "tags": [tag(route)],
            "parameters": parameters::of(route, self, schemas),
            "responses": self.responses(route, schemas),
            "security": if route.audience == Audience::Public { json!([]) } else { json!([{"session": []}]) },
            "x-caller": route.audience.as_str(),
            "x-data-pattern": route.pattern.as_str(),
            "x-rate-limits": limits(route),
        });
        if !self.notes.is_empty() {
            rendered["description"] = json!(self.notes);
        }
        if let Some((shape, example)) = &self.body {
            let (schema, has_required) = schemas.of_request(*shape);
            rendered["requestBody"] = json!({
                // A body without required fields may be left out, unless it must change a field.
                "required": has_required || route.method == Method::Patch,
                "content": {"application/json": {"schema": schema, "example": example}},
                "x-most-bytes": route.body,
            });
        }
        rendered
    }

    fn responses(&self, route: &Route, schemas: &mut Schemas) -> Value {
        let mut responses = Map::new();
        let mut headers = vec!["X-Request-Id", "RateLimit", "RateLimit-Policy"];
        if self.is_tagged {
            headers.push("ETag");
        }
        if route.pattern == Pattern::CacheAside {
            headers.extend(["Age", "Cache-Status", "Warning"]);
        }
        if route.method == Method::Get && self.is_tagged {
            let unchanged =
                json!({"description": "As the client has it.", "headers": reference_headers(&headers)});
            responses.insert("304".to_owned(), unchanged);
        }
        if self.has_location {
            headers.push("Location");
        }
        let mut answer = json!({"description": self.summary, "headers": reference_headers(&headers)});
        if let Some(shape) = self.answer {
            let schema = schemas.of_answer(shape);
            answer["content"] = json!({self.form: {"schema": schema}});
        }
        if !self.links.is_empty() {
            answer["links"] = self.links.iter().map(Link::render).collect::<Map<_, _>>().into();
        }
        responses.insert(self.status.to_string(), answer.clone());
        if let Some((status, meaning)) = self.also {
            answer["description"] = json!(meaning);
            responses.insert(status.to_string(), answer);
        }
        if let Some((status, meaning, shape)) = self.or {
            let schema = schemas.of_answer(shape);
            let answer = json!({
                "description": meaning,
                "headers": reference_headers(&headers),
                "content": {"application/json": {"schema": schema}},
            });
            responses.insert(status.to_string(), answer);
        }
        if let Some(conflict) = &self.conflict {
            let schema = schemas.of_answer(conflict.shape);
            let headers = ["X-Request-Id"];
            responses.insert("409".to_owned(), problem(conflict.meaning, &headers, &schema));
        }
        for (status, codes) in self.errors_by_status(route) {
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
            responses.insert(status.to_string(), problem(&texts.join(" "), &headers, &schema));
        }
        if self.status == 101 {
            // Readers want a success, or this: it never ends with one.
            let schema = json!({"$ref": "#/components/schemas/Problem"});
            responses.insert("default".to_owned(), problem("Any other refusal.", &["X-Request-Id"], &schema));
        }
        Value::Object(responses)
    }

    fn errors_by_status(&self, route: &Route) -> Vec<(u16, Vec<ErrorCode>)> {
        let mut by_status: Vec<(u16, Vec<ErrorCode>)> = Vec::new();
        for code in self.errors(route) {
            match by_status.iter_mut().find(|(status, _)| *status == code.status()) {
                Some((_, codes)) => codes.push(code),
                None => by_status.push((code.status(), vec![code])),
            }
        }
        by_status
    }

    /// Every error that it can answer.
    pub fn errors(&self, route: &Route) -> Vec<ErrorCode> {
        use ErrorCode::*;
        let mut errors =
            vec![BadRequest, TooLarge, RateLimited, Internal, BadGateway, Unavailable, GatewayTimeout];
        if route.audience != Audience::Public {
            errors.push(Unauthenticated);
        }
        if route.path.contains('{') {
            errors.push(NotFound);
        }
        if self.body.is_some() {
            errors.extend([Invalid, UnsupportedMediaType]);
        }
        if self.is_idempotent {
            errors.push(KeyReused);
        }
        if self.takes_if_match(route) {
            errors.push(VersionMismatch);
        }
        if !matches!(route.audience, Audience::Public | Audience::User | Audience::CircleReader) {
            errors.push(Forbidden);
        }
        // Entities that are archived, or owned, stand in the way.
        if route.audience.wants_membership() && route.method != Method::Get {
            errors.push(Conflict);
        }
        errors.extend(self.refuses);
        errors.retain(|code| Some(*code) != self.never);
        errors
    }

    pub fn takes_if_match(&self, route: &Route) -> bool {
        self.is_conditional || route.method == Method::Patch && self.is_tagged
    }
}

/// The group of a route.
pub fn tag(route: &Route) -> &str {
    route.name.split('.').next().unwrap_or_default()
}

fn problem(description: &str, headers: &[&str], schema: &Value) -> Value {
    json!({
        "description": description,
        "headers": reference_headers(headers),
        "content": {"application/problem+json": {"schema": schema}},
    })
}

fn limits(route: &Route) -> Vec<Value> {
    let limit = |row: &LimitRow| {
        let windows = row.windows.iter().map(|w| json!({"admitted": w.admitted, "seconds": w.seconds}));
        let counts = if row.counts == Counted::Attempts { "attempts" } else { "successes" };
        json!({"name": row.name, "per": row.scope.as_str(), "counts": counts, "windows": windows.collect::<Vec<_>>()})
    };
    route.limits.iter().map(|name| limit(name.row())).collect()
}

fn reference_headers(names: &[&str]) -> Value {
    let references =
        names.iter().map(|name| (*name, json!({"$ref": format!("#/components/headers/{name}")})));
    Value::Object(references.map(|(name, value)| (name.to_owned(), value)).collect())
}
