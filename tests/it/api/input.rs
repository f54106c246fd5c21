//! Bad input on every route, generated from the API's own description, so that every new route or field is covered.

use optimist_tests::{Answer, Client, Origin, System};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{Cast, on_system, problem};

/// An operation of the description, with its path filled in.
struct Operation {
    method: Method,
    template: String,
    path: String,
    /// Properties with their schemas, and the names of those required.
    body: Option<(Map<String, Value>, Vec<String>)>,
    query: Vec<String>,
}

struct Bench {
    system: &'static System,
    cast: Cast,
    operations: Vec<Operation>,
}

impl Bench {
    async fn new(system: &'static System) -> Bench {
        let cast = Cast::new(system, "private").await;
        let (granted, output) =
            Origin::command(&system.environment(), &["admin", "grant", &cast.owner.email]);
        assert!(granted, "{output}");
        let document = system.client().get("/v1/openapi.json").await.expect(200).body;
        let mut operations = Vec::new();
        for (template, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let path = template
                    .replace("{circle}", &cast.circle)
                    .replace("{message}", &cast.message)
                    .replace("{user}", &cast.member.user)
                    .replace("{session}", &cast.stranger.session)
                    .replace("{kind}", "heart")
                    .replace("{draft}", &uuid::Uuid::new_v4().to_string())
                    .replace("{entry}", &uuid::Uuid::new_v4().to_string())
                    .replace("{mood}", &uuid::Uuid::new_v4().to_string())
                    .replace("{notification}", &uuid::Uuid::new_v4().to_string())
                    .replace("{token}", &uuid::Uuid::new_v4().to_string())
                    .replace("{export}", &uuid::Uuid::new_v4().to_string());
                let schema = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
                let body = schema.as_str().map(|reference| {
                    let schema = document.pointer(reference.trim_start_matches('#')).unwrap();
                    let required = schema["required"].as_array().cloned().unwrap_or_default();
                    let required = required.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
                    (schema["properties"].as_object().cloned().unwrap_or_default(), required)
                });
                let parameters = operation["parameters"].as_array().unwrap().iter();
                let query = parameters
                    .filter(|parameter| parameter["in"] == "query")
                    .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
                    .collect();
                let method = method.to_uppercase().parse().unwrap();
                operations.push(Operation { method, template: template.clone(), path, body, query });
            }
        }
        assert!(operations.len() > 20, "the description is whole");
        Bench { system, cast, operations }
    }

    fn with_body(&self) -> impl Iterator<Item = (&Operation, &Map<String, Value>, &Vec<String>)> {
        self.operations.iter().filter_map(|operation| {
            let (properties, required) = operation.body.as_ref()?;
            Some((operation, properties, required))
        })
    }

    /// Sends as the owner, who has every right; limits are reset first.
    async fn send(&self, method: &Method, path: &str, body: Option<Vec<u8>>) -> Answer {
        self.system.forget_address_limits().await;
        self.system.forget_limits_of(&self.cast.owner).await;
        let public =
            path.starts_with("/v1/auth/") && !path.ends_with("/logout") && !path.ends_with("/session");
        let client: &Client = if public { &self.system.client() } else { &self.cast.owner };
        client.send(method.clone(), path, &[], body).await
    }
}

