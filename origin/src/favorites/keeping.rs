//! Adding favourites, and removing them. Only what one may read is added.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use optimist_plane::archive::missing;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::Body;
use optimist_plane::http::sent::Id as SentId;
use optimist_plane::http::served::{Served, on};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::Caller;
use optimist_plane::{statements, transaction};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::quotas::Quota;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::circles::standing::Standing;
use crate::favorites::listing::{Kept, readable};
use crate::messages::message::TABLE;

pub fn routes() -> Vec<Served> {
    vec![
        on("favorites.add", add)
            .says("Keep a message at hand.")
            .notes("Again, it stays where it is in the list. One that cannot be read any more makes room for another, in time.")
            .takes::<Place>(json!({"circle_id": "0190a0a0-0000-7000-8000-00000000c1c1"}))
            .refuses(&[ErrorCode::Archived, ErrorCode::QuotaExceeded]),
        on("favorites.remove", remove).says("Keep a message at hand no longer."),
    ]
}

/// Where the message is: its id alone does not say.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FavoritePlace")]
struct Place {
    circle_id: SentId,
}

/// Of the oldest favourites of whoever has as many as they may, those that are looked at for some that are gone.
const LOOKED_AT: i64 = 200;

statements! {
    const IS_THERE: &str = "-- favorites::is_there, planned anew
select from messages where circle_id = $1 and id = $2 and deleted_at is null";

    /// Without `$2`, and no further than `$3`.
    const COUNT: &str = "-- favorites::count (5,000 rows)
select count(*) from (select from favorites where user_id = $1 and message_id <> $2 limit $3) held";

    const OLDEST: &str = "-- favorites::oldest
select message_id, circle_id, added_at from favorites where user_id = $1 order by added_at, message_id limit $2";

    const ADD: &str = "-- favorites::add
insert into favorites (user_id, message_id, circle_id) values ($1, $2, $3) on conflict do nothing";

    const REMOVE: &str = "-- favorites::remove
delete from favorites where user_id = $1 and message_id = any($2)";
}

async fn add(State(ctx): State<Ctx>, caller: Caller, body: Body<Place>) -> Result<Response> {
    let (user, circle, message) = (caller.user, body.value.circle_id.0, caller.request.id(Id::Message)?);
    let standing = Standing::before_locks(&ctx, circle, user).await?;
    standing.ok_or_else(|| Error::new(ErrorCode::NotFound))?.require_reader()?;
    if ctx.db.query_opt(IS_THERE, &[&circle, &message]).await?.is_none() {
        return Err(missing(&ctx, TABLE, message).await);
    }
    let context = caller.writes("favorites::add", [user]);
    transaction!(&ctx, context, |tx| {
        Standing::read(tx, circle, user).await?.require_reader()?;
        make_room(&ctx, tx, user, message).await?;
        if tx.execute(ADD, &[&user, &message, &circle]).await? == 0 {
            tx.unchanged();
        }
        tx.event("favorite.added", json!({"message": message}));
        Ok(())
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// 422 for whoever has as many as they may, unless some of the oldest cannot be read any more: those are removed. The transaction holds
/// the person's lock.
async fn make_room(ctx: &Ctx, tx: &Tx, user: Uuid, message: Uuid) -> Result<()> {
    let most = Quota::Favorites.row().most.cast_signed();
    if tx.query_one(COUNT, &[&user, &message, &most]).await?.get::<_, i64>(0) < most {
        return Ok(());
    }
    let oldest: Vec<Kept> =
        tx.query(OLDEST, &[&user, &LOOKED_AT]).await?.iter().map(Kept::from_row).collect();
    let there = readable(ctx, user, &oldest).await?;
    let gone: Vec<Uuid> = oldest.iter().map(|kept| kept.message).filter(|id| !there.contains(id)).collect();
    if gone.is_empty() {
        return Err(Error::over(Quota::Favorites));
    }
    tx.execute(REMOVE, &[&user, &gone]).await.map(drop)
}

async fn remove(State(ctx): State<Ctx>, caller: Caller) -> Result<Response> {
    let (user, message) = (caller.user, caller.request.id(Id::Message)?);
    let context = caller.writes("favorites::remove", [user]);
    transaction!(&ctx, context, |tx| {
        if tx.execute(REMOVE, &[&user, &[message].as_slice()]).await? == 0 {
            return Err(Error::new(ErrorCode::NotFound));
        }
        tx.event("favorite.removed", json!({"message": message}));
        Ok(())
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
