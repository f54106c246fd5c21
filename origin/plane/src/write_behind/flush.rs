//! Flushing: applies batches of entries from the partitions' streams in Postgres, each entry exactly once.
//!
//! The partition's position moves in the transaction that applies the entries, under a lock on its row, and only if the
//! generation is the entries' own; the stream is trimmed after the commit. So any number of origins may flush, and die.

use std::time::{Duration, Instant};

use ::redis::{Cmd, Value};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Partition;
use optimist_shared::keys::Key;
use optimist_shared::scripts::{Call, Scalars as _, ledger};

use crate::clock::now_ms;
use crate::ctx::Ctx;
use crate::domain::Entries;
use crate::error::Result;
use crate::hooks;
use crate::postgres::transaction::Tx;
use crate::redis::{Items, Position, RedisDown};
use crate::statements;
use crate::write_behind::entry::{Placed, number};
use crate::write_behind::open::open;

/// How often an origin looks for entries: their age while all is well, and the size of batches, follow from it.
const EVERY: Duration = Duration::from_millis(500);
/// The most entries in one transaction, and in one trip to Redis: well within their timeouts.
const BATCH: usize = 2_500;
/// The most entries of one partition in a batch.
const OF_PARTITION: usize = 1_000;

statements! {
    const LOCK: &str = "-- flush::lock
select partition, generation, position_ms, position_seq from write_behind
where region = $1 and partition = any($2) order by partition for update skip locked";

    const KNOWN: &str = "-- flush::known
select partition from write_behind where region = $1 and partition = any($2)";

    const ADVANCE: &str = "-- flush::advance
update write_behind as w set position_ms = moved.ms, position_seq = moved.seq
from unnest($2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[]) as moved (partition, generation, ms, seq)
where w.region = $1 and w.partition = moved.partition and w.generation = moved.generation
  and (w.position_ms, w.position_seq) < (moved.ms, moved.seq)";

    const SET_ASIDE: &str = "-- flush::set_aside
insert into writes_set_aside (region, partition, generation, position_ms, position_seq, entry, reason)
values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing";
}

/// Runs until the process ends.
pub async fn run(ctx: Ctx) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        // Without a store there is nothing to do; the breakers have logged it.
        while let Ok(Round { is_full: true, .. }) = flush_round(&ctx).await {}
    }
}

/// Flushes the waiting entries of all partitions, or as many as some seconds allow. Returns how many.
pub async fn flush_waiting(ctx: &Ctx) -> Result<u64> {
    /// Other jobs wait for this one.
    const AT_MOST: Duration = Duration::from_secs(20);
    let began = Instant::now();
    let mut flushed = 0;
    loop {
        let round = flush_round(ctx).await?;
        flushed += round.flushed;
        if !round.is_full || began.elapsed() > AT_MOST {
            return Ok(flushed);
        }
    }
}

/// The outcome of flushing the entries that waited at one moment.
#[derive(Default)]
struct Round {
    flushed: u64,
    /// There may be more to flush at once.
    is_full: bool,
}

/// Flushes the entries that wait now. Without Redis it finds none.
async fn flush_round(ctx: &Ctx) -> Result<Round> {
    let mut round = Round::default();
    for partitions in trips(&waiting(ctx).await.unwrap_or_default()) {
        let Ok(batches) = read(ctx, &partitions, OF_PARTITION).await else { break };
        let outcome = flush(ctx, &batches).await?;
        // Their entries are of a generation that is over, or that Postgres does not know yet.
        for partition in outcome.foreign {
            open(ctx, partition).await?;
        }
        round.flushed += outcome.applied as u64;
        round.is_full |= outcome.is_full;
    }
    Ok(round)
}

/// Divides partitions among trips that read a batch each. After an outage all streams are long, and reading them at once
/// would exceed Redis's deadline.
fn trips(waiting: &[(Partition, usize)]) -> Vec<Vec<Partition>> {
    let mut trips: Vec<Vec<Partition>> = Vec::new();
    let mut room = 0;
    for (partition, length) in waiting {
        let entries = (*length).min(OF_PARTITION);
        match trips.last_mut().filter(|_| entries <= room) {
            Some(trip) => trip.push(*partition),
            None => {
                trips.push(vec![*partition]);
                room = BATCH;
            }
        }
        room = room.saturating_sub(entries);
    }
    trips
}

