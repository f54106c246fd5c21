//! Partitions, made before rows need them. Every origin looks every minute, and at its start.
//!
//! Which tables have partitions, and how they are cut, is in Postgres (`partitioned`), as are the functions that make and
//! drop one. How tables got their partitions is the migration's.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::ctx::Ctx;
use crate::error::Result;
use crate::statements;

/// How often an origin looks.
const EVERY: Duration = Duration::from_secs(60);
/// With so few partitions of transactions ahead, the operator is told: each is millions of transactions.
const FEW: i64 = 4;
/// With so few the origin is not ready: soon no write would succeed.
const TOO_FEW: i64 = 1;

statements! {
    /// Each table in partitions, the number of the present one, how many there are to be ahead of it, and the numbers of those
    /// that there are.
    const LOOK: &str = "-- partitions::look
select name, cut = 'transaction', leaf_now(name), ahead, array(select leaves(name)) from partitioned
where parted(name) = name order by name";

    const MAKE: &str = "-- partitions::make
select make_leaf($1, $2)";

    const DROP_OUTBOX: &str = "-- partitions::drop_outbox
select drop_outbox_leaf()";
}

/// What the last look has found.
#[derive(Debug)]
pub struct Ahead {
    transactions: AtomicI64,
}

impl Default for Ahead {
    /// Nobody has looked.
    fn default() -> Ahead {
        Ahead { transactions: AtomicI64::new(i64::MAX) }
    }
}

impl Ahead {
    /// Whether writes will find partitions for long enough.
    pub fn is_enough(&self) -> bool {
        self.transactions.load(Ordering::Relaxed) > TOO_FEW
    }
}

/// Runs until the process ends.
pub async fn run(ctx: Ctx) {
    let mut look = tokio::time::interval(EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        // Without Postgres, or while somebody holds a lock, the next look makes them.
        let _ = make(&ctx).await;
    }
}

/// Makes the partitions that are missing. Returns how many it made.
pub async fn make(ctx: &Ctx) -> Result<u64> {
    let mut made = 0;
    for row in ctx.db.query(LOOK, &[]).await? {
        let (table, is_outbox): (String, bool) = (row.get(0), row.get(1));
        let (now, ahead): (i64, i32) = (row.get(2), row.get(3));
        let mut leaves: Vec<i64> = row.get(4);
        for leaf in now..=now + i64::from(ahead) {
            if leaves.contains(&leaf) {
                continue;
            }
            match ctx.db.query_opt(MAKE, &[&table, &leaf]).await {
                Ok(_) => {
                    made += 1;
                    leaves.push(leaf);
                }
                Err(error) => tracing::warn!(%table, leaf, ?error, "a partition cannot be made yet"),
            }
        }
        note(ctx, &table, is_outbox, (1..).take_while(|step| leaves.contains(&(now + step))).count());
    }
    Ok(made)
}

fn note(ctx: &Ctx, table: &str, is_outbox: bool, ahead: usize) {
    metrics::gauge!("optimist_partitions_ahead", "table" => table.to_owned()).set(ahead as f64);
    let ahead = i64::try_from(ahead).unwrap_or(i64::MAX);
    if is_outbox {
        ctx.partitions.transactions.store(ahead, Ordering::Relaxed);
    }
    if ahead < if is_outbox { FEW + 1 } else { 1 } {
        tracing::error!(table, ahead, "partitions run short");
    }
}

/// Drops the partitions of the outbox that everyone is past. Returns how many.
pub async fn drop_outbox(ctx: &Ctx) -> Result<u64> {
    let mut dropped = 0;
    while let Some(row) = ctx.db.query_opt(DROP_OUTBOX, &[]).await?
        && row.get(0)
    {
        dropped += 1;
    }
    Ok(dropped)
}
