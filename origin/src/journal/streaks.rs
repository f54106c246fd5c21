//! Streaks: how many days in a row a user has written, counted by the days of their own time zone.
//!
//! The cache keeps the runs of days, which follow from the entries alone. Each request decides which run is current: that
//! depends on the day that it is where the user is. A user who crosses the date line westward skips a day of which they had but a few
//! hours: it does not break a run.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use chrono::{DateTime, NaiveDate, Offset as _, Utc};
use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{Loaded, Snapshot, id_of};
use optimist_plane::clock;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::digest;
use optimist_plane::http::body::{tagged, to_json};
use optimist_plane::http::page::no_query;
use optimist_plane::http::sent::TimeZone;
use optimist_plane::http::served::{Served, on};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::Caller;
use optimist_plane::statements;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::keys::{BoundKey, Key};
use schemars::JsonSchema;
use serde::Serialize;

pub fn routes() -> Vec<Served> {
    vec![
        on("journal.streak", streak)
            .says("How many days in a row the caller has written, in their own time zone.")
            .answers::<Streak>(200)
            .tagged(),
    ]
}

#[derive(Serialize, JsonSchema)]
struct Streak {
    /// Days in a row up to today or yesterday.
    #[schemars(range(min = 0))]
    current: i64,
    /// The longest there was.
    #[schemars(range(min = 0))]
    longest: i64,
    last_entry_date: Option<NaiveDate>,
    today: NaiveDate,
    #[schemars(with = "TimeZone")]
    time_zone: String,
}

statements! {
    const ZONE: &str = "-- streaks::zone
select time_zone from users where id = $1";

    /// The longest run, and the length and last day of the newest. A day without entries does not break a run if the writer's clock
    /// went ahead by twelve hours or more from the last entry of the day before to the first of the day after, each written on its
    /// own day and at most 24 hours apart: then at most half of the day was theirs. Entries that were filled in later join no
    /// days but those beside their own, and neither does the hour that daylight saving takes.
    const RUNS: &str = "-- streaks::runs (4,000 rows, uncapped: entries of a person)
with entries as (
    select entry_date as day, created_at, utc_offset_minutes as ahead,
        (created_at at time zone 'UTC' + utc_offset_minutes * interval '1 minute')::date = entry_date as is_own_day
    from journal_entries where user_id = $1),
days as (
    select day, min(created_at) filter (where is_own_day) as first_at, max(created_at) filter (where is_own_day) as last_at,
        (array_agg(ahead order by created_at) filter (where is_own_day))[1] as first_ahead,
        (array_agg(ahead order by created_at desc) filter (where is_own_day))[1] as last_ahead
    from entries group by day),
starts as (
    select day, case
        when day - lag(day) over by_day = 1 then 0
        when day - lag(day) over by_day = 2 and first_at - lag(last_at) over by_day <= interval '24 hours'
            and first_ahead - lag(last_ahead) over by_day >= 720 then 0
        else 1 end as is_start
    from days window by_day as (order by day)),
runs as (
    select count(*) as length, max(day) as last_day
    from (select day, sum(is_start) over (order by day rows unbounded preceding) as run from starts) numbered
    group by run)
select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen,
    coalesce((select max(length) from runs), 0) as longest,
    coalesce((select length from runs order by last_day desc limit 1), 0) as newest,
    (select max(last_day) from runs) as last_day";
}

/// A moment where a user is.
pub struct Local {
    pub day: NaiveDate,
    /// Minutes ahead of UTC.
    pub ahead: i16,
}

fn local(zone: &str, now: DateTime<Utc>) -> Local {
    // UTC if this release's tables do not have the zone any more.
    let zone = zone.parse().unwrap_or(chrono_tz::Tz::UTC);
    let there = now.with_timezone(&zone);
    let minutes = there.offset().fix().local_minus_utc() / 60;
    Local { day: there.date_naive(), ahead: i16::try_from(minutes).unwrap_or(0) }
}

pub async fn local_of(tx: &Tx, user: Uuid, now: DateTime<Utc>) -> Result<Local> {
    let row = tx.query_one(ZONE, &[&user]).await?;
    Ok(local(row.get(0), now))
}

/// Loads a text, `<longest> <newest> <last day>`. Without entries the last day is empty.
pub async fn load_streak(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    let row = ctx.db.query_opt(RUNS, &[&id_of(&key, Id::User)?]).await?;
    let row = row.ok_or_else(|| Error::internal("streaks", &"no row"))?;
    let last_day =
        row.get::<_, Option<NaiveDate>>("last_day").map_or_else(String::new, |day| day.to_string());
    let (longest, newest): (i64, i64) = (row.get("longest"), row.get("newest"));
    Ok(Snapshot::new(row.get("seen"), Loaded::Text(format!("{longest} {newest} {last_day}"))))
}

async fn streak(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let loaded = read_through(&ctx, Key::streak(caller.user)).await?;
    let Loaded::Text(text) = &*loaded else { return Err(Error::internal("streaks", &"this is no streak")) };
    let mut parts = text.split(' ');
    let mut number = || parts.next().and_then(|part| part.parse::<i64>().ok()).unwrap_or(0);
    let (longest, newest) = (number(), number());
    let last_day = parts.next().and_then(|part| part.parse::<NaiveDate>().ok());
    let row = ctx.db.query_opt(ZONE, &[&caller.user]).await?;
    let zone: String = row.map_or_else(|| TimeZone::default().0, |row| row.get(0));
    let today = local(&zone, clock::now()).day;
    // A run that ended yesterday is current: today's entry may still come.
    let is_current = last_day.is_some_and(|day| day.succ_opt().is_some_and(|next| next >= today));
    let current = if is_current { newest } else { 0 };
    let streak = Streak { current, longest, last_entry_date: last_day, today, time_zone: zone };
    let json = to_json(&streak)?;
    Ok(tagged(&headers, &digest(&[&json]), "", json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_the_users() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let day = |zone, text: &str| local(zone, at(text)).day.to_string();
        assert_eq!(day("Pacific/Kiritimati", "2026-03-01T10:00:00Z"), "2026-03-02", "UTC+14");
        assert_eq!(day("Etc/GMT+12", "2026-03-01T11:59:59Z"), "2026-02-28", "UTC-12");
        let ahead = |zone| local(zone, at("2026-03-01T10:00:00Z")).ahead;
        assert_eq!(
            ["Pacific/Kiritimati", "Etc/GMT+12", "Asia/Kolkata", "gone"].map(ahead),
            [840, -720, 330, 0]
        );
        // The hour that daylight saving takes, and gives back.
        assert_eq!(day("Europe/Vienna", "2026-03-28T22:59:59Z"), "2026-03-28");
        assert_eq!(day("Europe/Vienna", "2026-03-29T21:59:59Z"), "2026-03-29");
        assert_eq!(day("Europe/Vienna", "2026-03-29T22:00:00Z"), "2026-03-30");
        assert_eq!(day("Europe/Vienna", "2026-10-25T22:59:59Z"), "2026-10-25");
        assert_eq!(day("Europe/Vienna", "2026-10-25T23:00:00Z"), "2026-10-26");
    }
}
