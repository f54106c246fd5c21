//! OpenAPI links, which say what can be done with an answer: from one operation's success to another's parameters and body.
//!
//! Only the natural next steps. Tests check that the names lead somewhere.

use serde_json::{Map, Value, json};

/// A link to another operation, with the sources of its parameters and of its body.
pub struct Link {
    pub to: &'static str,
    pub parameters: &'static [(&'static str, &'static str)],
    /// A body's fields, each a runtime expression or a literal text.
    pub body: &'static [(&'static str, &'static str)],
}

/// A link to the route with this name.
pub fn link(to: &'static str, parameters: &'static [(&'static str, &'static str)]) -> Link {
    Link { to, parameters, body: &[] }
}

/// The id in an answer.
pub const ID: &str = "$response.body#/id";
/// The id of an answer's first item.
pub const FIRST_ID: &str = "$response.body#/items/0/id";

impl Link {
    pub fn with_body(mut self, body: &'static [(&'static str, &'static str)]) -> Link {
        self.body = body;
        self
    }

    /// Its name among the links of an answer, and the link.
    pub fn render(&self) -> (String, Value) {
        let object = |pairs: &[(&str, &str)]| {
            Value::Object(
                pairs.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect::<Map<_, _>>(),
            )
        };
        let name = operation_id(self.to);
        let mut rendered = json!({"operationId": name});
        if !self.parameters.is_empty() {
            rendered["parameters"] = object(self.parameters);
        }
        if !self.body.is_empty() {
            rendered["requestBody"] = object(self.body);
        }
        (name, rendered)
    }
}

pub fn operation_id(route: &str) -> String {
    route.replace(['.', '-'], "_")
}
