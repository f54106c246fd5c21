//! How a circle grows, by day, for its moderators. Read replicas answer it.
//!
//! Days are counted where things happen: see [`crate::activity::counting`] and [`crate::circles::members`].

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use chrono::{Days, NaiveDate};
use optimist_plane::clock;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{json_response, to_json};
use optimist_plane::http::page::parameters_of;
use optimist_plane::http::sent::{Day, parse_day};
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::request::Caller;
use optimist_plane::statements;
use optimist_shared::error::ErrorCode;
use schemars::JsonSchema;
use serde::Serialize;
use tokio_postgres::Row;

use crate::circles::access::require_role;
use crate::circles::standing::is_moderator;

pub fn routes() -> Vec<Served> {
    vec![
        on("activity.growth", growth)
            .says("How a circle grows, by day, the newest first. For its moderators.")
            .notes(
                "Days are UTC's, and an answer has 400 of them at most. Without `from` and `to` it has those of the last thirty days. What \
                 was posted or made is counted, even if it was deleted or taken back since; what a deleted account did is not. Read \
                 replicas answer it: `as_of` says of when.",
            )
            .answers::<Growth>(200)
            .filter::<Day>("from", "Of this day or later.")
            .filter::<Day>("to", "Of this day or earlier."),
    ]
}

/// Days of an answer.
const MOST: u64 = 400;
/// Days, if none are asked for.
const USUAL: u64 = 30;

statements! {
    /// The days from `$2` to `$3` that are counted, and one row without a day if none is. A day without changes has the members of the
    /// last change before it or, if there is none, those before the first one after it.
    const DAYS: &str = "-- growth::days (2,000 rows)
select c.counted_from, d.day::date, coalesce(latest.members, following.before, c.member_count) as members,
    coalesce(latest.joined, 0) as joined, coalesce(latest.departed, 0) as departed, a.*
from (select id, counted_from, member_count from circles where id = $1) c
left join lateral generate_series(greatest($2::date, c.counted_from)::timestamp, $3::date::timestamp, interval '1 day') d (day) on true
left join lateral (
    select members, case when day = d.day::date then joined end as joined, case when day = d.day::date then departed end as departed
    from member_days where circle_id = c.id and day <= d.day::date order by day desc limit 1) latest on true
left join lateral (
    select members - joined + departed as before
    from member_days where circle_id = c.id and day > d.day::date order by day limit 1) following on true
left join lateral (
    select coalesce(sum(posts), 0)::bigint as posts, coalesce(sum(comments), 0)::bigint as comments,
        coalesce(sum(reactions), 0)::bigint as reactions, coalesce(sum(people), 0)::bigint as people
    from activity_days where circle_id = c.id and day = d.day::date) a on true
order by d.day desc";
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CircleGrowth")]
struct Growth {
    items: Vec<GrowthDay>,
    /// The `to` of the answer that follows, if days are left.
    next: Option<NaiveDate>,
    /// The first day that is counted: there is none before it.
    counted_from: NaiveDate,
    /// Everything that was acknowledged by then is shown; of later changes some may be.
    as_of: Time,
}

#[derive(Serialize, JsonSchema)]
struct GrowthDay {
    day: NaiveDate,
    /// At its end.
    #[schemars(range(min = 0))]
    members: i32,
    #[schemars(range(min = 0))]
    joined: i32,
    /// Who left, or was removed.
    #[schemars(range(min = 0))]
    left: i32,
    /// Messages posted, with the comments among them.
    #[schemars(range(min = 0))]
    posts: i64,
    #[schemars(range(min = 0))]
    comments: i64,
    /// Reactions made.
    #[schemars(range(min = 0))]
    reactions: i64,
    /// Who posted, reacted or was there.
    #[schemars(range(min = 0))]
    people: i64,
}

impl GrowthDay {
    fn from_row(row: &Row) -> Option<GrowthDay> {
        Some(GrowthDay {
            day: row.get::<_, Option<NaiveDate>>("day")?,
            members: row.get("members"),
            joined: row.get("joined"),
            left: row.get("departed"),
            posts: row.get("posts"),
            comments: row.get("comments"),
            reactions: row.get("reactions"),
            people: row.get("people"),
        })
    }
}

/// The days that a query asks for, of which an answer has the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    from: NaiveDate,
    to: NaiveDate,
    /// Whether earlier days are asked for as well.
    is_cut: bool,
}

impl Range {
    fn parse(query: Option<&str>, today: NaiveDate) -> Result<Range> {
        let (mut from, mut to) = (None, None);
        for (name, value) in parameters_of(query)? {
            let refused = |reason: &str| Error::new(ErrorCode::BadRequest).field(name.clone(), reason);
            let day = match name.as_str() {
                "from" => &mut from,
                "to" => &mut to,
                _ => return Err(refused("is not a parameter of this endpoint")),
            };
            *day = Some(parse_day(&value).ok_or_else(|| refused("must be a day, as 2026-11-23"))?);
        }
        let to = to.map_or(today, |to| to.min(today));
        let earliest = to - Days::new(MOST - 1);
        let from = from.unwrap_or(to - Days::new(USUAL - 1));
        Ok(Range { from: from.max(earliest), to, is_cut: from < earliest })
    }

    /// The `to` of the answer that follows this one.
    fn next(&self, counted_from: NaiveDate) -> Option<NaiveDate> {
        let day = self.from - Days::new(1);
        (self.is_cut && day >= counted_from).then_some(day)
    }
}

async fn growth(State(ctx): State<Ctx>, caller: Caller, uri: Uri) -> Result<Response> {
    let range = Range::parse(uri.query(), clock::now().date_naive())?;
    let (circle, _) = require_role(&ctx, &caller, is_moderator).await?;
    let mut reader = ctx.reader();
    let rows = reader.query(DAYS, &[&circle, &range.from, &range.to]).await?;
    // A replica may not have heard of a circle that was made just now.
    let first = rows.first().ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    let counted_from = first.get("counted_from");
    let growth = Growth {
        items: rows.iter().filter_map(GrowthDay::from_row).collect(),
        next: range.next(counted_from),
        counted_from,
        as_of: Time(reader.as_of()?),
    };
    Ok(json_response(200, None, to_json(&growth)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn day(text: &str) -> NaiveDate {
        parse_day(text).unwrap()
    }

    proptest! {
        #[test]
        fn a_query_is_a_bounded_range_or_refused(query in "((from|to)=[0-9]{4}-[01][0-9]-[0-3][0-9]&?){0,3}|\\PC*") {
            let today = day("2026-11-28");
            match Range::parse(Some(&query), today) {
                Ok(range) => {
                    prop_assert!(range.to <= today);
                    prop_assert!((range.to - range.from).num_days() < MOST as i64);
                }
                Err(error) => prop_assert_eq!(error.code, ErrorCode::BadRequest),
            }
        }
    }

    #[test]
    fn answers_follow_each_other_without_a_gap() {
        let (today, counted_from) = (day("2026-11-28"), day("2024-01-01"));
        let mut seen = 0;
        let mut to = Some(today);
        while let Some(last) = to {
            let query = format!("from=2023-01-01&to={last}");
            let range = Range::parse(Some(&query), today).unwrap();
            assert_eq!(range.to, last);
            seen += (range.to - range.from.max(counted_from)).num_days() + 1;
            to = range.next(counted_from);
        }
        assert_eq!(seen, (today - counted_from).num_days() + 1);
        assert_eq!(Range::parse(None, today).unwrap().next(counted_from), None);
    }
}
