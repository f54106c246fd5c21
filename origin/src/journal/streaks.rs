//! Streaks: how many days in a row one has written, by the days of one's own time zone.
//!
//! Runs of days are counted from the entries; which of them is current depends on what day it is where the user is. Who
//! crosses the date line westward skips a day that nobody could have written on: it does not break a run.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, NaiveDate, Utc};
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{Key, Parameters};

use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{Loaded, Snapshot};
use optimist_plane::clock;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::digest;
use optimist_plane::http::body::{tagged, to_json};
use optimist_plane::http::page::no_query;
use optimist_plane::http::served::{Served, on};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::Caller;

pub fn routes() -> Vec<Served> {
    vec![on("journal.streak", streak)]
}

const ZONE: &str = "-- streaks::zone
select time_zone from users where id = $1";

/// The longest run, and the newest: its length and its last day. A day without entries is bridged if less than a day passed
/// between what was written before and after it, on those very days.
const RUNS: &str = "-- streaks::runs
with days as (
    select entry_date as day,
        min(created_at) filter (where created_at::date between entry_date - 1 and entry_date + 1) as first_at,
        max(created_at) filter (where created_at::date between entry_date - 1 and entry_date + 1) as last_at
    from journal_entries where user_id = $1 group by entry_date),
starts as (
    select day, case
        when day - lag(day) over by_day = 1 then 0
        when day - lag(day) over by_day = 2 and first_at - lag(last_at) over by_day <= interval '24 hours' then 0
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

pub const STATEMENTS: &[&str] = &[ZONE, RUNS];

/// The day it is where the user is.
pub fn day_in(zone: &str, now: DateTime<Utc>) -> NaiveDate {
    match zone.parse::<chrono_tz::Tz>() {
        Ok(zone) => now.with_timezone(&zone).date_naive(),
        // A zone that this release's tables do not know any more.
        Err(_) => now.date_naive(),
    }
}

pub async fn today_of(tx: &Tx, user: Uuid, now: DateTime<Utc>) -> Result<NaiveDate> {
    let row = tx.query_one(ZONE, &[&user]).await?;
    Ok(day_in(row.get(0), now))
}

/// Bytes as a cached text.
pub fn to_text(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub fn from_text(text: &str) -> Result<Vec<u8>> {
    STANDARD.decode(text).map_err(|_| Error::internal("journal", &"a cached text is of another form"))
}

/// `<longest> <newest> <last day>`, the last empty without entries.
pub async fn load_streak(app: &Ctx, parameters: &Parameters) -> Result<Snapshot> {
    let row = app.db.query_opt(RUNS, &[&parameters.user.unwrap_or_default()]).await?;
    let row = row.ok_or_else(|| Error::internal("streaks", &"no row"))?;
    let last_day =
        row.get::<_, Option<NaiveDate>>("last_day").map_or_else(String::new, |day| day.to_string());
    let (longest, newest): (i64, i64) = (row.get("longest"), row.get("newest"));
    Ok(Snapshot::new(row.get("seen"), Loaded::Text(format!("{longest} {newest} {last_day}"))))
}

async fn streak(State(app): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let parameters = Parameters { user: Some(caller.user), ..Parameters::default() };
    let loaded = read_through(&app, Key::Streak, parameters).await?;
    let Loaded::Text(text) = &*loaded else { return Err(Error::internal("streaks", &"this is no streak")) };
    let mut parts = text.split(' ');
    let mut number = || parts.next().and_then(|part| part.parse::<i64>().ok()).unwrap_or(0);
    let (longest, newest) = (number(), number());
    let last_day = parts.next().and_then(|part| part.parse::<NaiveDate>().ok());
    let row = app.db.query_opt(ZONE, &[&caller.user]).await?;
    let zone: String = row.map_or_else(|| "UTC".to_owned(), |row| row.get(0));
    let today = day_in(&zone, clock::now());
    // Today's may still come.
    let is_current = last_day.is_some_and(|day| day.succ_opt().is_some_and(|next| next >= today));
    let json = to_json(&serde_json::json!({
        "current": if is_current { newest } else { 0 },
        "longest": longest,
        "last_entry_date": last_day,
        "today": today,
        "time_zone": zone,
    }))?;
    Ok(tagged(&headers, &digest(&[&json]), "", json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_the_users() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let day = |zone, text: &str| day_in(zone, at(text)).to_string();
        assert_eq!(day("Pacific/Kiritimati", "2026-03-01T10:00:00Z"), "2026-03-02", "UTC+14");
        assert_eq!(day("Etc/GMT+12", "2026-03-01T11:59:59Z"), "2026-02-28", "UTC-12");
        // The hour that daylight saving takes, and gives back.
        assert_eq!(day("Europe/Vienna", "2026-03-28T22:59:59Z"), "2026-03-28");
        assert_eq!(day("Europe/Vienna", "2026-03-29T21:59:59Z"), "2026-03-29");
        assert_eq!(day("Europe/Vienna", "2026-03-29T22:00:00Z"), "2026-03-30");
        assert_eq!(day("Europe/Vienna", "2026-10-25T22:59:59Z"), "2026-10-25");
        assert_eq!(day("Europe/Vienna", "2026-10-25T23:00:00Z"), "2026-10-26");
    }
}
