//! Commands: requests that a client sends through its socket. Each is one of the API's, admitted and charged like it, and its answer
//! comes as a frame.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::HeaderValue;
use optimist_shared::ids::Uuid;
use optimist_shared::live::Bound;
use optimist_shared::routes::{self, Route};
use optimist_shared::signature::{CONTENT_DIGEST_HEADER, Charged, Context, Identity, content_digest};
use serde_json::{Map, Value, json};
use tower_service::Service as _;

use crate::ctx::Ctx;
use crate::domain::Command;
use crate::http::admit::Inside;
use crate::live::frame::Frame;

/// The type of a frame that answers a command.
pub const ANSWER: &str = "answer";
/// Bytes of a command's own reference.
const REFERENCE: usize = 64;

/// A message of a client's.
pub enum Said {
    Ping,
    Asks(Asked),
}

/// A command, as a request of the API.
pub struct Asked {
    route: &'static Route,
    path: String,
    body: Value,
    /// The client's own name for it, which its answer repeats.
    reference: Value,
}

/// The person at the other end of a socket.
#[derive(Clone)]
pub struct Person {
    pub user: Uuid,
    pub session: Uuid,
    /// The client's address as limits count it.
    pub client: String,
}

impl Said {
    /// `None` for what is no command.
    pub fn parse(ctx: &Ctx, text: &str) -> Option<Said> {
        let mut fields: Map<String, Value> = serde_json::from_str(text).ok()?;
        let name = fields.remove("type")?;
        let name = name.as_str()?;
        let reference = fields.remove("ref").unwrap_or_default();
        if !(reference.is_null() || reference.is_number() || reference.is_string())
            || reference.to_string().len() > REFERENCE
        {
            return None;
        }
        if name == "ping" {
            return fields.is_empty().then_some(Said::Ping);
        }
        let mut commands = ctx.registry.domains.iter().flat_map(|domain| domain.commands);
        let Command { route, .. } = commands.find(|command| command.name == name)?;
        let route = routes::by_name(route)?;
        let path = filled(route.path, &mut fields)?;
        Some(Said::Asks(Asked { route, path, body: fields.into(), reference }))
    }
}

/// A route's path with the fields that it names.
fn filled(template: &str, fields: &mut Map<String, Value>) -> Option<String> {
    let mut path = String::with_capacity(template.len() + 32);
    for part in template.split('/').skip(1) {
        path.push('/');
        match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            Some(name) => {
                let value = fields.remove(name)?;
                let value = value.as_str()?;
                // Only what could change the path is refused here; the route judges the id.
                let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
                if value.is_empty() || !value.bytes().all(is_plain) {
                    return None;
                }
                path.push_str(value);
            }
            None => path.push_str(part),
        }
    }
    Some(path)
}

/// Sends a command through the API, and makes the frame of its answer.
pub async fn answer(ctx: Ctx, person: Person, asked: Asked) -> Frame {
    let (status, retry_after, body) = match send(&ctx, person, &asked).await {
        Some(answer) => answer,
        None => (503, None, Value::Null),
    };
    let mut data = json!({"ref": asked.reference, "status": status, "body": body});
    if let Some(after) = retry_after {
        data["retry_after"] = json!(after);
    }
    Frame::of(None, ANSWER, None, &data.to_string())
}

async fn send(ctx: &Ctx, person: Person, asked: &Asked) -> Option<(u16, Option<u64>, Value)> {
    let mut router = ctx.live.api.get()?.clone();
    let bytes = if asked.route.body == 0 { Vec::new() } else { asked.body.to_string().into_bytes() };
    let digest = HeaderValue::from_str(&content_digest(&bytes)).ok()?;
    let mut request = Request::builder()
        .method(asked.route.method.as_str())
        .uri(&asked.path)
        .header("content-type", "application/json")
        .header(CONTENT_DIGEST_HEADER, digest)
        .body(Body::from(bytes))
        .ok()?;
    request.extensions_mut().insert(Inside(Context {
        identity: Identity::Session { user: person.user, session: person.session },
        role: None,
        client: person.client,
        region: ctx.config.region.clone(),
        request_id: Uuid::now_v7().to_string(),
        charged: Charged::Nothing,
    }));
    let response = match router.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let status = response.status().as_u16();
    let after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    // An answer that does not fit into a frame travels without its body.
    let bytes =
        to_bytes(response.into_body(), Bound::Frame.row().most as usize / 2).await.unwrap_or_default();
    Some((status, after, serde_json::from_slice(&bytes).unwrap_or_default()))
}
