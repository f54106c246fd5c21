//! Consequences of writes: each settled row of the outbox is read once, in order, and its consequences are written with the
//! position in one transaction. Every origin runs this loop; a row lock lets one work at a time.
//!
//! No request waits for it. Domains define the consequences (see [`crate::domain::Follow`]).

use std::time::{Duration, Instant};

use chrono::Utc;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;

use crate::ctx::Ctx;
use crate::domain::Follow;
use crate::error::Result;
use crate::hooks;
use crate::outbox::end_of_stretch;
use crate::outbox::event::{Done, Event};
use crate::outbox::set_aside::{apart, go_on, set_aside};
use crate::postgres::transaction::Tx;
use crate::statements;

/// How often the loop looks for rows. Notifications are this old, plus one pass.
const EVERY: Duration = Duration::from_millis(100);
/// Rows read in one transaction. [`WRITTEN`] bounds the rows written for them, approximately: well within its time.
const ROWS: i64 = 500;
const WRITTEN: u64 = 2_000;
/// A transaction begins no further event after this long: half of its time. Kinds that alternate are few rows and many trips.
const BEGINS: Duration = Duration::from_millis(400);
/// How many passes in a row may find one event too slow before it is set aside.
const PASSES: u32 = 5;
/// The wait after a defect of ours. Nothing is skipped for a defect, so the next pass meets the same rows, fails in the same
/// way and logs it again.
const AFTER_DEFECT: Duration = Duration::from_secs(5);

statements! {
    /// The position, the horizon, whether a settled row follows the position `$1, $2` before the transaction `$3`, and whether a long
    /// event goes on.
    const LOOK: &str = "-- projections::look, planned anew
select xid::text, seq, pg_snapshot_xmin(pg_current_snapshot())::text::bigint, exists (
    select from outbox
    where (xid, seq) > ($1::text::xid8, $2) and xid >= $1::text::xid8 and xid < $3::text::xid8
      and xid < pg_snapshot_xmin(pg_current_snapshot())),
    exists (select from events_set_aside where reason = 'long' and (attempts = 1 or tried_at < clock_timestamp() - interval '5 seconds'))
from projections where name = 'main'";

    /// The position and the horizon. No row if another origin holds the lock.
    const CLAIM: &str = "-- projections::claim
select xid::text, seq, part, pg_snapshot_xmin(pg_current_snapshot())::text::bigint
from projections where name = 'main' for update skip locked";

    /// Ordered by the column itself: the selected text has another order.
    const PENDING: &str = "-- projections::pending, planned anew
select xid::text, seq, kind, actor, payload, created_at from outbox
where (xid, seq) > ($1::text::xid8, $2) and xid >= $1::text::xid8 and xid < $4::text::xid8
  and xid < pg_snapshot_xmin(pg_current_snapshot())
order by outbox.xid, outbox.seq limit $3";

    const ADVANCE: &str = "-- projections::advance
update projections set xid = $1::text::xid8, seq = $2, part = $3 where name = 'main'";
}

/// Runs until the process ends.
pub async fn run(ctx: Ctx) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut pace, mut patience) = (ROWS, Patience::default());
    let mut known = ("0".to_owned(), 0);
    loop {
        tick.tick().await;
        loop {
            let Ok(found) = look(&ctx, &mut known).await else { break };
            // One part of a long event, between two passes.
            let went_on = found.is_long && matches!(go_on(&ctx).await, Ok(true));
            if !found.is_pending {
                if went_on { continue } else { break }
            }
            match pass(&ctx, &mut pace, &mut patience).await {
                Ok(true) => {}
                Ok(false) if went_on => {}
                Ok(false) => break,
                Err(error) => {
                    if !error.is_slow() {
                        patience = Patience::default();
                        if error.code == ErrorCode::Internal {
                            tokio::time::sleep(AFTER_DEFECT).await;
                        }
                    }
                    // Without Postgres there is nothing to do; the breaker has logged it.
                    break;
                }
            }
        }
    }
}

/// What there is to do.
struct Found {
    /// Rows are pending, or the position is to be moved over a stretch without any.
    is_pending: bool,
    /// Some events go on apart.
    is_long: bool,
}

/// The event that this process tried last, alone, and how often in a row. Another process may have moved on to the next
/// event, which is not to blame.
#[derive(Default)]
struct Patience {
    at: Option<Position>,
    tries: u32,
}

/// Of the outbox's row before an event, and the last person that an earlier pass reached.
type Position = (String, i64, Option<Uuid>);

impl Patience {
    /// Counts a try of the event at a position. Returns whether it was tried often enough.
    fn ends(&mut self, at: Position) -> bool {
        if self.at.as_ref() != Some(&at) {
            *self = Patience { at: Some(at), tries: 0 };
        }
        self.tries += 1;
        self.tries > PASSES
    }
}

/// `known` is the position as it was last.
async fn look(ctx: &Ctx, known: &mut (String, i64)) -> Result<Found> {
    loop {
        let end = end_of_stretch(xid_of(&known.0));
        let Some(row) = ctx.db.query_opt(LOOK, &[&known.0, &known.1, &end.to_string()]).await? else {
            return Ok(Found { is_pending: false, is_long: false });
        };
        let at = (row.get(0), row.get(1));
        if *known == at {
            let is_pending = row.get(3) || row.get::<_, i64>(2) >= end;
            return Ok(Found { is_pending, is_long: row.get(4) });
        }
        *known = at;
    }
}

/// From Postgres's text.
fn xid_of(text: &str) -> i64 {
    text.parse().unwrap_or_default()
}