/// Checks for a 4xx problem that names the field.
#[track_caller]
fn refused(answer: Answer, field: &str, what: &str) {
    assert!((400..500).contains(&answer.status), "{what}: {answer:#?}");
    let status = answer.status;
    let problem = problem(answer, status);
    let fields: Vec<&str> = problem["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|error| error["field"].as_str().unwrap())
        .collect();
    // Or names a part of it: `tags[0]`, `edit.number`.
    let is_named = |named: &&str| {
        named.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', '.']))
    };
    assert!(fields.iter().any(is_named), "{what} should name {field}: {problem:#}");
    let text = problem.to_string();
    for leak in ["postgres", "redis", "SQL", "syntax error", "column", "relation", "panicked", "tokio"] {
        assert!(!text.contains(leak), "{what} tells of {leak}: {problem:#}");
    }
}

/// A value that the field accepts, chosen by its name.
fn good(field: &str) -> Value {
    match field {
        "email" => json!("somebody@example.org"),
        "password" => json!("correct horse battery staple"),
        "time_zone" => json!("Europe/Vienna"),
        "refresh_token" => json!("0190a0a0-0000-7000-8000-000000000001.c2VjcmV0"),
        "visibility" => json!("private"),
        "role" => json!("member"),
        "invite" => json!("QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE"),
        "base_version" => Value::Null,
        "score" => json!(3),
        "number" => json!(0),
        "decision" => json!("dismiss"),
        "reason" => json!("spam"),
        "user" | "circle_id" => json!("0190a0a0-0000-7000-8000-000000000001"),
        "messages" => json!("keep"),
        "state" => json!("online"),
        "device" => json!("phone"),
        "endpoint" => json!("http://127.0.0.1:9/hook"),
        "kinds" => {
            let on = json!({"in_app": true, "push": true, "email": false, "webhook": true});
            json!({"message": on, "mention": on, "reaction": on, "role": on, "invite": on})
        }
        "quiet" => Value::Null,
        "locale" => json!("de"),
        "kind" => json!("circle"),
        "id" => json!("0190a0a0-0000-7000-8000-000000000001"),
        "week_start" => json!("sunday"),
        "presence" => json!("circles"),
        "discoverable" | "reduced_motion" => json!(true),
        "mutes" => json!([]),
        _ => json!("Some text."),
    }
}

fn good_body(required: &[String], field: &str, value: Value) -> Value {
    let mut body: Map<String, Value> = required.iter().map(|name| (name.clone(), good(name))).collect();
    body.insert(field.to_owned(), value);
    Value::Object(body)
}

#[test]
fn bodies_that_are_no_json_object_are_refused() {
    on_system(|system| async move {
        let bench = Bench::new(system).await;
        let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
        let texts = ["{", "nonsense", "7", "[]", "null", "\"text\"", "\u{feff}{}", "{'a':1}", &deep];
        for (operation, ..) in bench.with_body() {
            for text in texts {
                let answer =
                    bench.send(&operation.method, &operation.path, Some(text.as_bytes().to_vec())).await;
                let what = format!(
                    "{} {} with {}",
                    operation.method,
                    operation.template,
                    &text[..text.len().min(20)]
                );
                refused(answer, "body", &what);
            }
            let bytes = b"{\"name\":\"\xff\xfe\"}".to_vec();
            let answer = bench.send(&operation.method, &operation.path, Some(bytes)).await;
            assert!((400..500).contains(&answer.status), "{answer:#?}");
            let typed = [("content-type", "text/plain")];
            let answer = bench
                .cast
                .owner
                .send(operation.method.clone(), &operation.path, &typed, Some(b"{}".to_vec()))
                .await;
            problem(answer, 415);
        }
    });
}

#[test]
fn every_field_is_checked_and_named() {
    on_system(|system| async move {
        let bench = Bench::new(system).await;
        for (operation, properties, required) in bench.with_body() {
            let mut cases: Vec<(String, String)> =
                vec![("surplus".into(), good_body(required, "surplus", json!(1)).to_string())];
            for (field, schema) in properties {
                let is_type = |name: &str| match &schema["type"] {
                    Value::Array(types) => types.contains(&json!(name)),
                    Value::Null => {
                        let any =
                            [&schema["oneOf"], &schema["anyOf"]].into_iter().filter_map(Value::as_array);
                        any.flatten().any(|one| one["type"] == name)
                    }
                    one => *one == name,
                };
                let bound = |name: &str| schema[name].as_u64();
                for value in [
                    if is_type("integer") { json!(7.5) } else { json!(7) },
                    if is_type("boolean") { json!("true") } else { json!(true) },
                    if is_type("array") { json!([[]]) } else { json!([]) },
                    json!({"a": 1}),
                ] {
                    cases.push((field.clone(), good_body(required, field, value).to_string()));
                }
                // A draft takes any text: its schema has no pattern.
                let takes_any = schema["maxLength"].is_u64() && schema["pattern"].is_null();
                for value in ["\0", "a\0b", "\u{7f}"].iter().filter(|_| !takes_any) {
                    cases.push((field.clone(), good_body(required, field, json!(value)).to_string()));
                }
                let body = good_body(required, field, json!("LONE")).to_string();
                for surrogate in ["\\ud800", "\\udc00x"] {
                    cases.push((field.clone(), body.replace("LONE", surrogate)));
                }
                cases.push((
                    field.clone(),
                    body.replace("\"LONE\"", &format!("{}{}", "[".repeat(9_000), "]".repeat(9_000))),
                ));
                let long = "x".repeat(bound("maxLength").unwrap_or(0).max(30_000) as usize + 1);
                cases.push((field.clone(), good_body(required, field, json!(long)).to_string()));
                cases.push((field.clone(), format!("{},\"{field}\":\"LONE\"}}", &body[..body.len() - 1])));
                if bound("minLength") != Some(0) {
                    cases.push((field.clone(), good_body(required, field, json!("")).to_string()));
                    cases.push((field.clone(), good_body(required, field, json!("  \n ")).to_string()));
                    // Not a secret, which may be of any characters.
                    if schema["pattern"].as_str().is_some_and(|pattern| pattern.contains(r"\u200b")) {
                        cases
                            .push((field.clone(), good_body(required, field, json!("\u{200b}")).to_string()));
                    }
                }
                if required.contains(field) {
                    let mut body = good_body(required, field, Value::Null);
                    if !is_type("null") {
                        cases.push((field.clone(), body.to_string()));
                    }
                    body.as_object_mut().unwrap().remove(field);
                    cases.push((field.clone(), body.to_string()));
                }
            }
            for (field, body) in cases {
                let answer =
                    bench.send(&operation.method, &operation.path, Some(body.clone().into_bytes())).await;
                let what = format!("{} {} with {:.120}", operation.method, operation.template, body);
                refused(answer, &field, &what);
            }
        }
    });
}

#[test]
fn ids_cursors_and_limits_are_checked_and_named() {
    on_system(|system| async move {
        let bench = Bench::new(system).await;
        let members = bench.cast.owner.get(&bench.cast.path("/members?limit=1")).await.expect(200);
        let foreign = members.text("/next");
        for operation in &bench.operations {
            for name in ["circle", "message", "user", "session"] {
                let placeholder = format!("{{{name}}}");
                if !operation.template.contains(&placeholder) {
                    continue;
                }
                for bad in [
                    "x",
                    "1",
                    "0190A0A00000-7000-8000-0000000000001",
                    "0190a0a000007000800000000000001",
                    "%00",
                    "%f0",
                ] {
                    let path = operation.template.replace(&placeholder, bad);
                    let path = path.replace("{circle}", &bench.cast.circle);
                    let path = path
                        .replace("{message}", &bench.cast.message)
                        .replace("{user}", &bench.cast.member.user);
                    let answer = bench
                        .send(&operation.method, &path, operation.body.as_ref().map(|_| b"{}".to_vec()))
                        .await;
                    refused(answer, name, &format!("{} {path}", operation.method));
                }
            }
            for name in &operation.query {
                let bad: &[&str] = match name.as_str() {
                    "limit" => &["0", "101", "-1", "x", "", "1e2", "99999999999999999999", "%2b1", "1;drop"],
                    "ban" => &["maybe", "1", ""],
                    // Any text is valid.
                    "tag" | "category" | "q" => &[],
                    _ => &["x", "", "AAAA", "%00", "bjotMQ", "bm90aGluZw"],
                };
                for value in bad {
                    let answer = bench
                        .send(&operation.method, &format!("{}?{name}={value}", operation.path), None)
                        .await;
                    refused(
                        answer,
                        name,
                        &format!("{} {}?{name}={value}", operation.method, operation.template),
                    );
                }
                if name == "before" || (name == "cursor" && !operation.template.ends_with("/members")) {
                    let answer = bench
                        .send(&operation.method, &format!("{}?{name}={foreign}", operation.path), None)
                        .await;
                    refused(answer, name, "another list's cursor");
                }
            }
            let is_answered_apart = ["/v1/auth/session", "/v1/me/limits", "/v1/openapi.json"]
                .contains(&operation.template.as_str());
            if operation.method == Method::GET && !is_answered_apart {
                let answer =
                    bench.send(&operation.method, &format!("{}?surplus=1", operation.path), None).await;
                refused(answer, "surplus", &format!("{} with a surplus parameter", operation.template));
            }
        }
    });
}

#[test]
fn idempotency_keys_are_checked() {
    on_system(|system| async move {
        let bench = Bench::new(system).await;
        for key in ["", "two words", &"x".repeat(256)] {
            let body = json!({"body": "Hello."}).to_string().into_bytes();
            let path = bench.cast.path("/messages");
            let answer =
                bench.cast.owner.send(Method::POST, &path, &[("idempotency-key", key)], Some(body)).await;
            refused(answer, "Idempotency-Key", key);
        }
    });
}
