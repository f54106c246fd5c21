//! Jobs: rows of domains, each with a name and an interval. One origin of a region runs each job that is due.
//!
//! Every job may run twice, and may be cut off at any point: the next run does the rest.

use std::time::Duration;

use crate::ctx::Ctx;
use crate::domain::Job;
use crate::error::Result;
use crate::postgres::transaction::Tx;
use crate::statements;

/// How often an origin looks for due jobs.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Rows that one statement removes: well within its timeout, however much an hour has left behind.
const AT_ONCE: i64 = 1_000;

statements! {
    const REGISTER: &str = "-- jobs::register
insert into jobs (region, name, every_seconds) select $1, * from unnest($2::text[], $3::integer[])
on conflict (region, name) do update set every_seconds = excluded.every_seconds
where jobs.every_seconds <> excluded.every_seconds";

    /// A second origin finds the jobs started already.
    const CLAIM: &str = "-- jobs::claim
update jobs set started_at = clock_timestamp()
where region = $1 and (started_at is null or started_at < clock_timestamp() - every_seconds * interval '1 second')
returning name";

    const FINISH: &str = "-- jobs::finish
update jobs set finished_at = clock_timestamp(), done = $3, error = $4 where region = $1 and name = $2";
}

/// Every job of every domain.
pub fn all(ctx: &Ctx) -> impl Iterator<Item = &'static Job> {
    ctx.registry.domains.iter().flat_map(|domain| domain.jobs)
}

/// Runs until the process ends.
pub async fn run(ctx: Ctx) {
    let names: Vec<&str> = all(&ctx).map(|job| job.name).collect();
    let seconds: Vec<i32> =
        all(&ctx).map(|job| i32::try_from(job.every.as_secs()).unwrap_or(i32::MAX)).collect();
    let mut is_registered = false;
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let region = &ctx.config.region;
        is_registered = is_registered || ctx.db.query(REGISTER, &[region, &names, &seconds]).await.is_ok();
        // Without Postgres nothing is due.
        for row in ctx.db.query(CLAIM, &[region]).await.unwrap_or_default() {
            let name: String = row.get(0);
            // Rows of jobs that no longer exist are left alone.
            if let Some(job) = all(&ctx).find(|job| job.name == name) {
                // A failure is in the log and in the table; the job becomes due again.
                let _ = run_one(&ctx, job).await;
            }
        }
    }
}

/// Runs a job now, and records its outcome. Returns how many rows it handled.
pub async fn run_one(ctx: &Ctx, job: &Job) -> Result<u64> {
    let outcome = (job.run)(ctx).await;
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
    // Without Postgres the outcome cannot be recorded.
    let _ = ctx.db.query(FINISH, &[&ctx.config.region, &job.name, &done, &error]).await;
    outcome
}

/// Removes rows, some at a time, until the statement finds none.
pub async fn clean(ctx: &Ctx, sql: &'static str) -> Result<u64> {
    let mut removed = 0;
    loop {
        let tx = Tx::begin(&ctx.db).await?;
        let row = tx.query_one(sql, &[&AT_ONCE]).await;
        let some: i64 = tx.end(row).await?.get(0);
        removed += some.cast_unsigned();
        if some < AT_ONCE {
            return Ok(removed);
        }
    }
}
