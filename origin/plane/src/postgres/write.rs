//! The one function that runs a write: transaction, outbox row, fence, commit, release.

use std::time::{Duration, Instant};

use futures_util::future::join;
use optimist_shared::ids::Uuid;

use crate::cache::fence;
use crate::cache::read::refill_in_background;
use crate::cache::touched::TouchedKey;
use crate::ctx::Ctx;
use crate::error::{Error, Failure, Result};
use crate::hooks;
use crate::postgres::transaction::{Commit, Locks, Tx, rollback, unknown};
use crate::redis::RedisDown;
use crate::region::switch::switch_off;
use crate::region::trust::{Mode, OFF_FOR_MS};
use crate::request::WriteContext;
use crate::statements;

/// Attempts at a transaction that fails to serialise, or finds the region in another mode than expected.
const ATTEMPTS: u32 = 4;

statements! {
    const OUTBOX: &str = "-- outbox::insert
insert into outbox (region, actor, session, request_id, traceparent, keys, kind, payload, topics)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

    const HOLD_OFF: &str = "-- region::hold_off
select state = 'off', coalesce((extract(epoch from clock_timestamp() - off_since) * 1000)::bigint, 0)
from regions where name = $1 for share";
}

/// Runs a write: the block's statements, the outbox row, the fence, the commit, the release; only then does it have a value.
///
/// `transaction!(ctx, context, |tx| { … })`, where `tx` is a `&mut Tx` and the block ends in a [`Result`]. Isolation is
/// `read committed`; advisory locks, taken before the first statement that can be given a transaction id, order the writers
/// of the same circle or user. A transaction that fails to serialise is tried again, so the block may run more than once. (A
/// macro, since the future of an async closure cannot yet be promised to be `Send`.)
#[macro_export]
macro_rules! transaction {
    ($ctx:expr, $context:expr, |$tx:ident| $body:block) => {{
        let mut write = $crate::postgres::write::Write::new($ctx, $context);
        loop {
            let result = match write.begin().await {
                Ok(mut transaction) => {
                    let result: $crate::error::Result<_> = {
                        let $tx: &mut $crate::postgres::transaction::Tx = &mut transaction;
                        async { $body }.await
                    };
                    write.end(transaction, result).await
                }
                Err(error) => Err(error),
            };
            match result {
                Err(error) if write.again(&error).await => {}
                result => break write.finish(result),
            }
        }
    }};
}
pub use transaction;

/// A write under way, over all its attempts; [`transaction!`] is built on it.
pub struct Write<'a> {
    ctx: &'a Ctx,
    context: WriteContext<'a>,
    started: Instant,
    attempts: u32,
    mode: Mode,
}

