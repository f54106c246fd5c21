//! What the caller has looked at lately: Redis alone holds it, for a day, and without Redis the answer is 503.
//!
//! The edge answers these requests; the handlers here are for callers whom it does not know, and for bodies that it does not
//! understand. Nobody checks that an id names anything: only the person who sent it reads it again.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use optimist_plane::ctx::Ctx;
use optimist_plane::describe;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{Body, json_response, to_json};
use optimist_plane::http::page::{List, no_query};
use optimist_plane::http::sent::{Id, PromiseShape, Refused};
use optimist_plane::http::served::{Served, on};
use optimist_plane::request::Caller;
use optimist_shared::ids::Uuid;
use optimist_shared::reactions::Promise;
use optimist_shared::recent::{RECENT_MS, Recent};
use optimist_shared::scripts::recent as scripts;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub fn routes() -> Vec<Served> {
    vec![
        on("recent.note", note)
            .says("Note what one has looked at.")
            .notes("The newest 100 are remembered, each for a day. A message names its circle too.")
            .takes::<Looked>(json!({"kind": "circle", "id": "0190a0a0-0000-7000-8000-000000000001"}))
            .answers::<Noted>(200),
        on("recent.list", list)
            .says("What one has looked at lately, the newest first.")
            .notes("It names ids alone: whether they can still be read shows when they are read.")
            .answers::<List<Item>>(200),
    ]
}

/// What kinds of things are remembered.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Kind(String);

describe!(Kind, {"type": "string", "enum": ["circle", "message", "person", "entry"]});

impl TryFrom<String> for Kind {
    type Error = Refused;

    fn try_from(text: String) -> Result<Kind, Refused> {
        match text.as_str() {
            "circle" | "message" | "person" | "entry" => Ok(Kind(text)),
            _ => Err(Refused::new("must be `circle`, `message`, `person` or `entry`")),
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NoteRecent")]
struct Looked {
    kind: Kind,
    id: Id,
    /// Of a message, and of nothing else.
    circle_id: Option<Id>,
}

/// The answer, as the edge renders it too.
#[derive(JsonSchema)]
#[schemars(rename = "NotedRecent")]
#[expect(dead_code, reason = "it is a description alone")]
struct Noted {
    promise: PromiseShape,
    /// Seconds until it is forgotten.
    #[schemars(range(min = 1))]
    expires_in: u32,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RecentItem")]
struct Item {
    #[schemars(with = "Kind")]
    kind: &'static str,
    id: Uuid,
    /// Null unless it is a message.
    circle_id: Option<Uuid>,
    /// Seconds until it is forgotten: a day after one has looked.
    #[schemars(range(min = 0))]
    expires_in: u64,
}

async fn note(State(ctx): State<Ctx>, caller: Caller, body: Body<Looked>) -> Result<Response> {
    let Looked { kind: Kind(kind), id: Id(id), circle_id } = body.value;
    let recent = Recent::new(&kind, id, circle_id.map(|Id(circle)| circle));
    let recent = recent.ok_or_else(|| Error::invalid("circle_id", "must be there of a message alone"))?;
    let reply = ctx.redis.call_one(&scripts::note(caller.user, recent)).await;
    let mut reply = reply.map_err(|_| Error::unavailable("Redis"))?;
    if !scripts::is_noted(&mut reply) {
        return Err(Error::unavailable("Redis"));
    }
    let json = json!({"promise": Promise::RedisOnly.as_str(), "expires_in": RECENT_MS / 1_000});
    Ok(json_response(200, None, to_json(&json)?))
}

async fn list(State(ctx): State<Ctx>, caller: Caller, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let items = read(&ctx, caller.user).await?;
    let items = items.into_iter().map(|(recent, left_ms)| Item {
        kind: recent.kind(),
        id: recent.id(),
        circle_id: recent.circle_of_message(),
        expires_in: left_ms / 1_000,
    });
    Ok(json_response(200, None, to_json(&List::whole(items.collect::<Vec<_>>()))?))
}

/// What a person has looked at lately, the newest first, with the milliseconds that each is still remembered.
pub async fn read(ctx: &Ctx, user: Uuid) -> Result<Vec<(Recent, u64)>> {
    let reply = ctx.redis.call_one(&scripts::list(user)).await;
    let mut reply = reply.map_err(|_| Error::unavailable("Redis"))?;
    Ok(scripts::listed(&mut reply))
}
