//! The document covers the table, and leads nowhere that is not.

use std::collections::BTreeSet;

use optimist_plane::http::served::{Served, Tag};
use optimist_plane::openapi::Document;
use optimist_plane::operation::{self, Operation, links};
use optimist_shared::routes::{Audience, ROUTES, by_name};
use serde_json::Value;

use super::REGISTRY;

fn whole() -> Value {
    serde_json::from_slice(&Document::of(&REGISTRY).json).unwrap()
}

fn handlers() -> Vec<Served> {
    REGISTRY.domains.iter().flat_map(|domain| (domain.routes)()).collect()
}

/// Every operation with its path and method.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            operations.push((path.clone(), method.to_uppercase(), operation.clone()));
        }
    }
    operations
}

#[test]
fn every_route_is_described() {
    for served in handlers() {
        let Operation { summary, answer, status, .. } = served.operation;
        assert!(!summary.is_empty(), "{} says nothing", served.route);
        let is_as_its_status = match status {
            // What was asked for is done later: there may be something to say.
            202 => true,
            101 | 204 => answer.is_none(),
            _ => answer.is_some(),
        };
        assert!(is_as_its_status, "{} answers {status}", served.route);
    }
}

#[test]
fn every_route_is_an_operation_with_its_limits_and_security() {
    let document = whole();
    let operations = operations(&document);
    assert_eq!(operations.len(), ROUTES.len());
    for route in ROUTES {
        let (_, _, operation) = operations
            .iter()
            .find(|(path, method, _)| path == route.path && method == route.method.as_str())
            .unwrap_or_else(|| panic!("{} is missing", route.name));
        let limits = operation["x-rate-limits"].as_array().unwrap();
        assert_eq!(limits.len(), route.limits.len(), "{}", route.name);
        let is_open = operation["security"].as_array().unwrap().is_empty();
        assert_eq!(is_open, route.audience == Audience::Public, "{}", route.name);
        let responses = operation["responses"].as_object().unwrap();
        for status in ["400", "429", "500", "503"] {
            assert!(responses.contains_key(status), "{} {status}", route.name);
        }
        let wants_secret =
            !is_open || matches!(route.name, "auth.login" | "auth.refresh" | "realtime.socket");
        assert_eq!(responses.contains_key("401"), wants_secret, "{}", route.name);
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_used() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let document = whole();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in &found {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
    for kind in ["schemas", "headers"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            assert!(found.contains(&format!("#/components/{kind}/{name}")), "{name} is used nowhere");
        }
    }
}

#[test]
fn every_schema_is_an_object_whose_required_properties_it_has() {
    for (name, schema) in whole()["components"]["schemas"].as_object().unwrap() {
        // One of several, each of which is here too.
        let is_choice =
            schema["oneOf"].as_array().is_some_and(|those| those.iter().all(|one| one["$ref"].is_string()));
        assert!(is_choice || schema["type"] == "object", "{name}");
        for required in schema["required"].as_array().unwrap_or(&Vec::new()) {
            assert!(schema["properties"].get(required.as_str().unwrap()).is_some(), "{name}: {required}");
        }
        // Two types of one name.
        assert!(!name.ends_with(|last: char| last.is_ascii_digit()), "{name}");
    }
}

#[test]
fn bodies_refuse_unknown_fields() {
    let document = whole();
    for (path, method, operation) in operations(&document) {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
        let Some(reference) = schema.as_str() else { continue };
        let schema = document.pointer(reference.trim_start_matches('#')).unwrap();
        assert_eq!(schema["additionalProperties"], false, "{method} {path}");
    }
}

#[test]
fn every_example_has_what_its_body_requires_and_nothing_else() {
    let document = whole();
    for (path, method, operation) in operations(&document) {
        let content = &operation["requestBody"]["content"]["application/json"];
        let Some(reference) = content["schema"]["$ref"].as_str() else { continue };
        let schema = document.pointer(reference.trim_start_matches('#')).unwrap();
        let example = content["example"].as_object().unwrap();
        for name in example.keys() {
            assert!(schema["properties"].get(name).is_some(), "{method} {path}: {name}");
        }
        for required in schema["required"].as_array().unwrap_or(&Vec::new()) {
            assert!(example.contains_key(required.as_str().unwrap()), "{method} {path}: {required}");
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    let document = whole();
    let operations = operations(&document);
    let names = |operation: &Value| -> BTreeSet<String> {
        let parameters = operation["parameters"].as_array().unwrap().iter();
        parameters.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
    };
    for link in handlers().iter().flat_map(|served| &served.operation.links) {
        let operation_id = links::operation_id(link.to);
        let (_, _, operation) = operations
            .iter()
            .find(|(_, _, operation)| operation["operationId"] == operation_id.as_str())
            .unwrap_or_else(|| panic!("no route is called {}", link.to));
        for (name, _) in link.parameters {
            assert!(names(operation).contains(*name), "{} takes no {name}", link.to);
        }
        for (field, _) in link.body {
            let example = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
            let schema = document.pointer(example.as_str().unwrap().trim_start_matches('#')).unwrap();
            assert!(schema["properties"].get(field).is_some(), "{} has no {field}", link.to);
        }
    }
}

#[test]
fn every_tag_is_described_once() {
    let tags: Vec<Tag> = REGISTRY.domains.iter().flat_map(|domain| domain.tags).copied().collect();
    let named: BTreeSet<_> = tags.iter().map(|(name, _)| *name).collect();
    let used: BTreeSet<_> = ROUTES.iter().map(operation::tag).collect();
    assert_eq!(named, used);
    assert_eq!(named.len(), tags.len());
    assert_eq!(whole()["tags"].as_array().unwrap().len(), tags.len());
}

/// Limits count a repetition with the same key only where the first one's answer is kept.
#[test]
fn the_routes_that_keep_answers_are_those_that_take_a_key() {
    for served in handlers() {
        let route = by_name(served.route).unwrap();
        assert_eq!(route.is_idempotent, served.operation.is_idempotent, "{}", served.route);
    }
}

/// The most characters that a value of this schema can have in its texts.
fn most_characters(document: &Value, schema: &Value) -> u64 {
    if let Some(reference) = schema["$ref"].as_str() {
        let named = document.pointer(reference.trim_start_matches('#')).unwrap();
        return most_characters(document, named);
    }
    let all = |schemas: &Value| -> Vec<u64> {
        schemas.as_array().into_iter().flatten().map(|schema| most_characters(document, schema)).collect()
    };
    let own = schema["maxLength"].as_u64().unwrap_or(0);
    let items = schema["maxItems"].as_u64().unwrap_or(0) * most_characters_of(document, &schema["items"]);
    let fields = schema["properties"].as_object();
    let fields: u64 = fields.into_iter().flatten().map(|(_, field)| most_characters(document, field)).sum();
    let variants = ["anyOf", "oneOf"].iter().flat_map(|name| all(&schema[*name])).max().unwrap_or(0);
    own + items + fields + variants
}

/// The same of a schema that may be missing.
fn most_characters_of(document: &Value, schema: &Value) -> u64 {
    if schema.is_object() { most_characters(document, schema) } else { 0 }
}

/// A client may write each character as two escapes of six bytes; the rest of a body is small.
#[test]
fn a_body_of_the_longest_texts_is_let_through_however_it_is_spelled() {
    let document = whole();
    let usual = ROUTES.iter().find(|route| route.name == "auth.login").unwrap().body as u64;
    for route in ROUTES {
        let operation = &document["paths"][route.path][route.method.as_str().to_lowercase()];
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let wanted = 12 * most_characters_of(&document, schema) + 4096;
        let body = route.body as u64;
        assert!(schema.is_null() || body >= wanted, "{} wants {wanted} bytes", route.name);
        assert!(body <= usual || body == wanted, "{} wants {wanted} bytes and no more", route.name);
    }
}

#[test]
fn every_command_is_a_route_that_an_object_of_fields_can_fill() {
    let document = whole();
    for command in REGISTRY.domains.iter().flat_map(|domain| domain.commands) {
        let route = by_name(command.route).unwrap_or_else(|| panic!("{} is no route", command.route));
        assert_ne!(route.audience, Audience::Public, "{}: a socket has a person", command.name);
        assert!(!matches!(command.name, "ping" | "ref" | "type"), "{}", command.name);
        assert!(!route.is_idempotent, "{}: a command has no Idempotency-Key", command.name);
        assert!(document["x-commands"][command.name]["operationId"].is_string());
    }
}