/// Flushes a partition until nothing waits. `false` if another origin is flushing it, or Redis is unavailable.
pub async fn flush_all_of(ctx: &Ctx, partition: Partition) -> Result<bool> {
    loop {
        let Ok(batches) = read(ctx, &[partition], OF_PARTITION).await else { return Ok(false) };
        if batches.iter().all(|batch| batch.entries.is_empty()) {
            return Ok(true);
        }
        let outcome = flush(ctx, &batches).await?;
        if outcome.applied == 0 {
            return Ok(false);
        }
    }
}

/// The partitions that hold entries, and how many each holds.
async fn waiting(ctx: &Ctx) -> std::result::Result<Vec<(Partition, usize)>, RedisDown> {
    let commands: Vec<Cmd> = Partition::all()
        .map(|partition| {
            let mut command = Cmd::new();
            command.arg("XLEN").arg(Key::Writes.of_partition(partition));
            command
        })
        .collect();
    let lengths = ctx.redis.send(commands).await?;
    let lengths: Vec<i64> = lengths.into_iter().map(|value| Items::new(value).int()).collect();
    metrics::gauge!("optimist_writes_waiting").set(lengths.iter().sum::<i64>() as f64);
    let lengths = lengths.into_iter().map(|length| usize::try_from(length).unwrap_or(0));
    Ok(Partition::all().zip(lengths).filter(|(_, length)| *length > 0).collect())
}

/// A partition's oldest entries.
struct Batch {
    partition: Partition,
    generation: i64,
    entries: Vec<Raw>,
}

/// An entry as the stream holds it.
struct Raw {
    at: Position,
    field: String,
    value: String,
}

async fn read(
    ctx: &Ctx,
    partitions: &[Partition],
    most: usize,
) -> std::result::Result<Vec<Batch>, RedisDown> {
    let commands: Vec<Cmd> = partitions
        .iter()
        .flat_map(|partition| {
            let (mut generation, mut entries) = (Cmd::new(), Cmd::new());
            generation.arg("HGET").arg(Key::Ledger.of_partition(*partition)).arg("generation");
            entries.arg("XRANGE").arg(Key::Writes.of_partition(*partition));
            entries.arg("-").arg("+").arg("COUNT").arg(most);
            [generation, entries]
        })
        .collect();
    let mut values = ctx.redis.send(commands).await?.into_iter();
    let mut batches = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let generation = Items::new(values.next().unwrap_or(Value::Nil)).text().parse().unwrap_or(0);
        let Some(Value::Array(entries)) = values.next() else { continue };
        let entries = entries.into_iter().filter_map(raw).collect();
        batches.push(Batch { partition: *partition, generation, entries });
    }
    Ok(batches)
}

/// Parses an entry: an id, and a list of a field and its value.
fn raw(entry: Value) -> Option<Raw> {
    let Value::Array(parts) = entry else { return None };
    let mut parts = parts.into_iter();
    let at = Position::parse(&Items::new(parts.next()?).text())?;
    let mut fields = Items::new(parts.next().unwrap_or(Value::Nil));
    Some(Raw { at, field: fields.text(), value: fields.text() })
}

#[derive(Default)]
struct Flushed {
    applied: usize,
    /// The positions of entries that were set aside, and why.
    set_aside: Vec<(Partition, Position, &'static str)>,
    /// There may be more to flush at once.
    is_full: bool,
    /// Partitions whose entries are of another generation than Postgres's.
    foreign: Vec<Partition>,
}

/// Applies batches. When that fails, goes partition by partition, and halves each until it succeeds: what is refused, too slow
/// or locked in one partition stops no other. A refused entry is set aside. Entries that fail otherwise stay in the stream:
/// nothing acknowledged is set aside for a defect, or for another's lock.
async fn flush(ctx: &Ctx, batches: &[Batch]) -> Result<Flushed> {
    match attempt(ctx, batches, BATCH).await {
        // Refused values (their code is this one too), or a defect of ours.
        Err(error) if error.code == ErrorCode::Internal || error.is_slow() => {}
        outcome => return outcome,
    }
    let mut outcome = Flushed::default();
    for batch in batches {
        let one = std::slice::from_ref(batch);
        let mut limit = batch.entries.len();
        loop {
            match attempt(ctx, one, limit).await {
                Err(error) if (error.is_refused() || error.is_slow()) && limit > 1 => limit /= 2,
                // A defect of ours, a lock, or Postgres refuses something other than the entry (an entry that it refuses is
                // set aside in the attempt): this partition's entries wait until that is over, and no other's.
                Err(error) if error.code == ErrorCode::Internal || error.is_slow() => break,
                Err(error) => return Err(error),
                Ok(done) => {
                    outcome.foreign.extend(done.foreign);
                    if done.applied == 0 {
                        break;
                    }
                    outcome.applied += done.applied;
                    limit *= 2;
                }
            }
        }
    }
    // A round that applied nothing would only repeat at once.
    outcome.is_full = outcome.applied > 0;
    Ok(outcome)
}

/// A partition's part of one transaction.
struct Part<'a> {
    batch: &'a Batch,
    entries: Vec<&'a Raw>,
    to: Position,
}