/// Handles the pending rows, as many at once as `pace` says. Returns whether there may be more.
async fn pass(ctx: &Ctx, pace: &mut i64, patience: &mut Patience) -> Result<bool> {
    loop {
        let outcome = attempt(ctx, *pace, patience).await;
        match &outcome {
            // Postgres refuses the consequences of one event: one at a time.
            Err(error) if *pace > 1 && error.is_refused() => *pace = 1,
            // They are too many, or others hold their locks.
            Err(error) if *pace > 1 && error.is_slow() => *pace = (*pace / 8).max(1),
            _ => {
                *pace = (*pace * 2).min(ROWS);
                return outcome;
            }
        }
    }
}

async fn attempt(ctx: &Ctx, limit: i64, patience: &mut Patience) -> Result<bool> {
    let tx = Tx::begin(&ctx.db).await?;
    let result = project(ctx, &tx, limit, patience).await;
    tx.end(result).await
}

/// Projects up to `limit` rows. A single event whose consequences Postgres refuses is set aside in the same transaction: under
/// the position's lock no other origin has moved to another event. So is one that is too slow time and again.
async fn project(ctx: &Ctx, tx: &Tx, limit: i64, patience: &mut Patience) -> Result<bool> {
    let Some(row) = tx.query_opt(CLAIM, &[]).await? else { return Ok(false) };
    let (xid, seq): (String, i64) = (row.get(0), row.get(1));
    let mut part: Option<Uuid> = row.get(2);
    let gives_up = limit == 1 && patience.ends((xid.clone(), seq, part));
    let end = end_of_stretch(xid_of(&xid));
    let is_settled = row.get::<_, i64>(3) >= end;
    let end = end.to_string();
    let rows = tx.query(PENDING, &[&xid, &seq, &limit, &end]).await?;
    let events: Vec<Event> = rows.iter().map(Event::from_row).collect();
    let (mut next, mut written) = (0, 0);
    let began = Instant::now();
    let has_room = |written| written < WRITTEN && began.elapsed() < BEGINS;
    while next < events.len() && part.is_none_or(|_| next == 0) && has_room(written) {
        let rest = &events[next..];
        let outcome = match limit {
            1 if gives_up => Ok(set_aside(tx, &rest[0], part, "it is too slow").await?),
            1 => tx.part(consequences(ctx, tx, rest, part)).await?,
            _ => consequences(ctx, tx, rest, part).await,
        };
        let done = match outcome {
            Err(error) if limit == 1 && error.is_refused() => {
                set_aside(tx, &rest[0], part, "postgres refuses it").await?
            }
            outcome => outcome?,
        };
        let done = match done.up_to {
            Some(up_to) if is_long(ctx, &rest[done.events].kind) => {
                apart(tx, &rest[done.events], up_to).await?;
                Done { events: done.events + 1, up_to: None, ..done }
            }
            _ => done,
        };
        rest[..done.events].iter().for_each(note_lag);
        next += done.events;
        written += done.written;
        part = done.up_to;
    }
    let to = match next.checked_sub(1) {
        Some(last) => events[last].at_row.clone(),
        // Nothing can come before the horizon any more.
        None if rows.is_empty() && is_settled => (end, 0),
        None => (xid, seq),
    };
    tx.execute(ADVANCE, &[&to.0, &to.1, &part]).await?;
    hooks::step("projections.done").await;
    Ok(next < events.len() || events.len() as i64 == limit)
}

fn is_long(ctx: &Ctx, kind: &str) -> bool {
    let mut rows = ctx.registry.domains.iter().flat_map(|domain| domain.follows);
    rows.any(|(of, follow)| *of == kind && matches!(follow, Follow::Long(_)))
}

fn note_lag(event: &Event) {
    let age = (Utc::now() - event.at).to_std().unwrap_or_default();
    metrics::histogram!("optimist_projections_lag_seconds").record(age.as_secs_f64());
}

/// Handles the first of some events, together with those of its kind that directly follow. `after` is the last person that an
/// earlier pass reached.
pub(super) async fn consequences(ctx: &Ctx, tx: &Tx, events: &[Event], after: Option<Uuid>) -> Result<Done> {
    let kind = events.first().map_or("", |event| event.kind.as_str());
    let run = &events[..events.iter().take_while(|event| event.kind == kind).count()];
    let rows = ctx.registry.domains.iter().flat_map(|domain| domain.follows);
    let followers = || rows.clone().filter(|(of, _)| *of == kind).map(|(_, follow)| follow);
    let mut done = Done { events: run.len(), written: 0, up_to: None };
    for follow in followers() {
        if let Follow::Paced(follow) | Follow::Long(follow) = follow {
            done = follow(tx, run, after).await?;
        }
    }
    // The events that this pass begins.
    let begun = usize::from(after.is_some())..done.events + usize::from(done.up_to.is_some());
    for follow in followers() {
        if let Follow::Whole(follow) = follow {
            follow(tx, &run[begun.clone()]).await?;
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_with_one_event_says_nothing_about_the_next() {
        let mut patience = Patience::default();
        let at = |seq, part| ("7".to_owned(), seq, part);
        for seq in [1, 2] {
            for _ in 0..PASSES {
                assert!(!patience.ends(at(seq, None)));
            }
        }
        assert!(!patience.ends(at(2, Some(Uuid::nil()))), "a part of it was done");
        for _ in 0..PASSES {
            assert!(!patience.ends(at(2, None)));
        }
        assert!(patience.ends(at(2, None)));
    }
}
