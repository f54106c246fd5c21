//! Who reacted to a message, page by page, newest first.
//!
//! People come from Postgres, which is a second or so behind; counts and the caller's own reactions are live.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use chrono::Utc;
use optimist_plane::archive::missing;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::hash::digest;
use optimist_plane::http::body::{tagged, to_json};
use optimist_plane::http::page::{At, Cursor, page};
use optimist_plane::http::time::Time;
use optimist_plane::request::Caller;
use optimist_plane::statements;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::reactions::{Counts, Kind};
use schemars::JsonSchema;
use serde::Serialize;
use tokio_postgres::Row;

use crate::circles::access::reader_of_circle;
use crate::people::person::Person;
use crate::reactions::live;
use crate::reactions::shapes::{ReactionCounts, ReactionKind};
use crate::reactions::snapshot::kind_of;

statements! {
    pub const EXISTS: &str = "-- reactions::exists, planned anew
select from messages where circle_id = $1 and id = $2 and deleted_at is null";

    /// A page of the reactions with the people who made them.
    const LIST: &str = "-- reactions::list, planned anew
select r.kind, r.reacted_at, users.id, users.name
from reactions r join users on users.id = r.user_id
where circle_id = $1 and message_id = $2 and is_on
  and (r.reacted_at, r.user_id, r.kind) < (coalesce($3::timestamptz, 'infinity'),
      coalesce($4::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'), coalesce($5::smallint, 32767::smallint))
order by r.reacted_at desc, r.user_id desc, r.kind desc limit $6";

    const NAME: &str = "-- reactions::name
select name from users where id = $1";
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
pub struct Reactions {
    #[schemars(with = "ReactionCounts")]
    counts: Counts,
    #[schemars(with = "Vec<ReactionKind>")]
    mine: Vec<&'static str>,
    items: Vec<Item>,
    /// The cursor of the page that follows.
    next: Option<String>,
}

/// The position after a reaction: its time and person, and its kind's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct After {
    at: At<'r'>,
    place: i16,
}

impl After {
    fn row(row: &Row) -> After {
        After { at: At { time: row.get(1), id: row.get(2) }, place: row.get(0) }
    }

    /// Before every reaction: a page that has room for the caller's own alone ends here.
    fn none() -> After {
        After { at: At { time: Utc::now(), id: Uuid::max() }, place: i16::MAX }
    }
}

impl Cursor for After {
    const KIND: char = 'r';

    fn render(&self) -> String {
        format!("{}:{}", self.at.render(), self.place)
    }

    fn parse(text: &str) -> Option<After> {
        let (at, place) = text.rsplit_once(':')?;
        Some(After { at: At::parse(at)?, place: place.parse().ok()? })
    }
}

pub async fn list(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let page = page::<After>(uri.query(), "cursor")?;
    let (circle, _) = reader_of_circle(&ctx, &caller).await?;
    let message = caller.request.id(Id::Message)?;
    let own = live::own_view(&ctx, circle, message, caller.user).await?;
    if ctx.db.query_opt(EXISTS, &[&circle, &message]).await?.is_none() {
        return Err(missing(&ctx, live::MESSAGES, message).await);
    }
    let (time, user) = (page.after.map(|after| after.at.time), page.after.map(|after| after.at.id));
    let place = page.after.map(|after| after.place);
    let wanted = page.limit as i64 + 1;
    let rows = ctx.db.query(LIST, &[&circle, &message, &time, &user, &place, &wanted]).await?;
    // The caller's newest reactions may be on their way to Postgres: they come first.
    let unflushed = match page.after {
        None => unflushed(&ctx, &caller, (circle, message), &own.mine, &rows, page.limit).await?,
        Some(_) => Vec::new(),
    };
    let room = page.limit.saturating_sub(unflushed.len());
    let mut items = Vec::with_capacity(page.limit);
    if !unflushed.is_empty() {
        let name = ctx.db.query_opt(NAME, &[&caller.user]).await?;
        let name: String = name.map_or_else(String::new, |row| row.get(0));
        items.extend(unflushed.iter().take(page.limit).map(|kind| {
            let user = Person { id: caller.user, name: name.clone() };
            Item { user, kind: kind.as_str(), reacted_at: Utc::now().into() }
        }));
    }
    let shown = &rows[..rows.len().min(room)];
    items.extend(shown.iter().filter_map(|row| {
        let (kind, user) = (kind_of(row.get(0))?, Person { id: row.get(2), name: row.get(3) });
        // Postgres may not know yet that the caller has taken one back.
        let is_there = user.id != caller.user || own.mine.contains(&kind);
        is_there.then(|| Item { user, kind: kind.as_str(), reacted_at: row.get(1) })
    }));
    let last = shown.last().map_or_else(After::none, After::row);
    let next = (rows.len() > shown.len()).then(|| last.encode());
    let mine = own.mine.iter().map(|kind| kind.as_str()).collect();
    let json = to_json(&Reactions { counts: own.counts, mine, items, next })?;
    Ok(tagged(&headers, &digest(&[&json]), "", json))
}

/// The caller's kinds that Postgres does not have yet.
async fn unflushed(
    ctx: &Ctx,
    caller: &Caller,
    (circle, message): (Uuid, Uuid),
    mine: &[Kind],
    first: &[Row],
    limit: usize,
) -> Result<Vec<Kind>> {
    let is_listed = |kind: Kind| {
        first.iter().any(|row| row.get::<_, Uuid>(2) == caller.user && kind_of(row.get(0)) == Some(kind))
    };
    let mut unlisted: Vec<Kind> = mine.iter().copied().filter(|kind| !is_listed(*kind)).collect();
    if !unlisted.is_empty() && first.len() > limit {
        // Some may be on a later page.
        let stored = live::stored_own(ctx, circle, message, caller.user).await?;
        unlisted.retain(|kind| !stored.contains(kind));
    }
    Ok(unlisted)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_position_round_trips_and_has_one_spelling(
            micros in 0..253_402_300_799_999_999i64, id: u128, place: i16,
            noise in "[0-9]{1,8}:[0-9a-f-]{36}:[+-]?0?[0-9]{1,6}|\\PC*",
        ) {
            let at = At { time: DateTime::from_timestamp_micros(micros).unwrap(), id: Uuid::from_u128(id) };
            let after = After { at, place };
            prop_assert_eq!(After::decode(&after.encode()), Some(after));
            if let Some(parsed) = After::parse(&noise).filter(|parsed| parsed.render() == noise) {
                prop_assert_eq!(After::decode(&parsed.encode()), Some(parsed));
            }
        }
    }
}
