//! The document covers the table, and leads nowhere that is not.

use std::collections::BTreeSet;

use super::*;

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
fn every_route_is_described_and_nothing_else() {
    let described: BTreeSet<_> = DESCRIPTIONS.iter().map(|described| described.route).collect();
    let routed: BTreeSet<_> = ROUTES.iter().map(|route| route.name).collect();
    assert_eq!(described, routed);
    assert_eq!(DESCRIPTIONS.len(), ROUTES.len());
}

#[test]
fn every_route_is_an_operation_with_its_limits_and_security() {
    let document = build();
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
        assert_eq!(is_open, route.caller == Caller::Public, "{}", route.name);
        let responses = operation["responses"].as_object().unwrap();
        for status in ["400", "429", "500", "503"] {
            assert!(responses.contains_key(status), "{} {status}", route.name);
        }
        let wants_secret = !is_open || matches!(route.name, "auth.login" | "auth.refresh");
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
    let document = build();
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
fn every_required_property_is_one() {
    for (name, schema) in schemas::components(&[]).as_object().unwrap() {
        for required in schema["required"].as_array().unwrap_or(&Vec::new()) {
            assert!(schema["properties"].get(required.as_str().unwrap()).is_some(), "{name}: {required}");
        }
    }
}

#[test]
fn every_body_has_an_example_and_every_link_leads_somewhere() {
    for body in DESCRIPTIONS.iter().filter_map(|described| described.body) {
        assert!(examples::of(body).is_object(), "{body}");
    }
    let document = build();
    let operations = operations(&document);
    let names = |operation: &Value| -> BTreeSet<String> {
        let parameters = operation["parameters"].as_array().unwrap().iter();
        parameters.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
    };
    for link in links::LINKS {
        assert!(ROUTES.iter().any(|route| route.name == link.from), "{}", link.from);
        let operation_id = links::operation_id(link.to);
        let (_, _, operation) = operations
            .iter()
            .find(|(_, _, operation)| operation["operationId"] == operation_id.as_str())
            .unwrap();
        for (name, _) in link.parameters {
            assert!(names(operation).contains(*name), "{} takes no {name}", link.to);
        }
    }
}

#[test]
fn every_tag_is_described() {
    let tags = descriptions::tags();
    let named: BTreeSet<_> =
        tags.as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap().to_owned()).collect();
    let used: BTreeSet<_> = ROUTES.iter().map(|route| tag(route).to_owned()).collect();
    assert_eq!(named, used);
}
