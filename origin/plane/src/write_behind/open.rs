//! Opening partitions for what Redis takes first.
//!
//! A partition takes writes while its ledger carries the epoch that is vouched. When the epoch changes, or Redis has lost
//! the ledger, somebody opens it anew: whatever entries survived are flushed, Postgres counts the generation up, and only
//! then the stream and the state of before are dropped.

use std::time::Duration;

use optimist_shared::ids::{Partition, parse_hex};
use optimist_shared::keys::Key;
use optimist_shared::vouching::Vouched;

use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::hooks;
use crate::postgres::transaction::Tx;
use crate::redis::{Call, Items, Position, RedisDown};
use crate::region::belief::Mode;
use crate::write_behind::entry::number;
use crate::write_behind::flush::flush_all_of;

const FIND: &str = "-- write_behind::find
select generation from write_behind where region = $1 and partition = $2";

const BEGIN: &str = "-- write_behind::begin
insert into write_behind (region, partition, generation) values ($1, $2, 0) on conflict do nothing";

/// The next generation; ids go on from the newest stamp there is. Holds off whoever else opens the partition.
const NEXT: &str = "-- write_behind::next
update write_behind
set generation = generation + 1,
    position_seq = case when floor_ms > position_ms then 0 else position_seq end,
    position_ms = greatest(position_ms, floor_ms)
where region = $1 and partition = $2 and generation = $3
returning generation, position_ms, position_seq";

/// A partition that was opened in Redis by somebody who then died, or whose Postgres was restored from a backup. What was
/// trimmed there is here, or lost; and its ids began where it was opened.
const ADOPT: &str = "-- write_behind::adopt
update write_behind
set generation = $3,
    position_seq = case when (position_ms, position_seq) < ($4, $5) then $5 else position_seq end,
    position_ms = greatest(position_ms, $4)
where region = $1 and partition = $2 and generation < $3";

pub const STATEMENTS: &[&str] = &[FIND, BEGIN, NEXT, ADOPT];

/// Whether a partition could be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    Yes,
    /// Nobody vouches at the moment, or somebody else is at it: to be tried again.
    NotYet,
    /// Redis cannot be asked.
    NoRedis,
}

/// What a partition's ledger says.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ledger {
    vouched: Option<u64>,
    epoch: Option<u64>,
    generation: Option<i64>,
    trimmed: Position,
}

async fn ledger(ctx: &Ctx, partition: Partition) -> std::result::Result<Ledger, RedisDown> {
    let mut vouch = ::redis::Cmd::new();
    vouch.arg("GET").arg(Key::Vouch.of_partition(partition));
    let mut fields = ::redis::Cmd::new();
    fields.arg("HMGET").arg(Key::Ledger.of_partition(partition)).arg(&["epoch", "generation", "trimmed"]);
    let mut values = ctx.redis.send([vouch, fields]).await?.into_iter();
    let mut next = || Items::new(values.next().unwrap_or(::redis::Value::Nil));
    let vouched = Vouched::parse(&next().bytes()).map(|vouched| vouched.epoch);
    let mut fields = next();
    let (epoch, generation) = (parse_hex(&fields.text()), fields.text().parse().ok());
    Ok(Ledger { vouched, epoch, generation, trimmed: Position::parse(&fields.text()).unwrap_or_default() })
}

/// Opens a partition for writes of the vouched epoch, once everything of before is in Postgres. Any number may try at once.
pub async fn open(ctx: &Ctx, partition: Partition) -> Result<Opened> {
    let Ok(ledger) = ledger(ctx, partition).await else { return Ok(Opened::NoRedis) };
    let Some(epoch) = ledger.vouched.filter(|epoch| ctx.region.vouched() == Some(*epoch)) else {
        return Ok(Opened::NotYet);
    };
    let known = adopt(ctx, partition, ledger).await?;
    if ledger.epoch == Some(epoch) {
        return Ok(Opened::Yes);
    }
    // From here on nothing is appended: the ledger's epoch is over, and no epoch comes again.
    if ledger.generation == Some(known) && !flush_all_of(ctx, partition).await? {
        return Ok(Opened::NotYet);
    }
    hooks::step("open.flushed").await;
    let tx = Tx::begin(&ctx.db).await?;
    let result = open_in(ctx, &tx, partition, ledger, known, epoch).await;
    match tx.end(result).await {
        Ok(()) => Ok(Opened::Yes),
        Err(NotOpened::Now(opened)) => Ok(opened),
        Err(NotOpened::Failed(error)) => Err(error),
    }
}

