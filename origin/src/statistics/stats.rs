//! A circle's statistics, for its readers: what there is in all, and what happened within the last week and month.
//!
//! Sums that are kept are exact. What would take more than a bounded read says of how much it is.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use chrono::{Days, NaiveDate};
use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{Loaded, Snapshot, id_of};
use optimist_plane::clock;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::digest;
use optimist_plane::http::body::to_json;
use optimist_plane::http::loaded::respond_object;
use optimist_plane::http::page::no_query;
use optimist_plane::http::served::{Served, on};
use optimist_plane::months::Month;
use optimist_plane::request::Caller;
use optimist_plane::statements;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::keys::{BoundKey, Key};
use schemars::JsonSchema;
use serde::Serialize;
use tokio_postgres::Row;

use crate::circles::access::reader_of_circle;
use crate::reactions::shapes::ReactionKind;
use crate::reactions::snapshot::kind_of;

pub fn routes() -> Vec<Served> {
    vec![
        on("activity.stats", stats)
            .says("A circle in numbers.")
            .notes(
                "They may be five minutes old. Days are UTC's, and today is one of the seven and of the thirty. What was posted or made is \
                 counted, even if it was deleted or taken back since; what a deleted account did is not, but for `in_all.posts`.",
            )
            .answers::<CircleStats>(200)
            .tagged(),
    ]
}

/// The longer of the two windows, in days.
const MONTH: u64 = 30;
const WEEK: u64 = 7;
/// People's days that are looked at for how many different people there were.
const LOOKED_AT: i64 = 20_000;
/// Messages of which reactions are added up.
const NEWEST: i64 = 1_000;

statements! {
    /// With the days after `$2`, of which those after `$3` are the week.
    const STATS: &str = "-- stats::circle
select seen, c.member_count, c.last_number, c.counted_from, t.comments, t.reactions, d.*
from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (select member_count, last_number, counted_from from circles where id = $1) c on true
cross join lateral (
    select coalesce(sum(comments), 0)::bigint as comments, coalesce(sum(reactions), 0)::bigint as reactions
    from activity_totals where circle_id = $1) t
cross join lateral (
    select coalesce(sum(posts), 0)::bigint as month_posts, coalesce(sum(comments), 0)::bigint as month_comments,
        coalesce(sum(reactions), 0)::bigint as month_reactions,
        coalesce(sum(posts) filter (where day > $3), 0)::bigint as week_posts,
        coalesce(sum(comments) filter (where day > $3), 0)::bigint as week_comments,
        coalesce(sum(reactions) filter (where day > $3), 0)::bigint as week_reactions
    from activity_days where circle_id = $1 and day > $2) d";

    /// Of the days from `$4` on and after `$2`: how many different people there were, and on the days after `$3`; at how many rows it has
    /// looked, and up to which day.
    const PEOPLE: &str = "-- stats::people, planned anew (20,000 rows)
select count(distinct user_id) as month, count(distinct user_id) filter (where day > $3::date) as week, count(*) as rows, min(day) as oldest
from (
    select user_id, day from activity
    where circle_id = $1 and day > $2::date and day >= $4::date and day <= $5::date order by day desc, user_id limit $6) latest";

    const MOST_USED: &str = "-- stats::most_used, planned anew (6,000 rows)
select kind, sum(count)::bigint
from (
    select id from messages where circle_id = $1 and id >= $2 and id < $3 and deleted_at is null order by id desc limit $4) m
cross join lateral (
    select kind, count from reaction_counts r
    where r.circle_id = $1 and r.message_id = m.id and r.message_id >= $2 and r.message_id < $3 and count > 0 offset 0) c
group by kind order by 2 desc, kind";
}

