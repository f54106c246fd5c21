//! Opening partitions for write-behind entries.
//!
//! A partition takes writes while its ledger carries the vouched epoch. When the epoch changes, or Redis has lost the
//! ledger, an origin opens it anew: it flushes the entries that survived, Postgres counts the generation up, and only then
//! the old stream and state are dropped.

use std::time::Duration;

use optimist_shared::ids::{Partition, parse_hex};
use optimist_shared::keys::Key;
use optimist_shared::scripts::{Scalars as _, ledger};
use optimist_shared::vouching::Vouched;

use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::hooks;
use crate::postgres::transaction::Tx;
use crate::redis::{Items, Position, RedisDown};
use crate::region::trust::Mode;
use crate::statements;
use crate::write_behind::entry::number;
use crate::write_behind::flush::flush_all_of;

statements! {
    const FIND: &str = "-- write_behind::find
select generation from write_behind where region = $1 and partition = $2";

    const BEGIN: &str = "-- write_behind::begin
insert into write_behind (region, partition, generation) values ($1, $2, 0) on conflict do nothing";

    /// Counts the generation up; ids continue from the newest stamp. The row's lock holds off other origins that open it.
    const NEXT: &str = "-- write_behind::next
update write_behind
set generation = generation + 1,
    position_seq = case when floor_ms > position_ms then 0 else position_seq end,
    position_ms = greatest(position_ms, floor_ms)
where region = $1 and partition = $2 and generation = $3
returning generation, position_ms, position_seq";

    /// Follows a partition that an origin opened in Redis before it died, or whose Postgres was restored from a backup.
    /// Entries trimmed there are here, or lost; its ids began where it was opened.
    const ADOPT: &str = "-- write_behind::adopt
update write_behind
set generation = $3,
    position_seq = case when (position_ms, position_seq) < ($4, $5) then $5 else position_seq end,
    position_ms = greatest(position_ms, $4)
where region = $1 and partition = $2 and generation < $3";
}

/// Whether a partition could be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    Yes,
    /// Nobody vouches at the moment, or another origin is opening it: to be tried again.
    NotYet,
    /// Redis cannot be asked.
    NoRedis,
}

/// A partition's ledger, and the epoch that is vouched for it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ledger {
    vouched: Option<u64>,
    epoch: Option<u64>,
    generation: Option<i64>,
    trimmed: Position,
}

async fn read_ledger(ctx: &Ctx, partition: Partition) -> std::result::Result<Ledger, RedisDown> {
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

/// Opens a partition for writes of the vouched epoch, once all earlier entries are in Postgres. Any number of origins may try
/// at once.
pub async fn open(ctx: &Ctx, partition: Partition) -> Result<Opened> {
    let Ok(ledger) = read_ledger(ctx, partition).await else { return Ok(Opened::NoRedis) };
    let Some(epoch) = ledger.vouched.filter(|epoch| ctx.region.vouched() == Some(*epoch)) else {
        return Ok(Opened::NotYet);
    };
    let known = adopt(ctx, partition, ledger).await?;
    if ledger.epoch == Some(epoch) {
        return Ok(Opened::Yes);
    }
    // From here on nothing is appended: the ledger's epoch is over, and no epoch returns.
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

/// Counts the generation up and opens the partition in Redis, under the lock of its row. If the commit is lost, Redis is one
/// generation ahead, and [`adopt`] follows.
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
    // Another origin may have opened it before this lock was granted.
    if read_ledger(ctx, partition).await? != flushed {
        return Err(NotOpened::Now(Opened::NotYet));
    }
    let floor = Position(row.get(1), row.get(2)).to_string();
    let mut reply = ctx.redis.call_one(&ledger::open(partition, epoch, row.get(0), &floor)).await?;
    hooks::step("open.opened").await;
    if ledger::is_open(&mut reply) { Ok(()) } else { Err(NotOpened::Now(Opened::NotYet)) }
}

/// Returns the partition's generation in Postgres, after raising it to the ledger's if that is ahead.
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

/// Attempts to open a partition, and the pause between two: together longer than vouching can pause while all is well.
const OPEN_ATTEMPTS: u32 = 60;
const OPEN_AGAIN: Duration = Duration::from_millis(50);

/// Opens a partition, waiting for another origin that is opening it. `false` without Redis.
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