/// Why a transaction opened nothing.
enum NotOpened {
    Now(Opened),
    Failed(Error),
}

impl From<Error> for NotOpened {
    fn from(error: Error) -> NotOpened {
        NotOpened::Failed(error)
    }
}

impl From<RedisDown> for NotOpened {
    fn from(_: RedisDown) -> NotOpened {
        NotOpened::Now(Opened::NoRedis)
    }
}

/// Counts the generation up and opens the partition in Redis, under the lock of its row. Should the commit be lost, Redis is
/// one ahead, and [`adopt`] follows.
async fn open_in(
    ctx: &Ctx,
    tx: &Tx,
    partition: Partition,
    flushed: Ledger,
    known: i64,
    epoch: u64,
) -> std::result::Result<(), NotOpened> {
    let region = &ctx.config.region;
    let row = tx.query_opt(NEXT, &[region, &number(partition), &known]).await?;
    let row = row.ok_or(NotOpened::Now(Opened::NotYet))?;
    hooks::step("open.counted").await;
    // Somebody may have opened it before this lock was given.
    if ledger(ctx, partition).await? != flushed {
        return Err(NotOpened::Now(Opened::NotYet));
    }
    let generation = row.get::<_, i64>(0).to_string();
    let floor = Position(row.get(1), row.get(2)).to_string();
    let epoch = format!("{epoch:016x}");
    let (vouch, ledger, stream) = (
        Key::Vouch.of_partition(partition),
        Key::Ledger.of_partition(partition),
        Key::Writes.of_partition(partition),
    );
    let call = Call {
        script: &ctx.redis.scripts.open,
        keys: vec![&vouch, &ledger, &stream],
        arguments: vec![epoch.as_bytes(), generation.as_bytes(), floor.as_bytes()],
    };
    let values = ctx.redis.call(&[call]).await?;
    hooks::step("open.opened").await;
    match Items::new(values.into_iter().next().unwrap_or(::redis::Value::Nil)).text().as_str() {
        "open" => Ok(()),
        _ => Err(NotOpened::Now(Opened::NotYet)),
    }
}

/// The partition's generation in Postgres, which follows the ledger's if that is ahead.
async fn adopt(ctx: &Ctx, partition: Partition, ledger: Ledger) -> Result<i64> {
    let region = &ctx.config.region;
    let known = match ctx.db.query_opt(FIND, &[region, &number(partition)]).await? {
        Some(row) => row.get(0),
        None => {
            ctx.db.query(BEGIN, &[region, &number(partition)]).await?;
            0
        }
    };
    match ledger.generation.filter(|generation| *generation > known) {
        Some(ahead) => {
            tracing::warn!(%partition, known, ahead, "a partition was opened, and postgres did not hear of it");
            let Position(ms, seq) = ledger.trimmed;
            ctx.db.query(ADOPT, &[region, &number(partition), &ahead, &ms, &seq]).await?;
            Ok(ahead)
        }
        None => Ok(known),
    }
}

/// How often one tries to open a partition, and how long apart: longer than vouching can pause while all is well.
const OPEN_ATTEMPTS: u32 = 60;
const OPEN_AGAIN: Duration = Duration::from_millis(50);

/// Opens a partition, waiting for whoever else is at it. `false` without Redis.
pub async fn open_patiently(ctx: &Ctx, partition: Partition) -> Result<bool> {
    for _ in 0..OPEN_ATTEMPTS {
        match open(ctx, partition).await? {
            Opened::Yes => return Ok(true),
            Opened::NoRedis => return Ok(false),
            Opened::NotYet if ctx.region.mode() == Mode::Unfenced => return Ok(false),
            Opened::NotYet => tokio::time::sleep(OPEN_AGAIN).await,
        }
    }
    Err(Error::unavailable("The cache"))
}
