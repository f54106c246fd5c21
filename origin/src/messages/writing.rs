//! Messages, written: posted, edited, deleted.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{Body, check_match, text};
use optimist_plane::http::idempotency::Idempotency;
use optimist_plane::http::served::{Served, on, on_with};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::postgres::write::WriteContext;
use optimist_plane::request::Caller;
use optimist_plane::transaction;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{Key, Parameters};
use optimist_shared::reactions::Counts;
use serde::Deserialize;

use crate::circles::access::circle_of;
use crate::circles::standing::{Standing, is_moderator};
use crate::messages::message::{BODY, Message};
use crate::messages::posting::{Post, Posting, post_in_batch};

pub fn routes() -> Vec<Served> {
    vec![
        on_with("messages.post", post, |ctx| Poster { ctx: ctx.clone(), posting: Arc::default() }),
        on("messages.edit", edit),
        on("messages.delete", delete),
    ]
}

/// What posting needs: the batches under way.
#[derive(Clone)]
struct Poster {
    ctx: Ctx,
    posting: Arc<Posting>,
}

/// The body of a message, of a new one or of an edited one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Write {
    body: String,
}

const AUTHOR: &str = "-- messages::author
select author_id, version, deleted_at is not null from messages where circle_id = $1 and id = $2";

const EDIT: &str = "-- messages::edit
with edited as (
    update messages set body = $3, version = version + 1, edited_at = now() where circle_id = $1 and id = $2
    returning id, circle_id, number, author_id, body, created_at, edited_at, version)
select edited.*, users.name as author_name from edited join users on users.id = author_id";

const DELETE: &str = "-- messages::delete
update messages set body = '', version = version + 1, deleted_at = now() where circle_id = $1 and id = $2";

pub const STATEMENTS: &[&str] = &[AUTHOR, EDIT, DELETE];

async fn post(
    State(Poster { ctx: app, posting }): State<Poster>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<Write>,
) -> Result<Response> {
    let circle = circle_of(&caller)?;
    let idempotency = Idempotency::from_request(&headers, &caller.request, &body.bytes)?;
    let body = text("body", &body.value.body, BODY, true)?;
    let post = Post { id: Uuid::now_v7(), circle, caller, idempotency, body };
    let (message, is_new) = post_in_batch(&app, &posting, post).await?;
    // Nobody has reacted to what nobody has seen.
    let mut response = match is_new {
        true => message.respond_with(Counts::default(), 201)?,
        false => message.respond(&app, 201).await?,
    };
    if let Ok(location) = format!("/v1/circles/{circle}/messages/{}", message.id).parse() {
        response.headers_mut().insert("location", location);
    }
    Ok(response)
}

/// What a change of a message makes stale.
fn touch(tx: &mut Tx, standing: &Standing, message: Uuid) {
    tx.touch(Key::CircleMessages, standing.keys());
    tx.touch(Key::Message, Parameters { message: Some(message), ..standing.keys() });
}

async fn edit(
    State(app): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<Write>,
) -> Result<Response> {
    let circle = circle_of(&caller)?;
    let id = caller.request.path.message.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    let body = text("body", &body.value.body, BODY, true)?;
    let order = [circle];
    let context = WriteContext {
        name: "messages::edit",
        request: &caller.request,
        actor: caller.actor(),
        order: &order,
    };
    let message = transaction!(&app, context, |tx| {
        let standing = Standing::read(tx, circle, caller.user).await?;
        standing.require_member()?;
        let row =
            tx.query_opt(AUTHOR, &[&circle, &id]).await?.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
        let (author, version, deleted): (Uuid, i64, bool) = (row.get(0), row.get(1), row.get(2));
        if deleted {
            return Err(Error::new(ErrorCode::NotFound));
        }
        if author != caller.user {
            return Err(Error::new(ErrorCode::Forbidden).detail("Only its author edits a message."));
        }
        check_match(&headers, version)?;
        let message = Message::from_row(&tx.query_one(EDIT, &[&circle, &id, &body]).await?);
        touch(tx, &standing, id);
        tx.event("message.edited", serde_json::json!({"circle": circle, "message": id}));
        Ok(message)
    })?;
    message.respond(&app, 200).await
}

async fn delete(State(app): State<Ctx>, caller: Caller) -> Result<Response> {
    let circle = circle_of(&caller)?;
    let id = caller.request.path.message.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    let order = [circle];
    let context = WriteContext {
        name: "messages::delete",
        request: &caller.request,
        actor: caller.actor(),
        order: &order,
    };
    transaction!(&app, context, |tx| {
        let standing = Standing::read(tx, circle, caller.user).await?;
        standing.require_member()?;
        let row =
            tx.query_opt(AUTHOR, &[&circle, &id]).await?.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
        let (author, deleted): (Uuid, bool) = (row.get(0), row.get(2));
        if author != caller.user && !is_moderator(standing.role) {
            return Err(
                Error::new(ErrorCode::Forbidden).detail("Only its author or a moderator deletes a message.")
            );
        }
        touch(tx, &standing, id);
        tx.touch(Key::Reactions, Parameters { message: Some(id), ..standing.keys() });
        if deleted {
            tx.unchanged();
        } else {
            tx.execute(DELETE, &[&circle, &id]).await?;
            tx.event("message.deleted", serde_json::json!({"circle": circle, "message": id}));
        }
        Ok(())
    })?;
    Ok(axum::http::StatusCode::NO_CONTENT.into_response())
}
