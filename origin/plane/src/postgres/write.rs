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
use crate::postgres::transaction::{Tx, rollback};
use crate::redis::RedisDown;
use crate::region::belief::{Mode, OFF_FOR_MS};
use crate::region::switch::switch_off;
use crate::request::RequestContext;

/// Who writes, and what for.
#[derive(Clone, Copy)]
pub struct WriteContext<'a> {
    /// As the statements' names have it: `messages::post`.
    pub name: &'static str,
    pub request: &'a RequestContext,
    /// The acting user and session, once known.
    pub actor: Option<(Uuid, Option<Uuid>)>,
    /// Circles and users whose events this transaction orders, and who learn of its event.
    pub order: &'a [Uuid],
}

/// Attempts at a transaction that fails to serialise, or finds the region in another mode than it thought.
const ATTEMPTS: u32 = 4;

const OUTBOX: &str = "-- outbox::insert
insert into outbox (region, actor, session, request_id, traceparent, keys, kind, payload, topics)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

const HOLD_OFF: &str = "-- region::hold_off
select state = 'off', coalesce((extract(epoch from clock_timestamp() - off_since) * 1000)::bigint, 0)
from regions where name = $1 for share";

pub const STATEMENTS: &[&str] = &[OUTBOX, HOLD_OFF];

/// Runs a write: the block's statements, the outbox row, the fence, the commit, the release; only then it has a value.
///
/// `transaction!(ctx, context, |tx| { … })`, where `tx` is a `&mut Tx` and the block ends in a [`Result`]. Isolation is
/// `read committed`; writers of the same circle or user are ordered by advisory locks, taken before the first statement
/// that can be given a transaction id. What fails to serialise is tried again, so the block may run more than once. (A
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

/// A write under way, over all its attempts: what [`transaction!`] is made of.
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
        let mut order = self.context.order.to_vec();
        order.sort_unstable();
        order.dedup();
        let tx = Tx::locking(&ctx.db, order).await?;
        // Behind the locks: a row's lock is given a transaction id.
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
        if let Some(key) = tx.nameless {
            rollback(tx).await;
            return Err(Error::internal(self.context.name, &format!("a parameter of {key:?} is missing")));
        }
        hooks::step("tx.statements").await;
        let token = Uuid::now_v7().simple().to_string();
        // Both before the commit; neither waits for the other.
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
            // Some fences may stand: what they hide lapses by itself, and nothing was committed.
            rollback(tx).await;
            switch_off(self.ctx).await?;
            // In the mode that the region is in now.
            return Err(Error::unavailable("The cache").again(0));
        };
        hooks::step("tx.fenced").await;
        self.commit(tx, is_fenced.then_some(&touched), &token).await?;
        hooks::step("tx.committed").await;
        self.release(&touched, &token).await.map_err(Error::uncertain)?;
        hooks::step("tx.released").await;
        self.ctx.relay_wake.notify_one();
        Ok(value)
    }

    /// The outbox row, unless nothing was changed.
    async fn record(&self, tx: &Tx) -> Result<()> {
        debug_assert!(
            tx.touched.iter().all(|touched| self.context.request.route.fences.contains(&touched.key)),
            "{} touches keys that its route does not name",
            self.context.name
        );
        if !tx.unchanged && !tx.recorded {
            insert_outbox(tx, self.ctx, self.context).await?;
        }
        hooks::step("tx.outbox").await;
        Ok(())
    }

    /// Whether keys were fenced; in an error's case, some of them may be.
    async fn fence(&self, tx: &Tx, token: &str) -> Result<bool, RedisDown> {
        let wanted =
            self.mode == Mode::Fenced && !tx.touched.is_empty() && !tx.unchanged && !hooks::disabled("fence");
        if wanted {
            fence::fence(self.ctx, &tx.touched, token).await?;
        }
        Ok(wanted)
    }

    async fn commit(&self, mut tx: Tx, fenced: Option<&Vec<TouchedKey>>, token: &str) -> Result<()> {
        let Err(error) = tx.client()?.batch_execute("commit").await else {
            tx.ended();
            return Ok(());
        };
        let certain = error.as_db_error().is_some();
        drop(tx);
        if certain {
            if let Some(touched) = fenced {
                fence::unhide(self.ctx, touched, token).await;
            }
            return Err(error.into());
        }
        // The commit may have happened: the fence lapses by itself, and the client has to look.
        tracing::warn!(name = self.context.name, why = %error, "the outcome of a commit is unknown");
        let detail = "The outcome is unknown: the connection was lost while committing.";
        Err(Error::unavailable("The database").detail(detail).uncertain())
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
            // Committed, and copies may be out there: not acknowledged until nobody believes them.
            Err(_) => switch_off(ctx).await,
        }
    }

    /// Whether to try once more, after the wait that the error asks for.
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

async fn insert_outbox(tx: &Tx, ctx: &Ctx, context: WriteContext<'_>) -> Result<()> {
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

/// Makes sure, within a transaction that will not fence, that the region is off and stays off until it ends.
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