/// Runs one transaction over the first `limit` entries that are not applied yet. It sets a single refused entry aside itself:
/// under its locks no other origin has moved to another entry.
async fn attempt(ctx: &Ctx, batches: &[Batch], limit: usize) -> Result<Flushed> {
    hooks::step("flush.read").await;
    let tx = Tx::begin(&ctx.db).await?;
    let result = apply_in(ctx, &tx, batches, limit).await;
    hooks::step("flush.applied").await;
    let (outcome, parts) = tx.end(result).await?;
    hooks::step("flush.committed").await;
    for (partition, at, reason) in &outcome.set_aside {
        tracing::error!(%partition, %at, reason, "a write was set aside");
        metrics::counter!("optimist_writes_set_aside_total").increment(1);
    }
    // Entries that stay are found applied the next time.
    let _ = trim(ctx, &parts).await;
    if outcome.applied > 0 {
        metrics::counter!("optimist_writes_flushed_total").increment(outcome.applied as u64);
        metrics::histogram!("optimist_flush_entries").record(outcome.applied as f64);
        let now_ms = now_ms().cast_signed();
        for part in &parts {
            let Some(oldest) = part.entries.first() else { continue };
            let age = Duration::from_millis((now_ms - oldest.at.0).max(0).cast_unsigned());
            // Recorded as if all entries were as old as the oldest.
            metrics::histogram!("optimist_flush_lag_seconds")
                .record_many(age.as_secs_f64(), part.entries.len());
        }
    }
    Ok(outcome)
}

async fn apply_in<'a>(
    ctx: &Ctx,
    tx: &Tx,
    batches: &'a [Batch],
    limit: usize,
) -> Result<(Flushed, Vec<Part<'a>>)> {
    let region = &ctx.config.region;
    let wanted: Vec<i16> = batches.iter().map(|batch| number(batch.partition)).collect();
    let mut outcome = Flushed::default();
    let (mut parts, mut placed) = (Vec::new(), Vec::new());
    for row in tx.query(LOCK, &[region, &wanted]).await? {
        let (partition, generation): (i16, i64) = (row.get(0), row.get(1));
        let position = Position(row.get(2), row.get(3));
        let Some(batch) = batches.iter().find(|batch| number(batch.partition) == partition) else { continue };
        if batch.generation != generation {
            outcome.foreign.push(batch.partition);
            continue;
        }
        let room = limit - outcome.applied.min(limit);
        let entries: Vec<&Raw> = batch.entries.iter().filter(|raw| raw.at > position).take(room).collect();
        // Entries that were applied before are trimmed as well.
        let to = entries.last().map_or(position, |raw| raw.at);
        outcome.is_full |= batch.entries.last().is_some_and(|raw| raw.at > to);
        outcome.is_full |= batch.entries.len() >= OF_PARTITION;
        outcome.applied += entries.len();
        for raw in &entries {
            match understood(ctx, raw) {
                Some(field) => {
                    placed.push((field, Placed { at: raw.at, generation, value: raw.value.as_str() }));
                }
                None => set_aside(ctx, tx, &mut outcome, batch, raw, "it is not understood").await?,
            }
        }
        parts.push(Part { batch, entries, to });
    }
    // Another origin flushes the partitions that are left out, unless Postgres has never heard of them.
    if parts.is_empty() && outcome.foreign.is_empty() {
        let rows = tx.query(KNOWN, &[region, &wanted]).await?;
        let known: Vec<i16> = rows.iter().map(|row| row.get(0)).collect();
        let partitions = batches.iter().map(|batch| batch.partition);
        outcome.foreign = partitions.filter(|partition| !known.contains(&number(*partition))).collect();
    }
    match &placed[..] {
        [] => {}
        [(_, one)] if limit == 1 => match tx.part(apply(ctx, tx, &placed)).await? {
            Ok(()) => {}
            Err(error) if !error.is_refused() => return Err(error),
            Err(_) => {
                let refused = parts.iter().filter_map(|part| Some((part.batch, *part.entries.first()?)));
                for (batch, raw) in refused.filter(|(_, raw)| raw.at == one.at) {
                    set_aside(ctx, tx, &mut outcome, batch, raw, "postgres refuses it").await?;
                }
            }
        },
        _ => apply(ctx, tx, &placed).await?,
    }
    let moved: Vec<&Part<'_>> = parts.iter().filter(|part| !part.entries.is_empty()).collect();
    if !moved.is_empty() && !hooks::disabled("position") {
        let partitions: Vec<i16> = moved.iter().map(|part| number(part.batch.partition)).collect();
        let generations: Vec<i64> = moved.iter().map(|part| part.batch.generation).collect();
        let (ms, seq): (Vec<i64>, Vec<i64>) = moved.iter().map(|part| (part.to.0, part.to.1)).unzip();
        tx.execute(ADVANCE, &[region, &partitions, &generations, &ms, &seq]).await?;
    }
    Ok((outcome, parts))
}

