//! Messages that are being composed: in each circle one draft, which the person's devices share.
//!
//! It is the draft of something that is meant for others, and not private writing, which is sealed: Redis holds it in clear, for
//! an hour, and no log has it. Whoever is no member any more cannot reach it.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use optimist_plane::ctx::Ctx;
use optimist_plane::describe;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{Body, json_response, to_json};
use optimist_plane::http::page::no_query;
use optimist_plane::http::sent::{PromiseShape, Refused};
use optimist_plane::http::served::{Served, on};
use optimist_plane::request::Caller;
use optimist_shared::error::ErrorCode;
use optimist_shared::presence::{MESSAGE_DRAFT_MS, is_message_draft};
use optimist_shared::quotas::Quota;
use optimist_shared::reactions::Promise;
use optimist_shared::scripts::message_drafts::{self, Kept};
use optimist_shared::session::Role;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::circles::access::require_role;
use crate::presence::saying::without_redis;

pub fn routes() -> Vec<Served> {
    vec![
        on("message-drafts.save", save)
            .says("Keep the message that one is composing in a circle, for an hour.")
            .notes("The last save counts, whichever device it is from. The text is kept as it was typed.")
            .takes::<Composed>(json!({"body": "Good mor"}))
            .answers::<PromisedFor>(200)
            .refuses(&[ErrorCode::QuotaExceeded]),
        on("message-drafts.get", get)
            .says("The message that one is composing in a circle.")
            .answers::<Draft>(200),
        on("message-drafts.discard", discard)
            .says("Forget the message that one is composing in a circle.")
            .answers::<Promised>(200),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ComposedMessage")]
struct Composed {
    body: DraftText,
}

/// A text as it was typed.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct DraftText(String);

describe!(DraftText, {"type": "string", "minLength": 0, "maxLength": 8000});

impl TryFrom<String> for DraftText {
    type Error = Refused;

    fn try_from(text: String) -> Result<DraftText, Refused> {
        if is_message_draft(&text) {
            Ok(DraftText(text))
        } else {
            Err(Refused::new("must have at most 8000 characters"))
        }
    }
}

#[derive(JsonSchema)]
#[schemars(rename = "PromisedAlone")]
#[expect(dead_code, reason = "it is a description alone")]
struct Promised {
    promise: PromiseShape,
}

/// An answer, as the edge renders it too.
#[derive(JsonSchema)]
#[schemars(rename = "PromisedFor")]
#[expect(dead_code, reason = "it is a description alone")]
pub struct PromisedFor {
    promise: PromiseShape,
    /// Seconds until it is forgotten.
    #[schemars(range(min = 1))]
    expires_in: u32,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MessageDraft")]
struct Draft {
    body: String,
    /// Seconds until it is forgotten.
    #[schemars(range(min = 0))]
    expires_in: u64,
}

/// 200, with what is promised.
pub fn promised_for(ms: u64) -> Result<Response> {
    let promise = Promise::RedisOnly.as_str();
    Ok(json_response(200, None, to_json(&json!({"promise": promise, "expires_in": ms / 1_000}))?))
}

async fn save(State(ctx): State<Ctx>, caller: Caller, body: Body<Composed>) -> Result<Response> {
    let (circle, _) = require_role(&ctx, &caller, Role::is_member).await?;
    let DraftText(text) = body.value.body;
    let call = message_drafts::save(caller.user, circle, &text);
    let mut reply = ctx.redis.call_one(&call).await.map_err(|_| without_redis())?;
    match message_drafts::kept(&mut reply) {
        Some(Kept::Saved) => promised_for(MESSAGE_DRAFT_MS),
        Some(Kept::Full) => Err(Error::over(Quota::MessageDrafts)),
        None => Err(without_redis()),
    }
}

async fn get(State(ctx): State<Ctx>, caller: Caller, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let (circle, _) = require_role(&ctx, &caller, Role::is_member).await?;
    let call = message_drafts::read(caller.user, circle);
    let mut reply = ctx.redis.call_one(&call).await.map_err(|_| without_redis())?;
    let (body, left_ms) = message_drafts::draft(&mut reply).ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    Ok(json_response(200, None, to_json(&Draft { body, expires_in: left_ms / 1_000 })?))
}

async fn discard(State(ctx): State<Ctx>, caller: Caller) -> Result<Response> {
    let (circle, _) = require_role(&ctx, &caller, Role::is_member).await?;
    let call = message_drafts::discard(caller.user, circle);
    ctx.redis.call_one(&call).await.map_err(|_| without_redis())?;
    Ok(json_response(200, None, to_json(&json!({"promise": Promise::RedisOnly.as_str()}))?))
}
