//! Making reactions and taking them back where the edge could not, and listing who reacted how.
//!
//! This file writes to Postgres only while the region is off. Writes to Redis are [`super::live`]'s.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use chrono::Utc;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Failure, Result};
use optimist_plane::hash::digest;
use optimist_plane::http::body::{json_response, tagged, to_json};
use optimist_plane::http::page::no_query;
use optimist_plane::http::sent::PromiseShape;
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::operation::links::link;
use optimist_plane::postgres::write::hold_off;
use optimist_plane::region::switch::switch_off;
use optimist_plane::region::trust::Mode;
use optimist_plane::request::Caller;
use optimist_plane::{statements, transaction};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::reactions::{Counts, Promise};
use optimist_shared::routes::Method;
use optimist_shared::scripts::react::Reaction;
use schemars::JsonSchema;
use serde::Serialize;

use crate::circles::access::{reader_of_circle, require_member};
use crate::circles::definition::SAME_CIRCLE;
use crate::circles::standing::Standing;
use crate::people::person::Person;
use crate::reactions::apply::{ReactionEntry, Target, write_through};
use crate::reactions::live;
use crate::reactions::shapes::{ReactionCounts, ReactionKind};
use crate::reactions::snapshot::kind_of;

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
            .links([
                link("reactions.list", &[SAME_CIRCLE, MESSAGE]),
                link("reactions.remove", &[SAME_CIRCLE, MESSAGE, KIND]),
            ]),
        on("reactions.remove", set)
            .says("Take a reaction back.")
            .notes(NOTES)
            .path::<ReactionKind>("kind")
            .answers::<ReactionAnswer>(202),
        on("reactions.list", list)
            .says("A message's reactions: counts, the caller's own, and the newest hundred.")
            .answers::<Reactions>(200)
            .tagged(),
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

statements! {
    const EXISTS: &str = "-- reactions::exists
select from messages where circle_id = $1 and id = $2 and deleted_at is null";

    /// The newest reactions with the people who made them.
    const LIST: &str = "-- reactions::list
select r.kind, r.reacted_at, users.id, users.name
from reactions r join users on users.id = r.user_id
where circle_id = $1 and message_id = $2 and is_on
order by reacted_at desc limit 100";

    const NAME: &str = "-- reactions::name
select name from users where id = $1";
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
        tx.query_opt(EXISTS, &[&circle, &message]).await?.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
        write_through(ctx, tx, reaction).await?;
        tx.event(
            "message.reacted",
            serde_json::json!({"circle": circle, "message": message, "kind": kind.as_str(), "reacted": reacted}),
        );
        Ok(())
    })?;
    live::counts_of(ctx, circle, message).await
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Reaction")]
struct Item {
    user: Person,
    #[schemars(with = "ReactionKind")]
    kind: &'static str,
    reacted_at: Time,
}

#[derive(Serialize, JsonSchema)]
struct Reactions {
    #[schemars(with = "ReactionCounts")]
    counts: Counts,
    #[schemars(with = "Vec<ReactionKind>")]
    mine: Vec<&'static str>,
    items: Vec<Item>,
}

/// Counts and the caller's own reactions are live; the others come from Postgres, which is a second or so behind.
async fn list(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let (circle, message) = message_of(&caller)?;
    reader_of_circle(&ctx, &caller).await?;
    let own = live::own_view(&ctx, circle, message, caller.user).await?;
    if ctx.db.query_opt(EXISTS, &[&circle, &message]).await?.is_none() {
        return Err(Error::new(ErrorCode::NotFound));
    }
    let rows = ctx.db.query(LIST, &[&circle, &message]).await?;
    let mut items: Vec<Item> = rows
        .iter()
        .filter_map(|row| {
            let kind = kind_of(row.get(0))?;
            let user = Person { id: row.get(2), name: row.get(3) };
            Some(Item { user, kind: kind.as_str(), reacted_at: row.get(1) })
        })
        .collect();
    let mine: Vec<&str> = own.mine.iter().map(|kind| kind.as_str()).collect();
    items.retain(|item| item.user.id != caller.user || mine.contains(&item.kind));
    let is_listed = |kind: &str| items.iter().any(|item| item.user.id == caller.user && item.kind == kind);
    let unlisted: Vec<&str> = mine.iter().filter(|kind| !is_listed(kind)).copied().collect();
    // Where a hundred others are listed, the caller's may be older than those, and are left out too.
    if !unlisted.is_empty() && items.len() < 100 {
        let name = ctx.db.query_opt(NAME, &[&caller.user]).await?;
        let name: String = name.map_or_else(String::new, |row| row.get(0));
        for kind in unlisted {
            let user = Person { id: caller.user, name: name.clone() };
            items.insert(0, Item { user, kind, reacted_at: Utc::now().into() });
        }
    }
    let json = to_json(&Reactions { counts: own.counts, mine, items })?;
    Ok(tagged(&headers, &digest(&[&json]), "", json))
}
