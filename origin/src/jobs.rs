//! What is done now and then, each a row of a table with a name and an interval; one origin of a region runs each.
//!
//! All of them may be run twice, and may be cut off at any point: what is left is done the next time.

use std::time::Duration;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::app::{Ctx, Handlers, on};
use crate::audit;
use crate::body::{json_response, to_json};
use crate::cursor::no_query;
use crate::error::Result;
use crate::journal::drafts;
use crate::notifications;
use crate::request::Caller;
use crate::write_behind;

mod edge_counters;
mod refresh;
mod sessions;

pub use edge_counters::edge_counters;

/// A job: what it does, and how often. Its function says how many rows it dealt with.
pub struct Job {
    pub name: &'static str,
    pub what: &'static str,
    pub every: Duration,
    run: for<'a> fn(&'a Ctx) -> BoxFuture<'a, Result<u64>>,
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The table.
#[rustfmt::skip] // One line a row.
pub const JOBS: &[Job] = &[
    // Well within the five minutes between two notes of a session.
    Job { name: "sessions.write-back", what: "tells Postgres of sessions in use", every: Duration::from_secs(30), run: |app| Box::pin(sessions::write_back(app)) },
    // The origins do so all the time, every half second and every three: should they be behind, and before Redis is taken away.
    Job { name: "writes.flush", what: "brings to Postgres what was written behind", every: MINUTE, run: |app| Box::pin(write_behind::flush_waiting(app)) },
    Job { name: "drafts.flush", what: "brings drafts to Postgres", every: MINUTE, run: |app| Box::pin(drafts::flush::flush_waiting(app)) },
    // A round of a small region's keys in half a minute, and of a large one's in hours: what differs should not differ at all.
    Job { name: "audit", what: "compares Redis with Postgres, and repairs it", every: Duration::from_secs(10), run: |app| Box::pin(audit::run(app)) },
    Job { name: "cache.refresh", what: "reads anew what most readers read first", every: HOUR, run: |app| Box::pin(refresh::critical_keys(app)) },
    Job { name: "sessions.clean", what: "removes sessions that ended a day ago", every: HOUR, run: |app| Box::pin(clean(app, CLEAN_SESSIONS)) },
    Job { name: "idempotency.clean", what: "removes idempotency keys after a day", every: HOUR, run: |app| Box::pin(clean(app, CLEAN_IDEMPOTENCY)) },
    Job { name: "drafts.clean", what: "removes what is left of drafts a day after they were saved or discarded", every: HOUR, run: |app| Box::pin(clean(app, drafts::flush::CLEAN)) },
    Job { name: "reactions.clean", what: "removes reactions a day after they were taken back", every: HOUR, run: |app| Box::pin(clean(app, CLEAN_REACTIONS)) },
    Job { name: "notifications.clean", what: "removes notifications of ninety days ago", every: HOUR, run: |app| Box::pin(clean(app, notifications::CLEAN)) },
    Job { name: "outbox.clean", what: "removes outbox rows that every living region is past", every: HOUR, run: |app| Box::pin(clean(app, CLEAN_OUTBOX)) },
    Job { name: "log-ins.clean", what: "removes counted log-in attempts after a day", every: HOUR, run: |app| Box::pin(clean(app, CLEAN_LOGIN_ATTEMPTS)) },
    Job { name: "origins.clean", what: "removes origins that nobody has heard of for a day", every: HOUR, run: |app| Box::pin(clean(app, CLEAN_ORIGINS)) },
    Job { name: "regions.report", what: "warns of regions that are silent for a day", every: HOUR, run: |app| Box::pin(report_silent_regions(app)) },
];

/// How often one looks for what is due.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Rows that one statement removes: well within its timeout, however much an hour has left behind.
const AT_ONCE: i64 = 2_000;

const CLEAN_IDEMPOTENCY: &str = "-- jobs::clean_idempotency
with gone as (
    delete from idempotency where ctid = any(array(
        select ctid from idempotency where created_at < now() - interval '24 hours' limit $1))
    returning 1)
select count(*) from gone";

/// Once every region that lives is past them, and what follows from them is written. The floor never goes back: a row may be
/// younger than one that stands after it.
const CLEAN_OUTBOX: &str = "-- jobs::clean_outbox
with old as (
    select xid, seq from outbox where created_at < now() - interval '24 hours'
      and (xid, seq) <= (
          select cursor_xid, cursor_seq from regions where seen_at > now() - interval '1 day'
          order by cursor_xid, cursor_seq limit 1)
      and (xid, seq) <= (select xid, seq from projections order by xid, seq limit 1)
    order by xid, seq limit $1),
gone as (
    delete from outbox o using old where o.xid = old.xid and o.seq = old.seq returning o.xid, o.seq),
raised as (
    update outbox_floor f set xid = newest.xid, seq = newest.seq
    from (select xid, seq from gone order by xid desc, seq desc limit 1) newest
    where (newest.xid, newest.seq) > (f.xid, f.seq))
select count(*) from gone";

const CLEAN_REACTIONS: &str = "-- jobs::clean_reactions
with gone as (
    delete from reactions where ctid = any(array(
        select ctid from reactions where not is_on and reacted_at < now() - interval '1 day' limit $1))
    returning 1)
select count(*) from gone";

const CLEAN_SESSIONS: &str = "-- jobs::clean_sessions
with gone as (
    delete from sessions where ctid = any(array(
        select ctid from sessions where absolute_until < now() - interval '1 day' limit $1))
    returning 1)
select count(*) from gone";

