//! Listing favourites, newest first: those that their owner may read at the moment.
//!
//! Rights are read from Postgres for each page, and texts from the copies that writers fence. Nothing of the list itself is cached.

use std::collections::{BTreeMap, HashSet};

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use chrono::{DateTime, Utc};
use futures_util::future::try_join_all;
use futures_util::stream::{StreamExt as _, TryStreamExt as _, iter};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::page::{At, List, answer_page, page};
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::months::Month;
use optimist_plane::operation::links::{Link, link};
use optimist_plane::request::Caller;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Row;

use crate::circles::access;
use crate::messages::message::ShownMessage;
use crate::messages::reading::shown_with_counts;

/// Removing the first one of a list.
const FIRST: &[(&str, &str)] = &[("message", "$response.body#/items/0/message/id")];

pub fn routes() -> Vec<Served> {
    let remove: Link = link("favorites.remove", FIRST);
    vec![
        on("favorites.list", list)
            .says("The messages that the caller keeps at hand, the latest first.")
            .notes(
                "A message that has been deleted or archived since is left out, and so is one in a circle that the caller may not read any \
                 more; whoever comes back to the circle finds it again.",
            )
            .answers::<List<Favorite>>(200)
            .tagged()
            .pages("cursor")
            .links([remove]),
    ]
}

statements! {
    const NEWEST: &str = "-- favorites::list
select message_id, circle_id, added_at from favorites
where user_id = $1
  and (added_at, message_id) < (coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
order by added_at desc, message_id desc limit $4";

    /// Those of these messages that are there, which are of one month: the ids' bounds name it.
    const THERE: &str = "-- favorites::there, planned anew
select m.id from unnest($1::uuid[], $2::uuid[]) as asked (circle_id, id)
cross join lateral (
    select id from messages
    where circle_id = asked.circle_id and id = asked.id and id >= $3 and id < $4 and deleted_at is null offset 0) m";
}

/// A favourite, and the message as its readers see it.
#[derive(Serialize, JsonSchema)]
struct Favorite {
    #[schemars(with = "ShownMessage<'static>")]
    message: Value,
    added_at: Time,
    #[serde(skip)]
    id: Uuid,
}

/// A person's row.
pub struct Kept {
    pub message: Uuid,
    circle: Uuid,
    added_at: DateTime<Utc>,
}

impl Kept {
    pub fn from_row(row: &Row) -> Kept {
        Kept { message: row.get(0), circle: row.get(1), added_at: row.get(2) }
    }
}

/// Rows that are looked at together.
const AT_ONCE: usize = 100;
/// Messages that are read at the same time.
const READ_AT_ONCE: usize = 8;

async fn list(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let page = page::<At<'f'>>(uri.query(), "cursor")?;
    let mut after = page.after.map(|at| (at.time, at.id));
    let (mut found, mut is_over) = (Vec::new(), false);
    // A person has so few that all of them are some fifty rounds, if they may read none.
    while found.len() <= page.limit && !is_over {
        let (time, id) = (after.map(|at| at.0), after.map(|at| at.1));
        let rows = ctx.db.query(NEWEST, &[&caller.user, &time, &id, &(AT_ONCE as i64)]).await?;
        let kept: Vec<Kept> = rows.iter().map(Kept::from_row).collect();
        is_over = kept.len() < AT_ONCE;
        after = kept.last().map(|last| (last.added_at, last.message)).or(after);
        let there = readable(&ctx, caller.user, &kept).await?;
        found.extend(kept.into_iter().filter(|kept| there.contains(&kept.message)));
    }
    let more = found.len() > page.limit;
    found.truncate(page.limit);
    let items =
        iter(found).map(|kept| show(&ctx, kept)).buffered(READ_AT_ONCE).try_collect::<Vec<_>>().await?;
    // One that was deleted just now is left out as well.
    let items: Vec<Favorite> = items.into_iter().flatten().collect();
    answer_page(&headers, items, more, |last| At::<'f'> { time: last.added_at.0, id: last.id })
}

async fn show(ctx: &Ctx, Kept { message, circle, added_at }: Kept) -> Result<Option<Favorite>> {
    let Some(json) = shown_with_counts(ctx, circle, message).await? else { return Ok(None) };
    let shown = serde_json::from_slice(&json).map_err(|error| Error::internal("favorites", &error))?;
    Ok(Some(Favorite { message: shown, added_at: Time(added_at), id: message }))
}

/// Those of the messages that are there, and that the person may read.
pub async fn readable(ctx: &Ctx, user: Uuid, kept: &[Kept]) -> Result<HashSet<Uuid>> {
    let circles: HashSet<Uuid> = kept.iter().map(|kept| kept.circle).collect();
    let circles: Vec<Uuid> = circles.into_iter().collect();
    let circles = access::readable(ctx, user, &circles).await?;
    let mut months: BTreeMap<Month, (Vec<Uuid>, Vec<Uuid>)> = BTreeMap::new();
    for kept in kept.iter().filter(|kept| circles.contains(&kept.circle)) {
        let (circles, messages) = months.entry(Month::of_id(kept.message)).or_default();
        circles.push(kept.circle);
        messages.push(kept.message);
    }
    let read = months.into_iter().map(async |(month, (circles, messages))| {
        let (first, end) = (month.first_id(), month.plus(1).first_id());
        ctx.db.query(THERE, &[&circles, &messages, &first, &end]).await
    });
    let rows = try_join_all(read).await?;
    Ok(rows.iter().flatten().map(|row| row.get(0)).collect())
}
