//! Request bodies: JSON in, or a problem that names the field and the reason.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use optimist_shared::error::ErrorCode;
use optimist_shared::etag::{entity_tag, match_allows, match_allows_row, none_match_hits};
use optimist_shared::signature::{CONTENT_DIGEST_HEADER, content_digest};
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::http::sent::Refused;
use crate::request::RequestContext;

/// A deserialised body, not yet validated. `bytes` is the body as it was sent.
pub struct Body<T> {
    pub value: T,
    pub bytes: Bytes,
}

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Body<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Body<T>> {
        let bytes = read(request).await?;
        Ok(Body { value: parse(&bytes)?, bytes })
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    // An endpoint whose fields are all optional may be called without a body.
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { bytes };
    // serde would take an array of a struct's fields for the struct.
    if text.trim_ascii_start().starts_with(b"[") {
        return Err(Error::invalid("body", "must be an object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        describe(&path, error.inner())
    })?;
    deserializer.end().map_err(|error| describe(".", &error))?;
    Ok(value)
}

async fn read(request: Request) -> Result<Bytes> {
    let limit = request.extensions().get::<RequestContext>().map_or(0, |context| context.route.body);
    let content_type = request
        .headers()
        .get("content-type")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let header = request.headers().get(CONTENT_DIGEST_HEADER);
    let signed_digest = header.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let encoding = request.headers().get("content-encoding");
    let is_none = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"identity");
    if encoding.is_some_and(|codings| !codings.as_bytes().split(|byte| *byte == b',').all(is_none)) {
        return Err(Error::new(ErrorCode::UnsupportedMediaType).field("Content-Encoding", "must be left out"));
    }
    let bytes = match Limited::new(request.into_body(), limit).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return Err(Error::new(ErrorCode::TooLarge).detail(format!("At most {limit} bytes.")));
        }
        Err(_) => return Err(Error::new(ErrorCode::BadRequest).detail("The body ended early.")),
    };
    // The edge signed the digest, and admission has verified the signature.
    if content_digest(&bytes) != signed_digest {
        tracing::warn!("a request whose body is not the one that the edge has signed");
        return Err(Error::new(ErrorCode::Misdirected)
            .detail("The body is not the one that an edge of this region has signed."));
    }
    let is_json = content_type
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    if !bytes.is_empty() && !is_json {
        return Err(
            Error::new(ErrorCode::UnsupportedMediaType).field("Content-Type", "must be application/json")
        );
    }
    Ok(bytes)
}

/// Names the field, and says what is wrong with it without repeating its value.
fn describe(path: &str, error: &serde_json::Error) -> Error {
    use serde_json::error::Category;
    let text = error.to_string();
    let reason = text.split(" at line ").next().unwrap_or_default();
    match error.classify() {
        Category::Data => {
            // serde's own words: "missing field `x`", "unknown field `x`, expected …", "invalid type: …".
            let named = |prefix: &str| reason.strip_prefix(prefix).and_then(|rest| rest.split('`').next());
            if let Some(field) = named("missing field `") {
                return Error::invalid(join(path, field), "is required");
            }
            if let Some(field) = named("unknown field `") {
                // The client's own text: shortened, and without characters that could disturb a log or a terminal.
                let visible = |character: char| if character.is_control() { '\u{fffd}' } else { character };
                let shown: String = field.chars().take(64).map(visible).collect();
                return Error::invalid(join(parent(path, field), &shown), "is not a field of this request");
            }
            if let Some(field) = named("duplicate field `") {
                return Error::invalid(join(path, field), "is given twice");
            }
            if let Some(reason) = Refused::reason(reason) {
                return Error::invalid(whole_or(path), reason);
            }
            let expected = reason.rsplit_once("expected ").map_or("something else", |(_, expected)| expected);
            let expected = match expected {
                expected if expected.starts_with("struct ") => "an object",
                "i16" | "i32" | "i64" | "u32" | "u64" => "a whole number",
                "f64" => "a number",
                "a sequence" => "a list",
                expected => expected,
            };
            Error::invalid(whole_or(path), format!("must be {expected}"))
        }
        Category::Syntax | Category::Eof | Category::Io => {
            Error::new(ErrorCode::BadRequest).field(whole_or(path), format!("is not JSON: {reason}"))
        }
    }
}

/// The path of a field; `body` for an error of no field in particular.
fn whole_or(path: &str) -> &str {
    if matches!(path, "." | "?") { "body" } else { path }
}

fn join(path: &str, field: &str) -> String {
    if field.is_empty() {
        return whole_or(path).to_owned();
    }
    if path == "." || path == field { field.to_owned() } else { format!("{path}.{field}") }
}

/// serde_path_to_error counts an unknown field as part of the path.
fn parent<'a>(path: &'a str, field: &str) -> &'a str {
    path.strip_suffix(field)
        .map_or(path, |rest| if rest.is_empty() { "." } else { rest.trim_end_matches('.') })
}

/// For an answer to one caller, which must be revalidated each time by its entity tag.
const PRIVATE: &str = "private, no-cache";

/// JSON with an entity tag; 304 if the client has it.
pub fn tagged(
    headers: &HeaderMap,
    row_version: &str,
    overlay_version: &str,
    json: impl Into<Bytes>,
) -> Response {
    let tag = entity_tag(row_version, overlay_version);
    let known = headers.get("if-none-match").and_then(|value| value.to_str().ok());
    if known.is_some_and(|known| none_match_hits(known, &tag)) {
        return not_modified(&tag);
    }
    json_response(200, Some(tag), json)
}