impl<'a> Write<'a> {
    pub fn new(ctx: &'a Ctx, context: WriteContext<'a>) -> Write<'a> {
        Write { ctx, context, started: Instant::now(), attempts: 0, mode: Mode::Fenced }
    }

    /// Opens the transaction and takes its locks.
    pub async fn begin(&mut self) -> Result<Tx> {
        let ctx = self.ctx;
        self.attempts += 1;
        self.mode = ctx.region.mode();
        let mut order = self.context.order.clone();
        order.sort_unstable();
        order.dedup();
        let locks = Locks { order, leaves_busy: self.context.leaves_busy };
        let tx = Tx::locking(&ctx.db, locks).await?;
        // After the locks: locking a row assigns a transaction id.
        if self.mode == Mode::Unfenced
            && let Err(error) = hold_off(ctx, &tx).await
        {
            rollback(tx).await;
            return Err(error);
        }
        hooks::step("tx.begun").await;
        Ok(tx)
    }

    /// Ends the transaction: rolls back a failure, or fences, commits and releases.
    pub async fn end<T>(&self, mut tx: Tx, result: Result<T>) -> Result<T> {
        let value = match result {
            Ok(value) => value,
            Err(error) => {
                rollback(tx).await;
                return Err(error);
            }
        };
        hooks::step("tx.statements").await;
        let token = Uuid::now_v7().simple().to_string();
        // Both must precede the commit; neither waits for the other.
        let (recorded, fenced) = join(self.record(&tx), self.fence(&tx, &token)).await;
        let touched = std::mem::take(&mut tx.touched);
        if let Err(error) = recorded {
            rollback(tx).await;
            if let Ok(true) = fenced {
                fence::unhide(self.ctx, &touched, &token).await;
            }
            return Err(error);
        }
        let Ok(is_fenced) = fenced else {
            // Some fences may stand: their hidden values lapse by themselves, and nothing was committed.
            rollback(tx).await;
            switch_off(self.ctx).await?;
            // The next attempt uses the region's new mode.
            return Err(Error::unavailable("The cache").again(0));
        };
        hooks::step("tx.fenced").await;
        self.commit(tx, is_fenced.then_some(&touched), &token).await?;
        hooks::step("tx.committed").await;
        // The relay first asks Postgres: the release is on its way to Redis before anything of the relay's.
        self.ctx.relay_wake.notify_one();
        self.release(&touched, &token).await.map_err(Error::uncertain)?;
        hooks::step("tx.released").await;
        Ok(value)
    }

    /// Inserts the outbox row, unless nothing changed.
    async fn record(&self, tx: &Tx) -> Result<()> {
        debug_assert!(
            tx.touched.iter().all(|touched| self.context.request.route.fences.contains(&touched.key.key())),
            "{} touches keys that its route does not name",
            self.context.name
        );
        if !tx.unchanged && !tx.recorded {
            insert_outbox(tx, self.ctx, &self.context).await?;
        }
        hooks::step("tx.outbox").await;
        Ok(())
    }

    /// Fences the touched keys if needed, and returns whether it did. After an error, some of the fences may stand.
    async fn fence(&self, tx: &Tx, token: &str) -> Result<bool, RedisDown> {
        let wanted =
            self.mode == Mode::Fenced && !tx.touched.is_empty() && !tx.unchanged && !hooks::disabled("fence");
        if wanted {
            fence::raise(self.ctx, &tx.touched, token).await?;
        }
        Ok(wanted)
    }

    async fn commit(&self, mut tx: Tx, fenced: Option<&Vec<TouchedKey>>, token: &str) -> Result<()> {
        let outcome = tx.commit().await?;
        match outcome {
            Commit::Done => {
                tx.ended();
                Ok(())
            }
            Commit::Refused(error) => {
                drop(tx);
                if let Some(touched) = fenced {
                    fence::unhide(self.ctx, touched, token).await;
                }
                Err(error.into())
            }
            // The commit may have happened: the fence lapses by itself, and the client has to look.
            Commit::Unknown(why) => Err(unknown(self.context.name, &why)),
        }
    }

    async fn release(&self, touched: &[TouchedKey], token: &str) -> Result<()> {
        let ctx = self.ctx;
        if touched.is_empty() || self.mode == Mode::Unfenced {
            return Ok(());
        }
        match fence::release(ctx, touched, token).await {
            Ok(warm) => {
                refill_in_background(ctx, warm);
                Ok(())
            }
            // Committed, but stale copies may remain: not acknowledged until nobody trusts them.
            Err(_) => switch_off(ctx).await,
        }
    }

    /// Whether to try again; waits first, as the error asks.
    pub async fn again(&self, error: &Error) -> bool {
        match error.failure {
            Failure::Again { after_ms } if self.attempts < ATTEMPTS => {
                tokio::time::sleep(Duration::from_millis(after_ms)).await;
                true
            }
            _ => false,
        }
    }

    pub fn finish<T>(&self, result: Result<T>) -> Result<T> {
        let outcome = if result.is_ok() { "committed" } else { "failed" };
        metrics::histogram!("optimist_transaction_seconds", "name" => self.context.name, "outcome" => outcome)
            .record(self.started.elapsed().as_secs_f64());
        result
    }
}

async fn insert_outbox(tx: &Tx, ctx: &Ctx, context: &WriteContext<'_>) -> Result<()> {
    let keys: Vec<&str> = tx.touched.iter().map(|touched| touched.name.as_str()).collect();
    let (actor, session) = context.actor.map_or((None, None), |(actor, session)| (Some(actor), session));
    let (kind, payload) = match &tx.event {
        Some((kind, payload)) => (*kind, payload.clone()),
        None => (context.name, serde_json::Value::Null),
    };
    let request = context.request;
    tx.execute(
        OUTBOX,
        &[
            &ctx.config.region,
            &actor,
            &session,
            &request.request_id,
            &request.traceparent,
            &keys,
            &kind,
            &payload,
            &context.order,
        ],
    )
    .await?;
    Ok(())
}

/// Ensures, in a transaction that does not fence, that the region is off and stays off until the transaction ends.
pub async fn hold_off(ctx: &Ctx, tx: &Tx) -> Result<()> {
    let row = tx.query_one(HOLD_OFF, &[&ctx.config.region]).await?;
    let (off, off_for): (bool, i64) = (row.get(0), row.get(1));
    if off && off_for >= OFF_FOR_MS {
        return Ok(());
    }
    let after_ms = if off {
        u64::try_from(OFF_FOR_MS - off_for).unwrap_or(0)
    } else {
        ctx.region.set_mode(Mode::Fenced);
        0
    };
    Err(Error::unavailable("The cache").again(after_ms))
}