const CLEAN_LOGIN_ATTEMPTS: &str = "-- jobs::clean_login_attempts
with gone as (
    delete from login_attempts where ctid = any(array(
        select ctid from login_attempts where attempted_at < now() - interval '1 day' limit $1))
    returning 1)
select count(*) from gone";

const CLEAN_ORIGINS: &str = "-- jobs::clean_origins
with gone as (
    delete from origins where id = any(array(
        select id from origins where seen_at < now() - interval '1 day' limit $1))
    returning 1)
select count(*) from gone";

const SILENT_REGIONS: &str = "-- jobs::silent_regions
select name from regions where seen_at < now() - interval '1 day'";

const REGISTER: &str = "-- jobs::register
insert into jobs (region, name, every_seconds) select $1, * from unnest($2::text[], $3::integer[])
on conflict (region, name) do update set every_seconds = excluded.every_seconds
where jobs.every_seconds <> excluded.every_seconds";

/// Whoever comes second finds them started.
const CLAIM: &str = "-- jobs::claim
update jobs set started_at = clock_timestamp()
where region = $1 and (started_at is null or started_at < clock_timestamp() - every_seconds * interval '1 second')
returning name";

const FINISH: &str = "-- jobs::finish
update jobs set finished_at = clock_timestamp(), done = $3, error = $4 where region = $1 and name = $2";

const LIST: &str = "-- jobs::list
select name, every_seconds, started_at, finished_at, done, error from jobs where region = $1 order by name";

pub const STATEMENTS: &[&str] = &[
    CLEAN_SESSIONS,
    CLEAN_REACTIONS,
    CLEAN_IDEMPOTENCY,
    CLEAN_OUTBOX,
    CLEAN_LOGIN_ATTEMPTS,
    CLEAN_ORIGINS,
    SILENT_REGIONS,
    REGISTER,
    CLAIM,
    FINISH,
    LIST,
    sessions::WRITE_BACK,
    refresh::BUSIEST,
];

pub fn routes() -> Handlers {
    vec![on("admin.jobs", list)]
}

/// Runs until the process ends.
pub async fn run(app: Ctx) {
    let names: Vec<&str> = JOBS.iter().map(|job| job.name).collect();
    let seconds: Vec<i32> =
        JOBS.iter().map(|job| i32::try_from(job.every.as_secs()).unwrap_or(i32::MAX)).collect();
    let mut is_registered = false;
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let region = &app.config.region;
        is_registered = is_registered || app.db.query(REGISTER, &[region, &names, &seconds]).await.is_ok();
        // Without Postgres nothing is due.
        for row in app.db.query(CLAIM, &[region]).await.unwrap_or_default() {
            let name: String = row.get(0);
            // A row of a job that is no more is nobody's.
            if let Some(job) = JOBS.iter().find(|job| job.name == name) {
                // Its failure is in the log and in the table; it is due again.
                let _ = run_one(&app, job).await;
            }
        }
    }
}

/// Runs a job now, and notes how it went. How many rows it dealt with.
pub async fn run_one(app: &Ctx, job: &Job) -> Result<u64> {
    let outcome = (job.run)(app).await;
    let label = if outcome.is_ok() { "done" } else { "failed" };
    metrics::counter!("optimist_jobs_total", "job" => job.name, "outcome" => label).increment(1);
    let (done, error) = match &outcome {
        Ok(done) => (i64::try_from(*done).ok(), None),
        Err(error) => {
            tracing::warn!(
                job = job.name,
                code = error.code.as_str(),
                "a job failed; it is tried again when it is due"
            );
            (None, Some(error.code.as_str()))
        }
    };
    // Without Postgres there is nobody to tell.
    let _ = app.db.query(FINISH, &[&app.config.region, &job.name, &done, &error]).await;
    outcome
}

/// Removes rows, some at a time, until none is left that the statement means.
async fn clean(app: &Ctx, sql: &'static str) -> Result<u64> {
    let mut removed = 0;
    loop {
        let row = app.db.query_opt(sql, &[&AT_ONCE]).await?;
        let some: i64 = row.map_or(0, |row| row.get(0));
        removed += some.cast_unsigned();
        if some < AT_ONCE {
            return Ok(removed);
        }
    }
}

/// A region that nobody hears of is not waited for; somebody should know.
async fn report_silent_regions(app: &Ctx) -> Result<u64> {
    let rows = app.db.query(SILENT_REGIONS, &[]).await?;
    metrics::gauge!("optimist_silent_regions").set(rows.len() as f64);
    for row in &rows {
        let region: String = row.get(0);
        tracing::warn!(region, "no origin of this region was seen for a day: its events are not kept");
    }
    Ok(rows.len() as u64)
}

/// A job of this region, as administrators see it.
#[derive(Serialize)]
struct Run {
    name: String,
    what: &'static str,
    every_seconds: i32,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    done: Option<i64>,
    error: Option<String>,
}

async fn list(State(app): State<Ctx>, _: Caller, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let rows = app.db.query(LIST, &[&app.config.region]).await?;
    let runs: Vec<Run> = rows
        .iter()
        .filter_map(|row| {
            let name: String = row.get(0);
            Some(Run {
                what: JOBS.iter().find(|job| job.name == name)?.what,
                name,
                every_seconds: row.get(1),
                started_at: row.get(2),
                finished_at: row.get(3),
                done: row.get(4),
                error: row.get(5),
            })
        })
        .collect();
    Ok(json_response(200, None, to_json(&serde_json::json!({"items": runs, "next": null}))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let names: std::collections::HashSet<&str> = JOBS.iter().map(|job| job.name).collect();
        assert_eq!(names.len(), JOBS.len());
    }
}
