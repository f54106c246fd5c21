//! Brings tables into partitions while people go on writing. Postgres does it, in functions of the schema: here are only the steps
//! and their order, each a transaction of its own. Whoever kills this loses nothing, and begins where it ended.

use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

type Outcome<T> = Result<T, tokio_postgres::Error>;

/// Rows of a step: it holds their locks, and a snapshot, for some ten milliseconds.
const ROWS: i32 = 1_000;
/// How often a step that finds a lock taken is tried again. Others wait for it no longer than its lock's timeout.
const TRIES: u32 = 300;
const PAUSE: Duration = Duration::from_millis(200);
/// How often the log says how far a step is.
const REPORT: Duration = Duration::from_secs(10);

/// Tables whose rows say too little in an earlier release.
const PREPARED: &[&str] = &["messages", "notifications", "notification_actors", "notification_actors_gone"];
/// Tables that are copied.
const COPIED: &[&str] =
    &["activity", "reactions", "reaction_counts", "notifications", "notification_actors", "messages"];

const FORMER: &str =
    "select count(*) from origins where release < 1 and seen_at > now() - interval '1 minute'";
const AGAIN: &str = "delete from replaced
where name = 'prepare messages' and not exists (select from replaced where name like 'copy %')";

/// Does what there is to do. Returns whether all tables are in partitions: not while an origin of an earlier release lives.
pub async fn bring_into_partitions(client: &Client) -> Outcome<bool> {
    let mut left = Vec::new();
    for table in COPIED.iter().chain(&["outbox"]) {
        if !is_parted(client, table).await? {
            left.push(*table);
        }
    }
    if left.is_empty() {
        return Ok(true);
    }
    prepare(client).await?;
    let former = client.query_one(FORMER, &[]).await?.get::<_, i64>(0);
    if former > 0 {
        tracing::warn!(
            origins = former,
            "origins of an earlier release live: replace them, then run this again, to bring tables into partitions"
        );
        return Ok(false);
    }
    // Since the first time, origins of the earlier release may have posted without noting it.
    client.execute(AGAIN, &[]).await?;
    prepare(client).await?;
    for table in left {
        if table == "outbox" {
            while !is_parted(client, table).await? {
                patiently(client, "select adopt_outbox()").await?;
            }
        } else {
            patiently(client, &format!("select begin_replacing('{table}')")).await?;
            run(client, "copy_part", table).await?;
            run(client, "check_part", table).await?;
            if table == "messages" {
                run(client, "number_months", "circles").await?;
            }
            patiently(client, &format!("select replace_table('{table}')")).await?;
        }
        tracing::info!(table, "is in partitions");
    }
    // Messages may have other numbers: no copy in Redis counts any more.
    client.execute("update regions set epoch = epoch + 1", &[]).await?;
    Ok(true)
}

async fn prepare(client: &Client) -> Outcome<()> {
    for table in PREPARED {
        run(client, "prepare_part", table).await?;
    }
    Ok(())
}

async fn is_parted(client: &Client, table: &str) -> Outcome<bool> {
    Ok(client.query_one("select parted($1) = $1", &[&table]).await?.get(0))
}

/// Repeats a step until it is finished.
async fn run(client: &Client, step: &str, table: &str) -> Outcome<()> {
    let sql = format!("select {step}('{table}', {ROWS})");
    let mut reported = Instant::now();
    loop {
        let done: i64 = patiently(client, &sql).await?.unwrap_or(-1);
        if done < 0 {
            return Ok(());
        }
        if reported.elapsed() > REPORT {
            reported = Instant::now();
            tracing::info!(step, table, rows = done, "under way");
        }
    }
}

/// Runs a statement, again and again while others hold its locks.
pub async fn patiently(client: &Client, sql: &str) -> Outcome<Option<i64>> {
    let mut tries = 0;
    loop {
        match client.query_opt(sql, &[]).await {
            Ok(row) => return Ok(row.and_then(|row| row.try_get(0).ok())),
            Err(error) => {
                let is_busy = matches!(
                    error.code(),
                    Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::T_R_DEADLOCK_DETECTED)
                );
                tries += 1;
                if !is_busy || tries > TRIES {
                    return Err(error);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
