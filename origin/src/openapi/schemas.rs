//! The shapes of bodies.
//!
//! Bounds of texts are the domains' own; that a schema fits what a handler answers is for the API's tests to see.

mod accounts;
mod circles;
mod journal;

use std::ops::RangeInclusive;

use optimist_shared::reactions::KINDS;
use serde_json::{Value, json};

/// A text as it is answered.
fn text(bounds: RangeInclusive<usize>) -> Value {
    json!({"type": "string", "minLength": bounds.start(), "maxLength": bounds.end()})
}

/// What a line may not hold: control characters, and marks that reorder what follows.
const NOT_IN_LINE: &str = r"\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069";
/// What lines may not hold: control characters other than tabs and line breaks.
const NOT_IN_LINES: &str = r"\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f";
/// No control characters.
const UNCONTROLLED: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";
/// What is space around a text, and dropped.
const SPACE: &str = r"\u0009-\u000d \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000";

/// One line of text as it is sent; the space around it counts, and is dropped.
fn line(bounds: RangeInclusive<usize>) -> Value {
    sent(bounds, NOT_IN_LINE)
}

/// The same, of several lines.
fn lines(bounds: RangeInclusive<usize>) -> Value {
    sent(bounds, NOT_IN_LINES)
}

fn sent(bounds: RangeInclusive<usize>, refused: &str) -> Value {
    // What must not be empty must not be all space.
    let visible =
        if *bounds.start() > 0 { format!("[^{refused}{SPACE}][^{refused}]*") } else { String::new() };
    let mut schema = text(bounds);
    schema["pattern"] = json!(format!("^[^{refused}]*{visible}$"));
    schema
}

/// A secret as it is sent: any characters but control characters.
fn secret(bounds: RangeInclusive<usize>) -> Value {
    let mut schema = text(bounds);
    schema["pattern"] = json!(UNCONTROLLED);
    schema
}

/// A text to look for.
pub fn sought() -> Value {
    json!({"type": "string", "pattern": UNCONTROLLED})
}

/// The same, or null.
fn optional(mut schema: Value) -> Value {
    schema["type"] = json!([schema["type"].take(), "null"]);
    if let Some(values) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        values.push(Value::Null);
    }
    schema
}

/// What the origin answers: every property is always there, unless it is named in `but`.
fn answer(properties: Value, but: &[&str]) -> Value {
    let names = properties.as_object().into_iter().flat_map(|members| members.keys());
    let required: Vec<&String> = names.filter(|name| !but.contains(&name.as_str())).collect();
    json!({"type": "object", "required": required, "properties": properties})
}

/// A request's body, in which unknown fields are refused.
fn request(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false})
}

/// A request that changes what it names, and must name something.
fn change(properties: Value) -> Value {
    let mut schema = request(&[], properties);
    schema["minProperties"] = json!(1);
    schema
}

fn list(item: &str) -> Value {
    let next = json!({"type": ["string", "null"], "description": "The cursor of the page that follows."});
    let items = json!({"type": "array", "items": reference(item)});
    answer(json!({"items": items, "next": next}), &[])
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

pub fn reaction_kind() -> Value {
    json!({"type": "string", "enum": KINDS})
}

pub fn string() -> Value {
    json!({"type": "string"})
}

pub fn id() -> Value {
    json!({"type": "string", "format": "uuid"})
}

pub fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

pub fn count(description: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "description": description})
}

fn zone() -> Value {
    json!({
        "type": "string", "format": "time-zone", "description": "The IANA name of a time zone: `Europe/Vienna`.",
    })
}

/// Properties, and more of them.
fn with(properties: &Value, more: Value) -> Value {
    let all = [properties.clone(), more].into_iter();
    all.flat_map(|part| part.as_object().cloned().unwrap_or_default()).collect()
}

/// The same, or null.
fn optional_reference(name: &str) -> Value {
    json!({"oneOf": [reference(name), {"type": "null"}]})
}

/// Where a write is safe.
fn promise() -> Value {
    json!({"type": "string", "enum": ["redis", "postgres"]})
}

/// `codes` are all that a problem may have.
pub fn components(codes: &[&str]) -> Value {
    let own = of_the_service(codes).into_iter();
    own.chain(accounts::schemas())
        .chain(circles::schemas())
        .chain(journal::schemas())
        .map(|(name, schema)| (name.to_owned(), schema))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn of_the_service(codes: &[&str]) -> Vec<(&'static str, Value)> {
    let field_error = json!({
        "field": {"type": "string", "description": "A field of the body, a parameter, or a header."},
        "reason": string(),
    });
    vec![
        (
            "Problem",
            answer(
                json!({
                    "type": {"type": "string", "format": "uri", "description": "`urn:optimist:problem:` and the code."},
                    "title": string(),
                    "status": {"type": "integer"},
                    "code": {"type": "string", "enum": codes, "description": "Stable, for programs."},
                    "detail": string(),
                    "errors": {"type": "array", "items": answer(field_error, &[])},
                    "limit": {"type": "string", "description": "The policy that refused, as `RateLimit-Policy` names it."},
                    "request_id": string(),
                }),
                &["detail", "errors", "limit"],
            ),
        ),
        ("Document", json!({"type": "object"})),
        (
            "Job",
            answer(
                json!({
                    "name": string(),
                    "what": string(),
                    "every_seconds": count("Seconds from one start to the next."),
                    "started_at": optional(time()),
                    "finished_at": optional(time()),
                    "done": optional(count("Rows dealt with.")),
                    "error": optional(string()),
                }),
                &[],
            ),
        ),
        ("Jobs", list("Job")),
        (
            "Policies",
            answer(
                json!({
                    "routes": {"type": "array", "items": {"type": "object"}},
                    "keys": {"type": "array", "items": {"type": "object"}},
                    "limits": {"type": "array", "items": {"type": "object"}},
                }),
                &[],
            ),
        ),
        (
            "Compared",
            answer(
                json!({
                    "data_type": string(),
                    "checked": count("Compared so far."),
                    "conflicts": count("Differed where they must not have."),
                    "stale": count("Were older, as they may be."),
                    "checked_at": time(),
                    "conflict_at": optional(time()),
                }),
                &[],
            ),
        ),
        (
            "Consistency",
            answer(
                with(
                    &json!({"items": {"type": "array", "items": reference("Compared")}, "next": {"type": "null"}}),
                    json!({
                        "region": string(),
                        "mode": string(),
                        "writes_waiting": optional(count("Writes that are not in Postgres yet.")),
                        "drafts_waiting": optional(count("Drafts that are not in Postgres yet.")),
                        "writes_set_aside": count("Writes that could not be applied, for somebody to look at."),
                    }),
                ),
                &[],
            ),
        ),
        (
            "DroppedCopy",
            answer(json!({"key": string(), "dropped": count("How many copies there were.")}), &[]),
        ),
    ]
}
