//! The archive: months that are old leave Postgres for objects in a store, and come back from there.
//!
//! Which tables have such months, and by what age they go, is in Postgres (`partitioned`); the state of each month is there too
//! (`archived`), so that whoever kills this loses nothing. The steps run as the role that owns the schema, one origin at a time.
//! This file says what requests and the operator see of it.

mod csv;
mod erasing;
mod http;
mod objects;
mod owner;
mod restoring;
mod running;
pub mod settings;

use std::time::Duration;

use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;

use crate::config::Config;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::months::Month;
use crate::statements;

pub use erasing::{Condition, listed, note, remainder, unsearched};
pub use objects::Erased;
pub use owner::{Outcome, Trouble};
pub use restoring::{Finding, restore, verify};
pub use running::{list, run};

/// How long the job waits for the work that it has begun: other jobs of the region wait for it.
const PATIENCE: Duration = Duration::from_secs(20);

statements! {
    /// Whether nothing of a table's month changes any more.
    const IS_CLOSED: &str = "-- archive::is_closed
select from archived where name = $1 and month = $2 and state <> 'restored'";

    const DROP_OLD: &str = "-- archive::drop_old
select drop_old_months($1)";
}

/// The answer where a row was not found, or not changed: 410 if its month is archived, or on its way; otherwise 404.
pub async fn missing(ctx: &Ctx, table: &str, id: Uuid) -> Error {
    match ctx.db.query_opt(IS_CLOSED, &[&table, &Month::of_id(id).first_day()]).await {
        Ok(Some(_)) => Error::new(ErrorCode::Archived),
        Ok(None) => Error::new(ErrorCode::NotFound),
        Err(error) => error,
    }
}

/// 410 if nothing of the id's month changes any more.
pub async fn require_open(ctx: &Ctx, table: &str, id: Uuid) -> Result<()> {
    match missing(ctx, table, id).await {
        Error { code: ErrorCode::NotFound, .. } => Ok(()),
        error => Err(error),
    }
}

/// Drops old months, some at a time. Returns how many.
async fn drop_old(ctx: &Ctx) -> Result<u64> {
    let mut dropped = 0;
    loop {
        let row = ctx.db.query_opt(DROP_OLD, &[&ctx.config.archive_ages.never()]).await?;
        let some = row.map_or(0, |row| row.get::<_, i64>(0).cast_unsigned());
        if some == 0 {
            return Ok(dropped);
        }
        dropped += some;
    }
}

/// The job: archives what is old enough. Without an archive, drops the old months that may go.
pub async fn run_job(ctx: &Ctx) -> Result<u64> {
    if ctx.config.archive_url.is_none() {
        return drop_old(ctx).await;
    }
    let config: Config = ctx.config.clone();
    let work = tokio::spawn(async move {
        let done = run(&config, None).await;
        if let Err(trouble) = &done {
            tracing::error!(why = %trouble, "the archive cannot be written; it is tried again in an hour");
        }
        done
    });
    // A large month takes longer, and goes on; nobody else begins meanwhile.
    match tokio::time::timeout(PATIENCE, work).await {
        Err(_) => Ok(0),
        Ok(Ok(Ok(done))) => Ok(done),
        Ok(_) => Err(Error::new(ErrorCode::Internal)),
    }
}
