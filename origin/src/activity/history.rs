//! Activity as a circle's moderators read it: today's so far, and who did how much on which day.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use chrono::{DateTime, NaiveDate, Utc};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::digest;
use optimist_plane::http::body::{tagged, to_json};
use optimist_plane::http::page::{Cursor, no_query, page};
use optimist_plane::http::sent::parse_day;
use optimist_plane::http::served::{Served, on};
use optimist_plane::region::belief::Mode;
use optimist_plane::request::Caller;
use optimist_plane::write_behind::flush::flush_all_of;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Partition, Uuid, parse_id};
use serde::Serialize;

use crate::circles::access::reader_of_circle;
use crate::circles::standing::is_moderator;
use crate::people::person::Person;

pub fn routes() -> Vec<Served> {
    vec![on("activity.live", live), on("activity.history", history)]
}

const LIVE: &str = "-- activity::live
select count(*), coalesce(sum(posts), 0), coalesce(sum(reactions), 0), coalesce(sum(bit_count(visits)), 0)::bigint, max(last_seen_at)
from activity where circle_id = $1 and day = $2";

const HISTORY: &str = "-- activity::history
select day, user_id, users.name, posts, reactions, bit_count(visits), last_seen_at
from activity join users on users.id = user_id
where circle_id = $1 and day <= coalesce($2::date, 'infinity')
  and (day < coalesce($2::date, 'infinity') or user_id > $3::uuid)
order by day desc, user_id limit $4";

pub const STATEMENTS: &[&str] = &[LIVE, HISTORY];

/// The circle in the path, for its moderators.
async fn moderated(app: &Ctx, caller: &Caller) -> Result<Uuid> {
    let (circle, role) = reader_of_circle(app, caller).await?;
    if is_moderator(role) { Ok(circle) } else { Err(Error::new(ErrorCode::Forbidden)) }
}

/// Brings what waits to Postgres; somebody else may be at it.
async fn flush(app: &Ctx, circle: Uuid) -> Result<()> {
    const ROUNDS: u32 = 20;
    const AGAIN: Duration = Duration::from_millis(25);
    for _ in 0..ROUNDS {
        // Without Redis nothing waits that could be reached.
        if app.region.mode() != Mode::Fenced || flush_all_of(app, Partition::of(circle)).await? {
            break;
        }
        tokio::time::sleep(AGAIN).await;
    }
    Ok(())
}

#[derive(Serialize)]
struct Live {
    day: NaiveDate,
    people: i64,
    posts: i64,
    reactions: i64,
    visits: i64,
    last_seen_at: Option<DateTime<Utc>>,
}

/// Today's, with what waits in the stream: it is flushed first.
async fn live(State(app): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let circle = moderated(&app, &caller).await?;
    flush(&app, circle).await?;
    let day = Utc::now().date_naive();
    let row = app.db.query_opt(LIVE, &[&circle, &day]).await?;
    let row = row.ok_or_else(|| Error::internal("activity", &"a sum without a row"))?;
    let live = Live {
        day,
        people: row.get(0),
        posts: row.get(1),
        reactions: row.get(2),
        visits: row.get(3),
        last_seen_at: row.get(4),
    };
    let json = to_json(&live)?;
    Ok(tagged(&headers, &digest(&[&json]), "", json))
}

#[derive(Serialize)]
struct Day {
    day: NaiveDate,
    user: Person,
    posts: i32,
    reactions: i32,
    visits: i64,
    last_seen_at: DateTime<Utc>,
}

/// After this person on this day.
#[derive(Clone, Copy, Debug, PartialEq)]
struct OnDay(NaiveDate, Uuid);

impl Cursor for OnDay {
    const KIND: char = 'a';

    fn render(&self) -> String {
        format!("{}:{}", self.0, self.1)
    }

    fn parse(text: &str) -> Option<OnDay> {
        let (day, user) = text.split_once(':')?;
        Some(OnDay(parse_day(day)?, parse_id(user)?))
    }
}

async fn history(State(app): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let page = page::<OnDay>(uri.query(), "cursor")?;
    let circle = moderated(&app, &caller).await?;
    let (day, user) = (page.after.map(|after| after.0), page.after.map(|after| after.1));
    let rows = app.db.query(HISTORY, &[&circle, &day, &user, &(page.limit as i64 + 1)]).await?;
    let items: Vec<Day> = rows
        .iter()
        .take(page.limit)
        .map(|row| Day {
            day: row.get(0),
            user: Person { id: row.get(1), name: row.get(2) },
            posts: row.get(3),
            reactions: row.get(4),
            visits: row.get(5),
            last_seen_at: row.get(6),
        })
        .collect();
    let last = items.last().filter(|_| rows.len() > page.limit);
    let next = last.map(|last| OnDay(last.day, last.user.id).encode());
    let json = to_json(&serde_json::json!({"items": items, "next": next}))?;
    Ok(tagged(&headers, &digest(&[&json]), "", json))
}
