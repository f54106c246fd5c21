//! Posting, editing and deleting messages, as clients ask for it.
//!
//! How posts share transactions is [`super::posting`]'s.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use optimist_plane::archive::missing;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::http::body::{Body, check_match_of_row};
use optimist_plane::http::idempotency::Idempotency;
use optimist_plane::http::served::{Served, on, on_with};
use optimist_plane::operation::links::{ID, link};
use optimist_plane::request::Caller;
use optimist_plane::{statements, transaction};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Id;
use optimist_shared::reactions::Counts;
use optimist_shared::session::Role;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::circles::access::require_role;
use crate::circles::definition::SAME_CIRCLE;
use crate::circles::standing::Standing;
use crate::messages::mentions;
use crate::messages::message::{Message, MessageBody, MessageWithCounts, TABLE};
use crate::messages::posting::{Post, Posting, post_in_batch};
use crate::messages::subject::Subject;

const NEW_MESSAGE: &[(&str, &str)] = &[SAME_CIRCLE, ("message", ID)];

pub fn routes() -> Vec<Served> {
    let example = || json!({"body": "Good morning."});
    // Comments share the batches of messages.
    let posting: Arc<Posting> = Arc::default();
    let poster = || {
        let posting = posting.clone();
        |ctx: &Ctx| Poster { ctx: ctx.clone(), posting }
    };
    vec![
        on_with("comments.post", post, poster())
            .says("Comment on a message.")
            .notes(
                "A comment is a message of its circle: it has a number, is listed there with its `parent_id`, and is read, edited, \
                 deleted and reacted to as one. A comment has none of its own, and a deleted message gets none.",
            )
            .takes::<Write>(example())
            .answers::<MessageWithCounts>(201)
            .tagged()
            .location()
            .idempotent()
            .refuses(&[ErrorCode::Archived])
            .links([link("messages.get", NEW_MESSAGE), link("messages.delete", NEW_MESSAGE)]),
        on_with("messages.post", post, poster())
            .says("Post a message.")
            .takes::<Write>(example())
            .answers::<MessageWithCounts>(201)
            .tagged()
            .location()
            .idempotent()
            .links([
                link("messages.get", NEW_MESSAGE),
                link("messages.edit", NEW_MESSAGE),
                link("messages.delete", NEW_MESSAGE),
                link("reactions.add", NEW_MESSAGE),
                link("comments.post", NEW_MESSAGE),
                link("comments.list", NEW_MESSAGE),
            ]),
        on("messages.edit", edit)
            .says("Change one's own message.")
            .takes::<Write>(example())
            .answers::<MessageWithCounts>(200)
            .refuses(&[ErrorCode::Archived])
            .tagged(),
        on("messages.delete", delete)
            .says("Delete a message: one's own, or as a moderator anyone's.")
            .refuses(&[ErrorCode::Archived])
            .conditional(),
    ]
}

/// The state of the handler that posts: the context, and the batches under way.
#[derive(Clone)]
struct Poster {
    ctx: Ctx,
    posting: Arc<Posting>,
}

/// The body of a message, of a new one or of an edited one.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "WriteMessage")]
struct Write {
    body: MessageBody,
}

statements! {
    const EDIT: &str = "-- messages::edit, planned anew
with edited as (
    update messages set body = $3, version = version + 1, edited_at = now() where circle_id = $1 and id = $2
    returning id, circle_id, number, author_id, body, created_at, edited_at, version, parent_id, comments)
select edited.*, users.name as author_name from edited join users on users.id = author_id";
}

async fn post(
    State(Poster { ctx, posting }): State<Poster>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<Write>,
) -> Result<Response> {
    let (circle, _) = require_role(&ctx, &caller, Role::is_member).await?;
    let idempotency = Idempotency::from_request(&headers, &caller.request, &body.bytes)?;
    let body = body.value.body.into();
    let parent = caller.request.path.ids.get(Id::Message);
    let post = Post { circle, parent, caller, idempotency, body };
    let (message, is_new) = post_in_batch(&ctx, &posting, post).await?;
    // Nobody has seen a new message yet, so nobody has reacted to it.
    let mut response = match is_new {
        true => message.respond_with(Counts::default(), 201)?,
        false => message.respond(&ctx, 201).await?,
    };
    if let Ok(location) = format!("/v1/circles/{circle}/messages/{}", message.id).parse() {
        response.headers_mut().insert("location", location);
    }
    Ok(response)
}

async fn edit(
    State(ctx): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<Write>,
) -> Result<Response> {
    let (circle, _) = require_role(&ctx, &caller, Role::is_member).await?;
    let id = caller.request.id(Id::Message)?;
    Subject::before_locks(&ctx, circle, id).await?.require_editor(caller.user)?;
    let Write { body } = body.value;
    let context = caller.writes("messages::edit", [circle]);
    let message = transaction!(&ctx, context, |tx| {
        let standing = Standing::read(tx, circle, caller.user).await?;
        standing.require_member()?;
        let subject = Subject::read(&ctx, tx, circle, id).await?;
        subject.require_editor(caller.user)?;
        check_match_of_row(&headers, &subject.version)?;
        // A month on its way to the archive passes over changes.
        let Some(row) = tx.query_opt(EDIT, &[&circle, &id, &body]).await? else {
            return Err(missing(&ctx, TABLE, id).await);
        };
        let message = Message::from_row(&row);
        subject.touch(tx, circle, id);
        let mut payload = json!({"circle": circle, "message": id});
        mentions::note_edit(&mut payload, &subject.body, &body);
        tx.event("message.edited", payload);
        Ok(message)
    })?;
    message.respond(&ctx, 200).await
}

async fn delete(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap) -> Result<Response> {
    let (circle, role) = require_role(&ctx, &caller, Role::is_member).await?;
    let id = caller.request.id(Id::Message)?;
    Subject::before_locks(&ctx, circle, id).await?.require_deleter(caller.user, role)?;
    let context = caller.writes("messages::delete", [circle]);
    transaction!(&ctx, context, |tx| {
        let standing = Standing::read(tx, circle, caller.user).await?;
        standing.require_member()?;
        let subject = Subject::read(&ctx, tx, circle, id).await?;
        subject.require_deleter(caller.user, standing.role)?;
        check_match_of_row(&headers, &subject.version)?;
        subject.remove(&ctx, tx, circle, id, caller.user).await
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