/// The place among [`fields`] of the entry's field; `None` if no script writes such an entry.
fn understood(ctx: &Ctx, raw: &Raw) -> Option<usize> {
    fields(ctx).position(|entries| entries.field == raw.field && (entries.is_understood)(&raw.value))
}

fn fields(ctx: &Ctx) -> impl Iterator<Item = &'static Entries> {
    ctx.registry.domains.iter().flat_map(|domain| domain.entries)
}

/// Applies entries, those of a field together, the highest domain's first: its entries change rows of several lower domains in
/// the order in which the projections do. An entry that changes the last of these rows alone must not come before it, or this
/// transaction and the projections' could deadlock.
async fn apply(ctx: &Ctx, tx: &Tx, placed: &[(usize, Placed<'_>)]) -> Result<()> {
    let fields: Vec<&Entries> = fields(ctx).collect();
    for (index, entries) in fields.iter().enumerate().rev() {
        let of_field = placed.iter().filter(|(field, _)| *field == index);
        let of_field: Vec<Placed<'_>> = of_field.map(|(_, placed)| *placed).collect();
        if !of_field.is_empty() {
            (entries.apply)(tx, &of_field).await?;
        }
    }
    Ok(())
}

/// Keeps an entry that cannot be applied for an operator, and goes on without it.
async fn set_aside(
    ctx: &Ctx,
    tx: &Tx,
    outcome: &mut Flushed,
    batch: &Batch,
    raw: &Raw,
    reason: &'static str,
) -> Result<()> {
    outcome.set_aside.push((batch.partition, raw.at, reason));
    // Postgres stores no zero bytes.
    let entry = format!("{} {}", raw.field, raw.value).replace('\0', "\u{fffd}");
    tx.execute(
        SET_ASIDE,
        &[
            &ctx.config.region,
            &number(batch.partition),
            &batch.generation,
            &raw.at.0,
            &raw.at.1,
            &entry,
            &reason,
        ],
    )
    .await
    .map(drop)
}

async fn trim(ctx: &Ctx, parts: &[Part<'_>]) -> std::result::Result<(), RedisDown> {
    let ends = parts.iter().map(|part| (part.to.to_string(), Position(part.to.0, part.to.1 + 1).to_string()));
    let ends: Vec<(String, String)> = ends.collect();
    let trimmed = parts.iter().zip(&ends);
    let calls: Vec<Call<'_>> = trimmed
        .map(|(part, (to, next))| ledger::trim(part.batch.partition, part.batch.generation, to, next))
        .collect();
    ctx.redis.call(&calls).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_trip_reads_more_than_a_batch() {
        let waiting = |length| Partition::all().map(|partition| (partition, length)).collect::<Vec<_>>();
        // After an outage all streams are long. Then one entry each.
        for (length, most) in [(1_000_000, BATCH / OF_PARTITION), (1, 256)] {
            let trips = trips(&waiting(length));
            assert!(trips.iter().all(|trip| (1..=most).contains(&trip.len())), "{trips:?}");
            assert_eq!(trips.concat(), Partition::all().collect::<Vec<_>>(), "each once");
        }
        assert!(trips(&[]).is_empty());
    }
}
