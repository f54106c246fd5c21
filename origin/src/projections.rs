//! What follows from writes: each settled row of the outbox is read once, in order, and its consequences are written with
//! the position in one transaction. Any number of origins may be at it, of which one is at a time; any may die.
//!
//! Nobody waits for it. What the consequences are is their domains': notifications and activity.

use std::time::Duration;

use chrono::{DateTime, Utc};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use serde_json::Value;

use crate::app::Ctx;
use crate::error::Result;
use crate::hooks;
use crate::postgres::Tx;
use crate::{activity, notifications};

/// How often one looks for rows: what people are told is so old, and a pass more.
const EVERY: Duration = Duration::from_millis(100);
/// Rows of one transaction, and what may be written for them, about: well within its timeouts.
const ROWS: i64 = 500;
/// Rows of a transaction after a larger one was too slow.
const FEW_ROWS: i64 = 20;
const WRITTEN: u64 = 10_000;

/// Nothing if nothing is to be done, or somebody is at it.
const CLAIM: &str = "-- projections::claim
select xid::text, seq, part from projections p
where name = 'main' and exists (
    select from outbox o where (o.xid, o.seq) > (p.xid, p.seq) and o.xid < pg_snapshot_xmin(pg_current_snapshot()))
for update skip locked";

/// Ordered by the column itself: its text, which is selected, has another order.
const PENDING: &str = "-- projections::pending
select xid::text, seq, kind, actor, payload, created_at from outbox
where (xid, seq) > ($1::text::xid8, $2) and xid < pg_snapshot_xmin(pg_current_snapshot())
order by outbox.xid, outbox.seq limit $3";

const ADVANCE: &str = "-- projections::advance
update projections set xid = $1::text::xid8, seq = $2, part = $3 where name = 'main'";

pub const STATEMENTS: &[&str] = &[CLAIM, PENDING, ADVANCE];

/// A row of the outbox.
pub struct Event {
    pub kind: String,
    pub actor: Option<Uuid>,
    payload: Value,
    pub at: DateTime<Utc>,
}

impl Event {
    /// An id in its payload.
    pub fn id(&self, name: &str) -> Option<Uuid> {
        optimist_shared::ids::parse_id(self.payload.get(name)?.as_str()?)
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.payload.get(name)?.as_str()
    }
}

/// How far an event is dealt with.
pub enum Done {
    /// So many rows were written.
    All(u64),
    /// It goes on after this person.
    UpTo(Uuid),
}

/// Runs until the process ends.
pub async fn run(app: Ctx) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        // Without Postgres there is nothing to be done; the breaker has said so.
        while let Ok(true) = pass(&app).await {}
    }
}

/// Deals with what is pending. Whether there may be more.
async fn pass(app: &Ctx) -> Result<bool> {
    match attempt(app, ROWS).await {
        // Postgres refuses what follows from one of them: one at a time, and that one without its consequences.
        Err(error) if error.code == ErrorCode::Internal => attempt(app, 1).await,
        // It may have been too much for the time that a statement has.
        Err(error) if error.code == ErrorCode::Unavailable => attempt(app, FEW_ROWS).await,
        outcome => outcome,
    }
}

async fn attempt(app: &Ctx, limit: i64) -> Result<bool> {
    let tx = Tx::begin(&app.db).await?;
    let result = project(&tx, limit).await;
    tx.end(result).await
}

/// A single event whose consequences Postgres refuses is passed by in the same transaction: under the position's lock nobody
/// else has come to another one meanwhile.
async fn project(tx: &Tx, limit: i64) -> Result<bool> {
    let Some(row) = tx.query_opt(CLAIM, &[]).await? else { return Ok(false) };
    let (xid, seq): (String, i64) = (row.get(0), row.get(1));
    let mut part: Option<Uuid> = row.get(2);
    let (mut to, mut written) = ((xid.clone(), seq), 0);
    let rows = tx.query(PENDING, &[&xid, &seq, &limit]).await?;
    let mut is_more = rows.len() as i64 == limit;
    for row in &rows {
        let event = Event { kind: row.get(2), actor: row.get(3), payload: row.get(4), at: row.get(5) };
        let outcome = if limit == 1 {
            tx.part(consequences(tx, &event, part)).await?
        } else {
            consequences(tx, &event, part).await
        };
        match outcome {
            Ok(Done::All(rows)) => written += rows,
            Ok(Done::UpTo(user)) => {
                part = Some(user);
                is_more = true;
                break;
            }
            Err(error) if limit == 1 && error.code == ErrorCode::Internal => {
                let (xid, seq): (String, i64) = (row.get(0), row.get(1));
                tracing::error!(
                    xid,
                    seq,
                    kind = event.kind,
                    "nothing follows from an event: postgres refuses it"
                );
                metrics::counter!("optimist_events_skipped_total").increment(1);
            }
            Err(error) => return Err(error),
        }
        let age = (Utc::now() - event.at).to_std().unwrap_or_default();
        metrics::histogram!("optimist_projections_lag_seconds").record(age.as_secs_f64());
        part = None;
        to = (row.get(0), row.get(1));
        if written >= WRITTEN {
            is_more = true;
            break;
        }
    }
    tx.execute(ADVANCE, &[&to.0, &to.1, &part]).await?;
    hooks::step("projections.done").await;
    Ok(is_more)
}

/// `after` is the last person that an earlier pass has come to.
async fn consequences(tx: &Tx, event: &Event, after: Option<Uuid>) -> Result<Done> {
    if after.is_none() {
        activity::follow(tx, event).await?;
    }
    notifications::follow(tx, event, after).await
}
