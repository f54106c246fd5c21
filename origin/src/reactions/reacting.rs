//! Making reactions and taking them back where the edge could not; and which handlers serve the routes of reactions.
//!
//! This file writes to Postgres only while the region is off. Writes to Redis are [`super::live`]'s.

use axum::extract::State;
use axum::response::Response;
use optimist_plane::archive::{missing, require_open};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Failure, Result};
use optimist_plane::http::body::json_response;
use optimist_plane::http::page::List;
use optimist_plane::http::sent::PromiseShape;
use optimist_plane::http::served::{Served, on};
use optimist_plane::operation::links::link;
use optimist_plane::postgres::write::hold_off;
use optimist_plane::region::switch::switch_off;
use optimist_plane::region::trust::Mode;
use optimist_plane::request::{Caller, RequestContext, WriteContext};
use optimist_plane::transaction;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::reactions::{Counts, Promise};
use optimist_shared::routes::Method;
use optimist_shared::scripts::react::Reaction;
use schemars::JsonSchema;

use crate::circles::access::require_member;
use crate::circles::definition::SAME_CIRCLE;
use crate::circles::standing::Standing;
use crate::reactions::apply::{ReactionEntry, Target, write_through};
use crate::reactions::live;
use crate::reactions::mine::{self, MessageIds, OwnReactions};
use crate::reactions::reactors::{self, EXISTS, Reactions};
use crate::reactions::shapes::{ReactionCounts, ReactionKind};

pub fn routes() -> Vec<Served> {
    const NOTES: &str = "Safe to repeat. `promise` says where it is safe: in Redis as that is configured, on its way to \
                         Postgres within a second or so, or in Postgres.";
    const MESSAGE: (&str, &str) = ("message", "$request.path.message");
    const KIND: (&str, &str) = ("kind", "$request.path.kind");
    vec![
        on("reactions.add", set)
            .says("React to a message.")
            .notes(NOTES)
            .path::<ReactionKind>("kind")
            .answers::<ReactionAnswer>(202)
            .refuses(&[ErrorCode::Archived])
            .links([
                link("reactions.list", &[SAME_CIRCLE, MESSAGE]),
                link("reactions.remove", &[SAME_CIRCLE, MESSAGE, KIND]),
            ]),
        on("reactions.remove", set)
            .says("Take a reaction back.")
            .notes(NOTES)
            .path::<ReactionKind>("kind")
            .answers::<ReactionAnswer>(202)
            .refuses(&[ErrorCode::Archived]),
        on("reactions.list", reactors::list)
            .says("A message's reactions: counts, the caller's own, and who reacted, newest first.")
            .notes("Pages go through everyone. Each has the counts and the caller's own reactions, live.")
            .answers::<Reactions>(200)
            .refuses(&[ErrorCode::Archived])
            .tagged()
            .pages("cursor"),
        on("reactions.mine", mine::list)
            .says("The caller's own reactions to up to a hundred messages of the circle, live.")
            .notes("`messages` is required. Each message has an item, in the query's order, also if it does not exist.")
            .answers::<List<OwnReactions>>(200)
            .tagged()
            .names::<MessageIds>("messages", "The messages' ids, separated by commas."),
    ]
}

/// The answer to a reaction, as [`Reaction::answer`] renders it at the edge and here.
#[derive(JsonSchema)]
#[schemars(rename = "Reacted")]
#[expect(dead_code, reason = "it is a description alone")]
struct ReactionAnswer {
    kind: ReactionKind,
    reacted: bool,
    counts: ReactionCounts,
    promise: PromiseShape,
}

/// Makes a reaction, or takes it back: the route's method says which.
async fn set(State(ctx): State<Ctx>, caller: Caller) -> Result<Response> {
    let (circle, message) = message_of(&caller)?;
    let kind = caller.request.path.kind.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    let reacted = caller.request.route.method == Method::Put;
    let reaction = Reaction { user: caller.user, circle, message, kind, reacted };
    require_member(&ctx, &caller).await?;
    /// Redis may go away and come back between two attempts.
    const ROUNDS: u32 = 3;
    for _ in 0..ROUNDS {
        if ctx.region.mode() == Mode::Fenced {
            if let Some((counts, promise)) = live::react(&ctx, &reaction).await? {
                return Ok(json_response(202, None, reaction.answer(&counts, promise)));
            }
            if ctx.region.mode() == Mode::Fenced {
                switch_off(&ctx).await?;
            }
        }
        let target = Target { circle, message, kind, user: caller.user };
        match through(&ctx, &caller, ReactionEntry { target, reacted }).await {
            Ok(counts) => {
                return Ok(json_response(202, None, reaction.answer(&counts, Promise::Postgres)));
            }
            Err(Error { failure: Failure::Again { .. }, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::unavailable("The cache"))
}

/// Takes back a reaction of somebody whose account is erased, as [`set`] does, but without their rights. 404 if the message is gone.
pub async fn take_back(ctx: &Ctx, request: &RequestContext, target: Target) -> Result<()> {
    let Target { circle, message, kind, user } = target;
    let reaction = Reaction { user, circle, message, kind, reacted: false };
    if ctx.region.mode() == Mode::Fenced {
        if live::react(ctx, &reaction).await?.is_some() {
            return Ok(());
        }
        switch_off(ctx).await?;
    }
    let context = WriteContext::new("reactions::take_back", request, None, vec![circle]);
    transaction!(ctx, context, |tx| {
        hold_off(ctx, tx).await?;
        if tx.query_opt(EXISTS, &[&circle, &message]).await?.is_none() {
            return Err(missing(ctx, live::MESSAGES, message).await);
        }
        require_open(ctx, live::MESSAGES, message).await?;
        write_through(ctx, tx, ReactionEntry { target, reacted: false }).await?;
        tx.event(
            "message.reacted",
            serde_json::json!({"circle": circle, "message": message, "kind": kind.as_str(), "reacted": false}),
        );
        Ok(())
    })
}

fn message_of(caller: &Caller) -> Result<(Uuid, Uuid)> {
    Ok((caller.request.id(Id::Circle)?, caller.request.id(Id::Message)?))
}

/// Writes to Postgres while the region is off, so that nobody writes to Redis or reads it.
async fn through(ctx: &Ctx, caller: &Caller, reaction: ReactionEntry) -> Result<Counts> {
    let ReactionEntry { target: Target { circle, message, kind, .. }, reacted } = reaction;
    let context = caller.writes("reactions::set", [circle]);
    transaction!(ctx, context, |tx| {
        hold_off(ctx, tx).await?;
        let standing = Standing::read(tx, circle, caller.user).await?;
        standing.require_member()?;
        if tx.query_opt(EXISTS, &[&circle, &message]).await?.is_none() {
            return Err(missing(ctx, live::MESSAGES, message).await);
        }
        require_open(ctx, live::MESSAGES, message).await?;
        write_through(ctx, tx, reaction).await?;
        tx.event(
            "message.reacted",
            serde_json::json!({"circle": circle, "message": message, "kind": kind.as_str(), "reacted": reacted}),
        );
        Ok(())
    })?;
    live::counts_of(ctx, circle, message).await
}
