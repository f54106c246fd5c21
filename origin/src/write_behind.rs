//! What Redis takes first: each partition's stream of writes, opened under the vouched epoch and emptied into Postgres.
//!
//! A partition takes writes while its ledger carries the epoch that is vouched. When the epoch changes, or Redis has lost
//! the ledger, somebody opens it anew: whatever entries survived are flushed, Postgres counts the generation up, and only
//! then the stream and the state of before are dropped. What the entries mean is [`entries`]'s and their domains'.

mod entries;
mod flush;

use std::time::Duration;

use optimist_shared::ids::Partition;
use optimist_shared::keys::Key;

use crate::app::Ctx;
use crate::error::{Error, Result};
use crate::hooks;
use crate::redis::{Call, Items, RedisDown};

pub use entries::{ReactionEntry, STATEMENTS as ENTRY_STATEMENTS, Target, write_through};
pub use flush::{STATEMENTS as FLUSH_STATEMENTS, flush_all_of, run};

const FIND: &str = "-- write_behind::find
select generation from write_behind where region = $1 and partition = $2";

/// The next generation, unless somebody else was faster; ids go on from the newest stamp there is.
const NEXT: &str = "-- write_behind::next
insert into write_behind as w (region, partition, generation) values ($1, $2, $3::bigint + 1)
on conflict (region, partition) do update
    set generation = w.generation + 1,
        position_seq = case when w.floor_ms > w.position_ms then 0 else w.position_seq end,
        position_ms = greatest(w.position_ms, w.floor_ms)
    where w.generation = $3
returning generation, position_ms, position_seq";

/// A database that is older than its Redis: it was restored from a backup.
const CATCH_UP: &str = "-- write_behind::catch_up
insert into write_behind as w (region, partition, generation) values ($1, $2, $3)
on conflict (region, partition) do update set generation = $3, position_ms = 0, position_seq = 1
where w.generation < $3";

pub const STATEMENTS: &[&str] = &[FIND, NEXT, CATCH_UP];

/// An entry's place in its stream: milliseconds, and a number among those of the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub i64, pub i64);

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl Position {
    fn parse(text: &str) -> Option<Position> {
        let (ms, seq) = text.split_once('-')?;
        Some(Position(ms.parse().ok()?, seq.parse().ok()?))
    }
}

/// A partition as Postgres knows it.
pub fn number(partition: Partition) -> i16 {
    partition.index() as i16
}

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
struct Ledger {
    vouched: Option<u64>,
    epoch: Option<u64>,
    generation: Option<i64>,
}

async fn ledger(app: &Ctx, partition: Partition) -> std::result::Result<Ledger, RedisDown> {
    let mut vouch = ::redis::Cmd::new();
    vouch.arg("GET").arg(Key::Vouch.of_partition(partition));
    let mut fields = ::redis::Cmd::new();
    fields.arg("HMGET").arg(Key::Ledger.of_partition(partition)).arg("epoch").arg("generation");
    let mut values = app.cache.redis.send(&[vouch, fields]).await?.into_iter();
    let mut next = || Items::new(values.next().unwrap_or(::redis::Value::Nil));
    let hex = |text: String| u64::from_str_radix(text.get(..16)?, 16).ok();
    let vouched = hex(next().text());
    let mut fields = next();
    Ok(Ledger { vouched, epoch: hex(fields.text()), generation: fields.text().parse().ok() })
}

/// Opens a partition for writes of the vouched epoch, once everything of before is in Postgres. Any number may try at once.
pub async fn open(app: &Ctx, partition: Partition) -> Result<Opened> {
    let Ok(ledger) = ledger(app, partition).await else { return Ok(Opened::NoRedis) };
    let Some(epoch) = ledger.vouched.filter(|epoch| app.region.vouched(partition) == Some(*epoch)) else {
        return Ok(Opened::NotYet);
    };
    if ledger.epoch == Some(epoch) {
        return Ok(Opened::Yes);
    }
    // From here on nothing is appended: the ledger's epoch is over, and no epoch comes again.
    let region = &app.config.region;
    let known = app.db.query_opt(FIND, &[region, &number(partition)]).await?;
    let known: i64 = known.map_or(0, |row| row.get(0));
    if let Some(generation) = ledger.generation.filter(|generation| *generation >= known) {
        if generation > known {
            tracing::error!(%partition, "postgres is older than redis: entries are applied once more");
            app.db.query(CATCH_UP, &[region, &number(partition), &generation]).await?;
            return Ok(Opened::NotYet);
        }
        if !flush_all_of(app, partition).await? {
            return Ok(Opened::NotYet);
        }
    }
    hooks::step("open.flushed").await;
    let Some(row) = app.db.query_opt(NEXT, &[region, &number(partition), &known]).await? else {
        return Ok(Opened::NotYet);
    };
    hooks::step("open.counted").await;
    let generation = row.get::<_, i64>(0).to_string();
    let floor = Position(row.get(1), row.get(2)).to_string();
    let epoch = format!("{epoch:016x}");
    let (vouch, ledger, stream) = (
        Key::Vouch.of_partition(partition),
        Key::Ledger.of_partition(partition),
        Key::Writes.of_partition(partition),
    );
    let call = Call {
        script: &app.cache.redis.scripts.open,
        keys: vec![&vouch, &ledger, &stream],
        arguments: vec![epoch.as_bytes(), generation.as_bytes(), floor.as_bytes()],
    };
    let Ok(values) = app.cache.redis.call(&[call]).await else { return Ok(Opened::NoRedis) };
    let answer = Items::new(values.into_iter().next().unwrap_or(::redis::Value::Nil)).text();
    Ok(if answer == "open" { Opened::Yes } else { Opened::NotYet })
}

/// How often one tries to open a partition, and how long apart: longer than vouching can pause while all is well.
const OPEN_ATTEMPTS: u32 = 60;
const OPEN_AGAIN: Duration = Duration::from_millis(50);

/// Opens a partition, waiting for whoever else is at it. `false` without Redis.
pub async fn open_patiently(app: &Ctx, partition: Partition) -> Result<bool> {
    for _ in 0..OPEN_ATTEMPTS {
        match open(app, partition).await? {
            Opened::Yes => return Ok(true),
            Opened::NoRedis => return Ok(false),
            Opened::NotYet if app.region.mode() == crate::region::Mode::Unfenced => return Ok(false),
            Opened::NotYet => tokio::time::sleep(OPEN_AGAIN).await,
        }
    }
    Err(Error::unavailable("The cache"))
}
