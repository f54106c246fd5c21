//! Events whose consequences fail alone: set aside, so that no other event waits for them, and tried again until they succeed.
//!
//! Events that follow one that is set aside are handled before it.

use optimist_shared::ids::Uuid;

use crate::ctx::Ctx;
use crate::error::Result;
use crate::outbox::event::{Done, Event};
use crate::outbox::projections::consequences;
use crate::postgres::transaction::Tx;
use crate::statements;

/// Events tried in one run of the job.
const AT_ONCE: usize = 100;

statements! {
    const INSERT: &str = "-- set_aside::insert, planned anew
insert into events_set_aside (xid, seq, kind, actor, payload, created_at, part, reason)
select xid, seq, kind, actor, payload, created_at, $3, $4 from outbox where xid = $1::text::xid8 and seq = $2
on conflict do nothing";

    /// One that was not tried for `$1` seconds.
    const CLAIM: &str = "-- set_aside::claim
select xid::text, seq, kind, actor, payload, created_at, part from events_set_aside
where tried_at < clock_timestamp() - $1::bigint * interval '1 second'
order by tried_at limit 1 for update skip locked";

    /// The long event whose turn it is. One that failed waits for some seconds.
    const NEXT_LONG: &str = "-- set_aside::next_long
select xid::text, seq, kind, actor, payload, created_at, part from events_set_aside
where reason = 'long' and (attempts = 1 or tried_at < clock_timestamp() - interval '5 seconds')
order by tried_at limit 1 for update skip locked";

    const WENT_ON: &str = "-- set_aside::went_on
update events_set_aside set part = $3, tried_at = clock_timestamp() where xid = $1::text::xid8 and seq = $2";

    const DONE: &str = "-- set_aside::done
delete from events_set_aside where xid = $1::text::xid8 and seq = $2";

    const TRIED: &str = "-- set_aside::tried
update events_set_aside set part = $3, attempts = attempts + $4, tried_at = case when $4 = 0 then tried_at else clock_timestamp() end
where xid = $1::text::xid8 and seq = $2";

    const WAITING: &str = "-- set_aside::waiting
select count(*) from (select from events_set_aside where reason <> 'long' limit 10000) as waiting";
}

/// Keeps an event, and whom its consequences have reached, for later.
pub(super) async fn set_aside(tx: &Tx, event: &Event, part: Option<Uuid>, reason: &str) -> Result<Done> {
    let ((xid, seq), kind) = (&event.at_row, &event.kind);
    tracing::error!(xid, seq, kind, reason, "nothing follows from an event for now: it is set aside");
    metrics::counter!("optimist_events_set_aside_total").increment(1);
    tx.execute(INSERT, &[xid, seq, &part, &reason]).await?;
    Ok(Done { events: 1, written: 0, up_to: None })
}

/// Lets an event go on apart from the others, after this person.
pub(super) async fn apart(tx: &Tx, event: &Event, part: Uuid) -> Result<()> {
    let (xid, seq) = &event.at_row;
    tx.execute(INSERT, &[xid, seq, &Some(part), &"long"]).await.map(drop)
}

/// Handles the next part of one long event, in turns. Returns whether there was one.
pub(super) async fn go_on(ctx: &Ctx) -> Result<bool> {
    let tx = Tx::begin(&ctx.db).await?;
    let outcome = go_on_in(ctx, &tx).await;
    tx.end(outcome).await
}

async fn go_on_in(ctx: &Ctx, tx: &Tx) -> Result<bool> {
    let Some(row) = tx.query_opt(NEXT_LONG, &[]).await? else { return Ok(false) };
    let event = Event::from_row(&row);
    let part: Option<Uuid> = row.get(6);
    let (xid, seq) = &event.at_row;
    let outcome = tx.part(consequences(ctx, tx, std::slice::from_ref(&event), part)).await?;
    match outcome {
        Ok(done) if done.events > 0 => tx.execute(DONE, &[xid, seq]).await?,
        Ok(done) => tx.execute(WENT_ON, &[xid, seq, &done.up_to]).await?,
        Err(_) => tx.execute(TRIED, &[xid, seq, &part, &1]).await?,
    };
    Ok(true)
}

/// Tries the events that were set aside again, each at most once in `seconds`. Returns how many succeeded.
pub async fn try_again(ctx: &Ctx, seconds: i64) -> Result<u64> {
    let mut done = 0;
    for _ in 0..AT_ONCE {
        let tx = Tx::begin(&ctx.db).await?;
        let outcome = try_one(ctx, &tx, seconds).await;
        match tx.end(outcome).await? {
            Some(true) => done += 1,
            Some(false) => {}
            None => break,
        }
    }
    let waiting = ctx.db.query_opt(WAITING, &[]).await?.map_or(0, |row| row.get::<_, i64>(0));
    metrics::gauge!("optimist_events_set_aside").set(waiting as f64);
    Ok(done)
}

/// Tries one event, or the next part of it: whether it is done. `None` if there is none to try.
async fn try_one(ctx: &Ctx, tx: &Tx, seconds: i64) -> Result<Option<bool>> {
    let Some(row) = tx.query_opt(CLAIM, &[&seconds]).await? else { return Ok(None) };
    let event = Event::from_row(&row);
    let part: Option<Uuid> = row.get(6);
    let (xid, seq) = &event.at_row;
    let outcome = tx.part(consequences(ctx, tx, std::slice::from_ref(&event), part)).await?;
    match outcome {
        Ok(done) if done.events > 0 => {
            tx.execute(DONE, &[xid, seq]).await?;
            Ok(Some(true))
        }
        // The next part is tried at once.
        Ok(done) => tx.execute(TRIED, &[xid, seq, &done.up_to, &0]).await.map(|_| Some(false)),
        Err(_) => tx.execute(TRIED, &[xid, seq, &part, &1]).await.map(|_| Some(false)),
    }
}