#[derive(Serialize, JsonSchema)]
struct CircleStats {
    /// Owner and moderators are members too.
    #[schemars(range(min = 0))]
    members: i32,
    in_all: InAll,
    last_7_days: Lately,
    last_30_days: Lately,
    /// Reactions to the newest thousand messages, of this month and the last, by how many there are.
    most_used: Vec<Used>,
    /// The first day that is counted. `in_all.posts` knows of all.
    counted_from: NaiveDate,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CircleInAll")]
struct InAll {
    /// Messages posted, with the comments among them.
    #[schemars(range(min = 0))]
    posts: i64,
    #[schemars(range(min = 0))]
    comments: i64,
    #[schemars(range(min = 0))]
    reactions: i64,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CircleLately")]
struct Lately {
    /// Messages posted, with the comments among them.
    #[schemars(range(min = 0))]
    posts: i64,
    #[schemars(range(min = 0))]
    comments: i64,
    #[schemars(range(min = 0))]
    reactions: i64,
    people: People,
}

/// How many different people posted, reacted or were there.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ActivePeople")]
struct People {
    #[schemars(range(min = 0))]
    count: i64,
    /// If not, there were at least so many.
    is_exact: bool,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "UsedReaction")]
struct Used {
    #[schemars(with = "ReactionKind")]
    kind: &'static str,
    #[schemars(range(min = 1))]
    count: i64,
}

async fn stats(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let (circle, _) = reader_of_circle(&ctx, &caller).await?;
    let loaded = read_through(&ctx, Key::circle_stats(circle)).await?;
    respond_object(&loaded, &headers)
}

/// The windows that end today.
struct Windows {
    today: NaiveDate,
    /// The last day before each.
    before_week: NaiveDate,
    before_month: NaiveDate,
    /// The first day of the month before this one: a statement reads two months. The thirty days to the first of March may begin before.
    two_months: NaiveDate,
}

impl Windows {
    fn until(today: NaiveDate) -> Windows {
        Windows {
            today,
            before_week: today - Days::new(WEEK),
            before_month: today - Days::new(MONTH),
            two_months: Month::of_day(today).plus(-1).first_day(),
        }
    }

    /// Of how many people the rows tell, and whether those are all.
    fn people(&self, row: &Row) -> (People, People) {
        let all = row.get::<_, i64>("rows") < LOOKED_AT;
        let oldest: Option<NaiveDate> = row.get("oldest");
        let has_week = all || oldest.is_some_and(|oldest| oldest <= self.before_week);
        let has_month = all && self.two_months <= self.before_month + Days::new(1);
        (
            People { count: row.get("week"), is_exact: has_week },
            People { count: row.get("month"), is_exact: has_month },
        )
    }
}

pub async fn load(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    let circle = id_of(&key, Id::Circle)?;
    let windows = Windows::until(clock::now().date_naive());
    // The first of the snapshots is the one that a fill may count on.
    let row = ctx.db.query_opt(STATS, &[&circle, &windows.before_month, &windows.before_week]).await?;
    let row = row.ok_or_else(|| Error::internal("stats", &"no row"))?;
    let seen = row.get("seen");
    let Some(members) = row.get("member_count") else { return Ok(Snapshot::new(seen, Loaded::Missing)) };
    let (week, month) = people(ctx, circle, &windows).await?;
    let stats = CircleStats {
        members,
        in_all: InAll {
            posts: row.get("last_number"),
            comments: row.get("comments"),
            reactions: row.get("reactions"),
        },
        last_7_days: Lately {
            posts: row.get("week_posts"),
            comments: row.get("week_comments"),
            reactions: row.get("week_reactions"),
            people: week,
        },
        last_30_days: Lately {
            posts: row.get("month_posts"),
            comments: row.get("month_comments"),
            reactions: row.get("month_reactions"),
            people: month,
        },
        most_used: most_used(ctx, circle, windows.two_months).await?,
        counted_from: row.get("counted_from"),
    };
    let json = to_json(&stats)?;
    Ok(Snapshot::new(seen, Loaded::Object { version: digest(&[&json]), json }))
}

async fn people(ctx: &Ctx, circle: Uuid, windows: &Windows) -> Result<(People, People)> {
    let Windows { today, before_week, before_month, two_months } = windows;
    let row = ctx
        .db
        .query_opt(PEOPLE, &[&circle, before_month, before_week, two_months, today, &LOOKED_AT])
        .await?;
    let row = row.ok_or_else(|| Error::internal("stats", &"no row"))?;
    Ok(windows.people(&row))
}

async fn most_used(ctx: &Ctx, circle: Uuid, from: NaiveDate) -> Result<Vec<Used>> {
    let month = Month::of_day(from);
    let rows =
        ctx.db.query(MOST_USED, &[&circle, &month.first_id(), &month.plus(2).first_id(), &NEWEST]).await?;
    rows.iter().map(used).collect()
}

fn used(row: &Row) -> Result<Used> {
    let kind = kind_of(row.get(0)).ok_or_else(|| Error::internal("stats", &"a kind that nobody knows"))?;
    Ok(Used { kind: kind.as_str(), count: row.get(1) })
}
