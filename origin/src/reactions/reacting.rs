//! Reactions to messages: made and taken back where the edge could not, and who reacted how.
//!
//! They live in Redis and come to Postgres in batches; without Redis they are written to Postgres.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use chrono::{DateTime, Utc};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::reactions::{Counts, Kind, Promise, Reaction};
use optimist_shared::routes::Method;
use serde::Serialize;

use crate::circles::access::{reader_of_circle, require_member};
use crate::circles::standing::Standing;
use crate::people::person::Person;
use crate::reactions::apply::{ReactionEntry, Target, write_through};
use crate::reactions::live;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Failure, Result};
use optimist_plane::hash::digest;
use optimist_plane::http::body::{json_response, tagged, to_json};
use optimist_plane::http::page::no_query;
use optimist_plane::http::served::{Served, on};
use optimist_plane::postgres::write::{WriteContext, hold_off};
use optimist_plane::region::belief::Mode;
use optimist_plane::region::switch::switch_off;
use optimist_plane::request::Caller;
use optimist_plane::transaction;

pub fn routes() -> Vec<Served> {
    vec![on("reactions.add", set), on("reactions.remove", set), on("reactions.list", list)]
}

const EXISTS: &str = "-- reactions::exists
select from messages where circle_id = $1 and id = $2 and deleted_at is null";

/// The newest, with their people.
const LIST: &str = "-- reactions::list
select r.kind, r.reacted_at, users.id, users.name
from reactions r join users on users.id = r.user_id
where circle_id = $1 and message_id = $2 and is_on
order by reacted_at desc limit 100";

const NAME: &str = "-- reactions::name
select name from users where id = $1";

pub const STATEMENTS: &[&str] = &[EXISTS, LIST, NAME];

/// Reacts, or takes a reaction back: the route's method says which.
async fn set(State(app): State<Ctx>, caller: Caller) -> Result<Response> {
    let (circle, message) = message_of(&caller)?;
    let kind = caller.request.path.kind.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    let parameters = caller.request.path.with_session(Some(caller.user), None);
    let reaction = Reaction::new(&parameters, kind, caller.request.route.method == Method::Put)
        .ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    require_member(&app, &caller, circle).await?;
    /// Redis may go away, and come back, while one tries.
    const ROUNDS: u32 = 3;
    for _ in 0..ROUNDS {
        if app.region.mode() == Mode::Fenced {
            if let Some((counts, promise)) = live::react(&app, &parameters, &reaction).await? {
                return Ok(json_response(202, None, reaction.answer(&counts, promise)));
            }
            if app.region.mode() == Mode::Fenced {
                switch_off(&app).await?;
            }
        }
        let target = Target { circle, message, kind, user: caller.user };
        match through(&app, &caller, ReactionEntry { target, reacted: reaction.reacted }).await {
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
    let path = &caller.request.path;
    path.circle.zip(path.message).ok_or_else(|| Error::new(ErrorCode::NotFound))
}

/// Writes to Postgres while the region is off, so that nobody writes to Redis, nor reads it.
async fn through(app: &Ctx, caller: &Caller, reaction: ReactionEntry) -> Result<Counts> {
    let ReactionEntry { target: Target { circle, message, kind, .. }, reacted } = reaction;
    let order = [circle];
    let context = WriteContext {
        name: "reactions::set",
        request: &caller.request,
        actor: caller.actor(),
        order: &order,
    };
    transaction!(app, context, |tx| {
        hold_off(app, tx).await?;
        let standing = Standing::read(tx, circle, caller.user).await?;
        standing.require_member()?;
        tx.query_opt(EXISTS, &[&circle, &message]).await?.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
        write_through(app, tx, reaction).await?;
        tx.event(
            "message.reacted",
            serde_json::json!({"circle": circle, "message": message, "kind": kind.as_str(), "reacted": reacted}),
        );
        Ok(())
    })?;
    Ok(live::counts(app, circle, &[message]).await?.remove(&message).unwrap_or_default())
}

#[derive(Serialize)]
struct Item {
    user: Person,
    kind: &'static str,
    reacted_at: DateTime<Utc>,
}

#[derive(Serialize)]
struct Reactions {
    counts: Counts,
    mine: Vec<&'static str>,
    items: Vec<Item>,
}

/// Counts and the caller's own are live; who else reacted is as Postgres has it, a second or so behind.
async fn list(State(app): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let (circle, message) = message_of(&caller)?;
    reader_of_circle(&app, &caller).await?;
    let standing = live::standing(&app, circle, message, caller.user).await?;
    if app.db.query_opt(EXISTS, &[&circle, &message]).await?.is_none() {
        return Err(Error::new(ErrorCode::NotFound));
    }
    let rows = app.db.query(LIST, &[&circle, &message]).await?;
    let mut items: Vec<Item> = rows
        .iter()
        .filter_map(|row| {
            let kind = Kind::from_place(usize::try_from(row.get::<_, i16>(0)).ok()?)?;
            let user = Person { id: row.get(2), name: row.get(3) };
            Some(Item { user, kind: kind.as_str(), reacted_at: row.get(1) })
        })
        .collect();
    let mine: Vec<&str> = standing.mine.iter().map(|kind| kind.as_str()).collect();
    items.retain(|item| item.user.id != caller.user || mine.contains(&item.kind));
    let is_listed = |kind: &str| items.iter().any(|item| item.user.id == caller.user && item.kind == kind);
    let unlisted: Vec<&str> = mine.iter().filter(|kind| !is_listed(kind)).copied().collect();
    // They may be older than the hundred newest; then they are not listed either.
    if !unlisted.is_empty() && items.len() < 100 {
        let name = app.db.query_opt(NAME, &[&caller.user]).await?;
        let name: String = name.map_or_else(String::new, |row| row.get(0));
        for kind in unlisted {
            let user = Person { id: caller.user, name: name.clone() };
            items.insert(0, Item { user, kind, reacted_at: Utc::now() });
        }
    }
    let json = to_json(&Reactions { counts: standing.counts, mine, items })?;
    Ok(tagged(&headers, &digest(&[&json]), "", json))
}
