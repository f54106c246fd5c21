//! The rows of deliveries: inserted, claimed, marked, found again and removed.
//!
//! A row that waits is due at `due_at`; one that is claimed, when its claim lapses.

use optimist_shared::ids::Uuid;
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::ctx::Ctx;
use crate::error::Result;
use crate::hooks;
use crate::outgoing::delivery::{Delivery, Mark};
use crate::postgres::left::Ticket;
use crate::postgres::transaction::Tx;
use crate::statements;

/// How long a claim lasts, in seconds: longer than an attempt takes.
const CLAIM_SECONDS: f64 = 40.0;
/// Rows of one channel that a sweep finds.
const AT_ONCE: i64 = 500;

statements! {
    const INSERT: &str = "-- outgoing::insert
insert into deliveries (user_id, subject, target, channel, about) values ($1, $2, $3, $4, $5)
on conflict do nothing";

    const CLAIM: &str = "-- outgoing::claim
update deliveries
set state = 'claimed', attempts = attempts + 1, due_at = now() + $4 * interval '1 second'
where user_id = $1 and subject = $2 and target = $3 and ended_at is null and due_at <= now()
returning about, attempts, created_at";

    /// By the number of the attempt: a sender whose claim has lapsed marks nothing. `$9` is 0 of what has ended, else null: a shard's
    /// update may have no `now()` in a condition.
    const MARK: &str = "-- outgoing::mark
update deliveries
set state = $5, reason = $6, attempts = $7, due_at = now() + $8::float8 * interval '1 second',
    ended_at = now() + $9::float8 * interval '1 second'
where user_id = $1 and subject = $2 and target = $3 and attempts = $4 and state = 'claimed'";

    /// Rows of a channel that were due `$2` seconds ago: tickets of later ones may still be in the queue.
    const DUE: &str = "-- outgoing::due
select channel, user_id, subject, target from deliveries
where channel = $1 and ended_at is null and due_at <= now() - $2 * interval '1 second'
order by due_at limit $3";

    pub const CLEAN: &str = "-- outgoing::clean
with old as (
    select user_id, subject, target from deliveries where created_at < now() - interval '7 days' order by created_at limit $1),
gone as (
    delete from deliveries d using old
    where (d.user_id, d.subject, d.target) = (old.user_id, old.subject, old.target) returning 1)
select count(*) from gone";
}

/// Leaves something to be sent once the transaction is committed.
pub async fn insert(tx: &Tx, ticket: Ticket, about: Option<&Value>) -> Result<()> {
    let Ticket { channel, user, subject, target } = &ticket;
    tx.execute(INSERT, &[user, subject, target, channel, &about]).await?;
    tx.sends([ticket]);
    Ok(())
}

/// `None` if it is claimed, not due, or ended.
pub(super) async fn claim(ctx: &Ctx, ticket: &Ticket) -> Result<Option<Delivery>> {
    let Ticket { user, subject, target, .. } = ticket;
    let seconds = if hooks::disabled("claim") { 0.0 } else { CLAIM_SECONDS };
    let rows = query(ctx, CLAIM, &[user, subject, target, &seconds]).await?;
    let [user, subject, target]: [Uuid; 3] = [*user, *subject, *target];
    Ok(rows.first().map(|row| Delivery {
        user,
        subject,
        target,
        about: row.get(0),
        attempt: row.get(1),
        created_at: row.get(2),
    }))
}

pub(super) async fn mark(ctx: &Ctx, delivery: &Delivery, mark: Mark) -> Result<()> {
    if hooks::disabled("mark") {
        return Ok(());
    }
    let Delivery { user, subject, target, attempt, .. } = delivery;
    let Mark { state, reason, attempts, due_in } = mark;
    let ended = due_in.is_none().then_some(0.0);
    let due_in = due_in.map_or(0.0, |due_in| due_in.as_secs_f64());
    query(ctx, MARK, &[user, subject, target, attempt, &state, &reason, &attempts, &due_in, &ended])
        .await
        .map(drop)
}

/// Rows of these channels that nobody has claimed although they are due.
pub(super) async fn due(ctx: &Ctx, channels: &[&str], seconds: f64) -> Result<Vec<Ticket>> {
    let mut due = Vec::new();
    for channel in channels {
        let rows = query(ctx, DUE, &[channel, &seconds, &AT_ONCE]).await?;
        due.extend(rows.iter().map(Ticket::from_row));
    }
    Ok(due)
}

/// One query of a sender.
pub async fn query(ctx: &Ctx, sql: &'static str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
    // The semaphore is never closed.
    let _turn = ctx.outgoing.connections.acquire().await;
    ctx.db.query(sql, parameters).await
}
