//! Activity as a circle's moderators read it: today's sums so far, and each person's by day.
//!
//! Nothing is counted here; visits that wait in the stream are flushed before today's sums are read.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use chrono::{Days, NaiveDate, Utc};
use optimist_plane::clock;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::digest;
use optimist_plane::http::body::{tagged, to_json};
use optimist_plane::http::page::{Cursor, Report, answer_report, no_query, page};
use optimist_plane::http::sent::parse_day;
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::months::Month;
use optimist_plane::postgres::replicas::Reader;
use optimist_plane::region::trust::Mode;
use optimist_plane::request::Caller;
use optimist_plane::statements;
use optimist_plane::write_behind::flush::flush_all_of;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Partition, Uuid, parse_id};
use schemars::JsonSchema;
use serde::Serialize;
use tokio_postgres::Row;

use crate::circles::access::reader_of_circle;
use crate::circles::standing::is_moderator;
use crate::people::person::Person;

pub fn routes() -> Vec<Served> {
    vec![
        on("activity.live", live)
            .says("What happened in a circle today. For its moderators.")
            .notes("Days are UTC's.")
            .answers::<Live>(200)
            .tagged(),
        on("activity.history", history)
            .says("Who did how much in a circle, by day, newest first. For its moderators.")
            .notes("Read replicas answer it: `as_of` says of when.")
            .answers::<Report<Day>>(200)
            .pages("cursor"),
    ]
}

statements! {
    const LIVE: &str = "-- activity::live, planned anew (20,000 rows, uncapped: members active in a day)
select count(*), coalesce(sum(posts), 0), coalesce(sum(reactions), 0), coalesce(sum(bit_count(visits)), 0)::bigint, max(last_seen_at)
from activity where circle_id = $1 and day = $2";

    /// Of the days from `$3` to `$2`, and of that day only people after `$4`.
    const HISTORY: &str = "-- activity::history, planned anew
select day, user_id, users.name, posts, reactions, bit_count(visits), last_seen_at
from activity join users on users.id = user_id
where circle_id = $1 and day <= $2 and day >= $3 and (day < $2 or $4::uuid is null or user_id > $4)
order by day desc, user_id limit $5";
}

/// The id of the path's circle; 403 unless the caller is one of its moderators.
async fn moderated(ctx: &Ctx, caller: &Caller) -> Result<Uuid> {
    let (circle, role) = reader_of_circle(ctx, caller).await?;
    if is_moderator(role) { Ok(circle) } else { Err(Error::new(ErrorCode::Forbidden)) }
}

/// Flushes the circle's partition to Postgres, or waits until another origin has.
async fn flush(ctx: &Ctx, circle: Uuid) -> Result<()> {
    const ROUNDS: u32 = 20;
    const AGAIN: Duration = Duration::from_millis(25);
    for _ in 0..ROUNDS {
        // Without Redis, no waiting entries can be reached.
        if ctx.region.mode() != Mode::Fenced || flush_all_of(ctx, Partition::of(circle)).await? {
            break;
        }
        tokio::time::sleep(AGAIN).await;
    }
    Ok(())
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LiveActivity")]
struct Live {
    day: NaiveDate,
    /// Who did any of it.
    #[schemars(range(min = 0))]
    people: i64,
    /// Messages posted.
    #[schemars(range(min = 0))]
    posts: i64,
    /// Reactions made.
    #[schemars(range(min = 0))]
    reactions: i64,
    /// Visits, one in five minutes at most.
    #[schemars(range(min = 0))]
    visits: i64,
    last_seen_at: Option<Time>,
}

async fn live(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let circle = moderated(&ctx, &caller).await?;
    flush(&ctx, circle).await?;
    let day = Utc::now().date_naive();
    let row = ctx.db.query_opt(LIVE, &[&circle, &day]).await?;
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

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ActivityDay")]
struct Day {
    day: NaiveDate,
    user: Person,
    /// Messages posted.
    #[schemars(range(min = 0))]
    posts: i32,
    /// Reactions made.
    #[schemars(range(min = 0))]
    reactions: i32,
    /// Visits, one in five minutes at most.
    #[schemars(range(min = 0))]
    visits: i64,
    last_seen_at: Time,
}

/// A position in the history: after this person on this day.
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

/// Up to `limit` rows of the history, of two months at a time, so that a statement touches two partitions.
async fn days(reader: &mut Reader<'_>, circle: Uuid, after: Option<OnDay>, limit: usize) -> Result<Vec<Row>> {
    let tomorrow = clock::now().date_naive() + Days::new(1);
    let after = after.filter(|OnDay(day, _)| *day <= tomorrow);
    let (mut day, mut user) = after.map_or((tomorrow, None), |OnDay(day, user)| (day, Some(user)));
    // A circle has no activity before there is the circle. Clocks differ, but not by a month.
    let first = Month::of_id(circle).plus(-1).first_day();
    let mut rows = Vec::new();
    loop {
        let from = Month::of_day(day).plus(-1).first_day();
        let missing = (limit - rows.len()) as i64;
        rows.extend(reader.query(HISTORY, &[&circle, &day, &from, &user, &missing]).await?);
        if rows.len() >= limit || from <= first {
            return Ok(rows);
        }
        (day, user) = (from - Days::new(1), None);
    }
}

async fn history(State(ctx): State<Ctx>, caller: Caller, uri: Uri) -> Result<Response> {
    let page = page::<OnDay>(uri.query(), "cursor")?;
    let circle = moderated(&ctx, &caller).await?;
    let mut reader = ctx.reader();
    let rows = days(&mut reader, circle, page.after, page.limit + 1).await?;
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
    answer_report(items, rows.len() > page.limit, None, reader.as_of()?, |last| OnDay(last.day, last.user.id))
}
