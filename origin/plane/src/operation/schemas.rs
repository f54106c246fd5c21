//! The schemas of bodies: gathered from the types, and brought into the document's form.
//!
//! The API's tests check that a schema fits what a handler answers.

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform as _};
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::Shape;

/// The place of schemas in the document.
const PLACE: &str = "/components/schemas";

/// The schemas of a document that is being built.
pub struct Schemas {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
}

impl Default for Schemas {
    fn default() -> Schemas {
        let settings =
            || SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = PLACE.into());
        Schemas {
            requests: settings().for_deserialize().into_generator(),
            answers: settings().for_serialize().into_generator(),
        }
    }
}

impl Schemas {
    /// The schema of a request's value, or a reference to it; and whether it has required fields.
    pub fn of_request(&mut self, shape: Shape) -> (Value, bool) {
        let schema = normal(shape(&mut self.requests));
        let name = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
        let referred = name.and_then(|name| self.requests.definitions().get(name));
        let has_required =
            referred.and_then(|schema| schema["required"].as_array()).is_some_and(|names| !names.is_empty());
        (schema, has_required)
    }

    /// The schema of an answer's value, or a reference to it.
    pub fn of_answer(&mut self, shape: Shape) -> Value {
        normal(shape(&mut self.answers))
    }

    /// All schemas that were referred to, and a problem's; `codes` are all the codes that a problem may have.
    pub fn components(mut self, codes: &[&str]) -> Map<String, Value> {
        let mut components = Map::new();
        components.insert("Problem".to_owned(), problem(codes));
        let definitions = [self.requests.take_definitions(false), self.answers.take_definitions(false)];
        for (name, schema) in definitions.into_iter().flatten() {
            let Ok(schema) = Schema::try_from(schema) else { continue };
            let mut schema = normal(schema);
            // A type's comment is for readers of its code.
            schema.as_object_mut().map(|schema| schema.remove("description"));
            let known = components.insert(name.clone(), schema.clone());
            // Found when the command starts, or by a test: two types of one name would be one to a client.
            assert!(known.is_none_or(|known| known == schema), "two schemas are called {name}");
        }
        components
    }
}

/// Removes what Rust knows and JSON does not, and writes alternatives, such as null, in one form.
fn normal(mut schema: Schema) -> Value {
    RecursiveTransform(|schema: &mut Schema| {
        schema.remove("title");
        let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
        if format.starts_with("int") || format.starts_with("uint") {
            schema.remove("format");
        }
        if schema.get("additionalProperties") == Some(&Value::Bool(true)) {
            schema.remove("additionalProperties");
        }
        if let Some(variants) = schema.remove("anyOf") {
            schema.insert("oneOf".to_owned(), variants);
        }
    })
    .transform(&mut schema);
    schema.to_value()
}

/// The body of an error. `shared` renders it, at the edge as well, and does not describe it.
fn problem(codes: &[&str]) -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    json!({
        "type": "object",
        "required": ["code", "request_id", "status", "title", "type"],
        "properties": {
            "type": {"type": "string", "format": "uri", "description": "`urn:optimist:problem:` and the code."},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "code": {"type": "string", "enum": codes, "description": "Stable, for programs."},
            "detail": {"type": "string"},
            "errors": {"type": "array", "items": {
                "type": "object",
                "required": ["field", "reason"],
                "properties": {
                    "field": text("A field of the body, a parameter, or a header."),
                    "reason": {"type": "string"},
                },
            }},
            "limit": text("The policy that refused, as `RateLimit-Policy` names it; or the quota."),
            "request_id": {"type": "string"},
        },
    })
}