/// The client has what this tag names.
pub fn not_modified(tag: &str) -> Response {
    let headers = [("etag", tag), ("cache-control", PRIVATE)];
    (axum::http::StatusCode::NOT_MODIFIED, headers).into_response()
}

pub fn json_response(status: u16, tag: Option<String>, json: impl Into<Bytes>) -> Response {
    let mut response = Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .header("cache-control", PRIVATE);
    if let Some(tag) = tag {
        response = response.header("etag", tag);
    }
    response
        .body(axum::body::Body::new(Full::from(json.into())))
        .unwrap_or_else(|_| axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// Serialises a wire type.
pub fn to_json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::internal("json", &error))
}

/// Refuses a change of what has this entity tag if `If-Match` names only others.
pub fn check_match(headers: &HeaderMap, tag: &str) -> Result<()> {
    check(headers, |named| match_allows(named, tag))
}

/// Refuses a change of a row at this version if `If-Match` names only others. Overlays that change without the row do not count.
pub fn check_match_of_row(headers: &HeaderMap, version: &str) -> Result<()> {
    check(headers, |named| match_allows_row(named, version))
}

fn check(headers: &HeaderMap, allows: impl Fn(&str) -> bool) -> Result<()> {
    match headers.get("if-match").map(|value| value.to_str().unwrap_or_default()) {
        Some(named) if !allows(named) => Err(Error::new(ErrorCode::VersionMismatch)),
        _ => Ok(()),
    }
}

/// Refuses a change of what has no entity tag, unless `If-Match` asks for any version.
pub async fn refuse_match(request: Request, next: Next) -> Response {
    match check_match(request.headers(), "") {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[allow(dead_code)]
        name: String,
        #[allow(dead_code)]
        bio: Option<String>,
    }

    /// JSON of any shape, some of it with the sample's fields.
    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            "\\PC{0,80}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let names = "name|bio|[a-z]{1,80}|\\PC{0,80}";
            let object = |map: std::collections::BTreeMap<_, _>| serde_json::Map::from_iter(map).into();
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(Into::into),
                btree_map(names, inner, 0..4).prop_map(object)
            ]
        })
    }

    /// A body parses, or makes a client error that names a field and is short, whatever was sent.
    fn is_read_or_refused(body: &[u8]) -> std::result::Result<(), TestCaseError> {
        let Err(error) = parse::<Sample>(body) else { return Ok(()) };
        prop_assert!(matches!(error.code, ErrorCode::BadRequest | ErrorCode::Invalid), "{error:?}");
        let shown = format!("{error:?}");
        prop_assert!(shown.chars().count() < 700 && !shown.chars().any(char::is_control), "{shown}");
        Ok(())
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200), text in "[\\[{]{0,4}\"?(name|bio)?\"?[:,]{0,2}\\PC*") {
            is_read_or_refused(&bytes)?;
            is_read_or_refused(text.as_bytes())?;
        }

        #[test]
        fn any_json_is_read_or_refused(json in json(), at: usize, byte: u8) {
            let mut body = json.to_string().into_bytes();
            is_read_or_refused(&body)?;
            let is_sample = json["name"].is_string()
                && (json["bio"].is_null() || json["bio"].is_string())
                && json.as_object().is_some_and(|fields| fields.keys().all(|name| name == "name" || name == "bio"));
            prop_assert_eq!(parse::<Sample>(&body).is_ok(), is_sample);
            let at = at % body.len();
            body[at] = byte;
            is_read_or_refused(&body)?;
        }
    }

    async fn refused(body: &str) -> serde_json::Value {
        let response = parse::<Sample>(body.as_bytes()).unwrap_err().into_response();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[tokio::test]
    async fn problems_name_the_field() {
        let field = |problem: &serde_json::Value| problem["errors"][0]["field"].as_str().unwrap().to_owned();
        assert_eq!(field(&refused("{}").await), "name");
        assert_eq!(field(&refused(r#"{"name":7}"#).await), "name");
        assert_eq!(field(&refused(r#"{"name":"x","nme":1}"#).await), "nme");
        assert_eq!(field(&refused(r#"{"name":"x","name":"y"}"#).await), "name");
        assert_eq!(field(&refused(r#"{"name":"\ud800"}"#).await), "name");
        assert_eq!(field(&refused(r#"["a name"]"#).await), "body");
        assert_eq!(refused("7").await["errors"][0]["reason"], "must be an object");
        assert_eq!(refused("nonsense").await["code"], "bad-request");
        assert_eq!(field(&refused(&format!(r#"{{"{}":1}}"#, "z".repeat(300))).await), "z".repeat(64));
        assert_eq!(field(&refused(r#"{"name":"x"} x"#).await), "body");
        assert_eq!(field(&refused(&format!(r#"{{"name":{}"#, "[".repeat(10_000))).await), "name");
        assert_eq!(refused("{").await["code"], "bad-request");
        assert_eq!(refused("\u{feff}{}").await["code"], "bad-request");
        assert_eq!(refused(&"[".repeat(10_000)).await["status"], 422);
    }
}
