//! The relay. It applies each outbox row's invalidations at once, and appends its event once no older transaction can commit.
//!
//! Events go to the streams of their topics' partitions, in the order `(xid, seq)`, each once: a stream and its cursor move
//! in one script, which refuses a relay that does not know the cursor. So any number of relays may run, and any may die.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use ::redis::Cmd;
use optimist_shared::ids::Partition;
use optimist_shared::keys::Key;
use optimist_shared::scripts::{Scalars as _, settle};
use tokio::task::JoinHandle;

use crate::cache::fence::drop_stale;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::hooks;
use crate::outbox::batch::{Behind, Event, append};
use crate::outbox::end_of_stretch;
use crate::postgres::pool::query;
use crate::redis::{Items, Position};
use crate::statements;

/// How often the relay looks at the outbox when nobody wakes it.
const POLL: Duration = Duration::from_millis(50);
/// How soon it looks again while rows wait for older transactions, which may end without waking it: at first, and twice as late each
/// time.
const SOON: Duration = Duration::from_millis(1);
/// How often the cursors of partitions without events move along: far more often than the keys expire.
const IDLE: Duration = Duration::from_secs(30);
/// How often Postgres learns how far the region is, at most: each time costs it a commit, and a region that begins there again only
/// begins a little earlier.
const ADVANCED: Duration = Duration::from_millis(100);
/// How long it keeps them: a client that is away longer loads anew.
const KEPT_FOR: Duration = Duration::from_secs(600);
/// How often the relay notes its position, to know later where it was.
const NOTED: Duration = Duration::from_secs(10);

statements! {
    /// Rows before the transaction `$5` that were not read yet, and the horizon of the same snapshot: all rows before it are settled.
    const PENDING: &str = "-- outbox::pending, planned anew
with settled as materialized (
    select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as before,
        case when pg_is_in_recovery() then (select timeline_id from pg_control_checkpoint())
            else ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::integer
        end::bigint as timeline)
select before, timeline, xid::text::bigint as xid, seq, keys, kind, version, payload::text as payload, topics, actor,
    (extract(epoch from created_at) * 1000)::bigint as at,
    extract(epoch from clock_timestamp() - created_at)::float8 as age
from settled left join lateral (
    select * from outbox
    where (outbox.xid, outbox.seq) > ($1::text::xid8, $2) and outbox.seq <> all ($3)
      and outbox.xid >= $1::text::xid8 and outbox.xid < $5::text::xid8
    order by outbox.xid, outbox.seq limit $4) pending on true
order by pending.xid, pending.seq";

    /// How far a replica has come, in bytes of the write-ahead log.
    const REPLAYED: &str = "-- outbox::replayed
select (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end - '0/0')::bigint";

    const CURSOR: &str = "-- outbox::cursor
select cursor_xid::text::bigint, cursor_seq, outbox_floor.xid::text::bigint, outbox_floor.seq
from regions, outbox_floor where name = $1";

    const ADVANCE: &str = "-- outbox::advance
update regions set cursor_xid = $2::text::xid8, cursor_seq = $3
where name = $1 and (cursor_xid, cursor_seq) < ($2::text::xid8, $3)";

    /// The age of the oldest row after a position, for when the relay makes no progress.
    const BEHIND: &str = "-- outbox::behind, planned anew
select extract(epoch from clock_timestamp() - created_at)::float8 from outbox
where (xid, seq) > ($1::text::xid8, $2) and xid >= $1::text::xid8 and xid < $3::text::xid8
order by xid, seq limit 1";
}

/// Rows that a pass reads, and appends at once.
const ROWS: usize = 1_000;
/// Rows that may wait to be settled. While there are more, a pass reads from the first of them, even if it was read before.
const WAITING: usize = 10_000;

/// The state that passes share.
struct Reader {
    /// All settled rows up to here are invalidated and appended.
    at: Position,
    /// Rows beyond it: they are invalidated already, but older transactions can still commit.
    waiting: BTreeMap<Position, Event>,
    /// Each partition's stream cursor in Redis; `None` if there is none.
    cursors: Vec<Option<Position>>,
    idled: Instant,
    /// Where the relay was, and when, for the last minutes.
    trail: VecDeque<(Instant, Position)>,
    /// Postgres's timeline, once a pass has read it.
    timeline: u64,
    /// The position that was last said to be settled.
    settled: Option<Position>,
    /// When Postgres was last told how far the region is, and how far that was.
    advanced: Option<(Instant, Position)>,
    /// The telling that is under way.
    advancing: Option<JoinHandle<Result<()>>>,
    /// How long to wait for transactions that are older than rows beyond `at`.
    patience: Duration,
}

/// Why a pass ended early.
enum Stop {
    /// The state is void: Redis was lost, or is another one now.
    Reload,
    /// Postgres could not be asked; logged where it happened.
    Wait,
}

/// Runs until the process ends.
pub async fn run(ctx: Ctx) {
    let mut reader = None;
    loop {
        let wait = reader.as_mut().map_or(POLL, Reader::wait);
        let _ = tokio::time::timeout(wait, ctx.relay_wake.notified()).await;
        let outcome = match reader.as_mut() {
            Some(reader) => pass(&ctx, reader).await,
            None => match load(&ctx).await {
                Ok(loaded) => pass(&ctx, reader.insert(loaded)).await,
                Err(stop) => Err(stop),
            },
        };
        match outcome {
            Ok(()) => {}
            Err(Stop::Reload) => {
                reader = None;
                // Without Postgres the lag is unknown.
                if let Ok(behind) = behind(&ctx).await {
                    note_behind(behind);
                }
                tokio::time::sleep(POLL).await;
            }
            Err(Stop::Wait) => tokio::time::sleep(POLL).await,
        }
    }
}

impl From<crate::error::Error> for Stop {
    fn from(_: crate::error::Error) -> Stop {
        Stop::Wait
    }
}

impl From<Behind> for Stop {
    fn from(_: Behind) -> Stop {
        Stop::Reload
    }
}

impl From<crate::redis::RedisDown> for Stop {
    fn from(_: crate::redis::RedisDown) -> Stop {
        Stop::Reload
    }
}

/// The age of the oldest row that the region is not past, in seconds.
async fn behind(ctx: &Ctx) -> Result<f64> {
    let Some(row) = ctx.db.query_opt(CURSOR, &[&ctx.config.region]).await? else { return Ok(0.0) };
    let (xid, seq): (i64, i64) = (row.get(0), row.get(1));
    let to = end_of_stretch(xid);
    let row = ctx.db.query_opt(BEHIND, &[&xid.to_string(), &seq, &to.to_string()]).await?;
    Ok(row.map_or(0.0, |row| row.get(0)))
}

/// Begins at the oldest cursor. A cursor that is missing, or so old that rows after it are gone, starts at the region's row,
/// or where the outbox begins if that is later; its stream's history is not whole before that.
async fn load(ctx: &Ctx) -> std::result::Result<Reader, Stop> {
    let row = ctx.db.query_opt(CURSOR, &[&ctx.config.region]).await?.ok_or(Stop::Wait)?;
    let floor = Position(row.get(2), row.get(3));
    // A region that nothing waited for may itself be behind the rows that are gone.
    let region = floor.max(Position(row.get(0), row.get(1)));
    let commands: Vec<Cmd> = Partition::all()
        .map(|partition| {
            let mut command = Cmd::new();
            command.arg("HGET").arg(Key::Cursor.of_partition(partition)).arg("at");
            command
        })
        .collect();
    let values = ctx.redis.send(commands).await?;
    let mut cursors: Vec<Option<Position>> =
        values.into_iter().map(|value| Position::parse(&Items::new(value).text())).collect();
    let mut dropped = Vec::new();
    for (partition, cursor) in Partition::all().zip(&mut cursors) {
        if cursor.take_if(|at| *at < floor).is_some() {
            tracing::warn!(%partition, "a stream's cursor is older than the outbox: its history is broken");
            let mut command = Cmd::new();
            command.arg("DEL").arg(Key::Cursor.of_partition(partition));
            dropped.push(command);
        }
    }
    if !dropped.is_empty() {
        ctx.redis.send(dropped).await?;
    }
    let at = cursors.iter().flatten().copied().fold(region, Position::min);
    // Missing cursors are created at once, at the region's position: nobody has read their streams.
    let idled = Instant::now();
    let mut reader = Reader {
        at,
        waiting: BTreeMap::new(),
        cursors,
        idled,
        trail: VecDeque::new(),
        timeline: 0,
        settled: None,
        advanced: None,
        advancing: None,
        patience: SOON,
    };
    reader.begin_missing(ctx, region).await?;
    Ok(reader)
}

fn is_old(noted: &(Instant, Position)) -> bool {
    noted.0.elapsed() > KEPT_FOR
}

impl Reader {
    async fn begin_missing(&mut self, ctx: &Ctx, region: Position) -> std::result::Result<(), Stop> {
        let missing: Vec<Partition> =
            Partition::all().filter(|partition| self.cursors[partition.index()].is_none()).collect();
        let batches = missing.into_iter().map(|partition| (partition, Vec::new())).collect();
        append(ctx, &mut self.cursors, batches, region, None).await?;
        Ok(())
    }

    /// Notes where the relay is, and forgets where it was long ago.
    fn note(&mut self) {
        while self.trail.get(1).is_some_and(is_old) {
            self.trail.pop_front();
        }
        if self.trail.back().is_none_or(|noted| noted.0.elapsed() > NOTED) {
            self.trail.push_back((Instant::now(), self.at));
        }
    }

    /// The position before which streams keep no entries.
    fn trimmed(&self) -> Option<Position> {
        self.trail.front().filter(|noted| is_old(noted)).map(|noted| noted.1)
    }

    /// Says that all streams hold their events up to `at`, unless that was said.
    async fn settle(&mut self, ctx: &Ctx) -> std::result::Result<(), Stop> {
        if self.settled == Some(self.at) {
            return Ok(());
        }
        let (xid, seq) = (self.at.0.cast_unsigned(), self.at.1.cast_unsigned());
        ctx.redis.call_one(&settle::call(self.timeline, xid, seq)).await?;
        self.settled = Some(self.at);
        Ok(())
    }

    /// How long to wait until the next pass, if nobody wakes the relay.
    fn wait(&mut self) -> Duration {
        let wait = if self.waiting.is_empty() { POLL } else { self.patience.min(POLL) };
        self.patience = if self.waiting.is_empty() { SOON } else { wait * 2 };
        wait
    }

    /// Tells Postgres how far the region is, unless it was told a moment ago. The next events do not wait for its commit.
    async fn advance(&mut self, ctx: &Ctx) -> Result<()> {
        if self.advancing.as_ref().is_some_and(|advancing| !advancing.is_finished())
            || self.advanced.is_some_and(|(when, at)| at == self.at || when.elapsed() < ADVANCED)
        {
            return Ok(());
        }
        if let Some(advancing) = self.advancing.take()
            && let Ok(Err(error)) = advancing.await
        {
            self.advanced = None;
            return Err(error);
        }
        let (ctx, at) = (ctx.clone(), self.at);
        self.advanced = Some((Instant::now(), at));
        self.advancing = Some(tokio::spawn(async move {
            ctx.db.query(ADVANCE, &[&ctx.config.region, &at.0.to_string(), &at.1]).await?;
            Ok(())
        }));
        Ok(())
    }

    /// Moves the cursors of partitions without events along, so that they never become too old.
    async fn move_idle(&mut self, ctx: &Ctx) -> std::result::Result<(), Stop> {
        if self.idled.elapsed() < IDLE {
            return Ok(());
        }
        self.idled = Instant::now();
        let behind = Partition::all().filter(|partition| self.cursors[partition.index()] <= Some(self.at));
        let batches = behind.map(|partition| (partition, Vec::new())).collect();
        let trimmed = self.trimmed();
        append(ctx, &mut self.cursors, batches, self.at, trimmed).await?;
        // Said again, so that it does not expire.
        self.settled = None;
        Ok(())
    }
}

async fn pass(ctx: &Ctx, reader: &mut Reader) -> std::result::Result<(), Stop> {
    hooks::step("relay.read").await;
    let (horizon, is_settled) = read(ctx, reader).await?;
    reader.note();
    reader.settle(ctx).await?;
    note_behind(reader.waiting.values().next().map_or(0.0, Event::lag));
    loop {
        // In this order a settled row never follows an unsettled one.
        let settled = reader.waiting.values().take_while(|event| is_settled(event.at)).take(ROWS);
        let settled: Vec<&Event> = settled.collect();
        let Some(last) = settled.last().map(|event| event.at) else {
            let end = end_of_stretch(reader.at.0);
            if reader.waiting.is_empty() && horizon >= end {
                // No row is in the stretch, and none will be.
                reader.at = Position(end, 0);
                reader.settle(ctx).await?;
            }
            reader.advance(ctx).await?;
            return reader.move_idle(ctx).await;
        };
        let mut batches: BTreeMap<Partition, Vec<&Event>> = BTreeMap::new();
        for event in settled {
            event
                .partitions()
                .into_iter()
                .for_each(|partition| batches.entry(partition).or_default().push(event));
        }
        batches.retain(|partition, _| reader.cursors[partition.index()] < Some(last));
        hooks::step("relay.append").await;
        let trimmed = reader.trimmed();
        if !append(ctx, &mut reader.cursors, batches, last, trimmed).await? {
            // Another relay is appending: the next pass sees how far it came.
            return Ok(());
        }
        hooks::step("relay.appended").await;
        reader.at = last;
        reader.settle(ctx).await?;
        hooks::step("relay.settled").await;
        reader.advance(ctx).await?;
        while let Some(first) = reader.waiting.first_entry().filter(|first| *first.key() <= last) {
            metrics::histogram!("optimist_relay_lag_seconds").record(first.remove().lag());
        }
    }
}

/// Reads new rows, settled or not, and drops the copies that they make stale: each key once, for its last change. Returns the
/// horizon, and a test whether a row is settled.
async fn read(
    ctx: &Ctx,
    reader: &mut Reader,
) -> std::result::Result<(i64, impl Fn(Position) -> bool + use<>), Stop> {
    let known: Vec<i64> = match reader.waiting.len() {
        0..WAITING => reader.waiting.keys().map(|position| position.1).collect(),
        _ => Vec::new(),
    };
    let from = (reader.at.0.to_string(), reader.at.1);
    let to = end_of_stretch(reader.at.0).to_string();
    // A replica shows the same order, later: transactions that its snapshot takes for running are not settled.
    let db = ctx.relay_replica.as_ref().unwrap_or(&ctx.db);
    let client = db.client().await?;
    // The moment comes first: the query then shows everything that was committed by then.
    let shown = match ctx.relay_replica {
        Some(_) => {
            let row = query(&client, REPLAYED, &[]).await?;
            let lsn = row.first().map_or(0, |row| row.get::<_, i64>(0));
            ctx.region.moment_of(lsn.cast_unsigned())
        }
        None => Some(Instant::now()),
    };
    let rows = query(&client, PENDING, &[&from.0, &from.1, &known, &(ROWS as i64), &to]).await?;
    drop(client);
    let settled_before: i64 = rows.first().map_or(0, |row| row.get("before"));
    reader.timeline = rows.first().map_or(0, |row| row.get::<_, i64>("timeline").cast_unsigned());
    let mut changed: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut events, mut last) = (Vec::new(), None);
    // If there is no row to read, the one row holds only the horizon.
    for row in rows.iter().filter(|row| row.get::<_, Option<i64>>("xid").is_some()) {
        let position = Position(row.get("xid"), row.get("seq"));
        last = Some(position);
        if !reader.waiting.contains_key(&position) {
            let keys = row.get::<_, Vec<&str>>("keys");
            // Rows come in the order of their transactions: the last change of a key wins.
            changed.extend(keys.into_iter().map(|key| (key, position.0.cast_unsigned())));
            events.push((position, Event::from_row(position, row)));
        }
    }
    let dropped = drop_stale(ctx, changed).await?;
    metrics::counter!("optimist_relay_dropped_total").increment(dropped);
    if let Some(moment) = shown.filter(|_| rows.len() < ROWS) {
        ctx.region.set_invalidated(moment);
    }
    reader.waiting.extend(events);
    // Rows may exist beyond the last that was read, and before others that are known.
    let read_up_to = last.filter(|_| rows.len() == ROWS);
    let any_order = hooks::disabled("order");
    let is_settled = move |position: Position| {
        (position.0 < settled_before || any_order) && read_up_to.is_none_or(|last| position <= last)
    };
    Ok((settled_before, is_settled))
}

/// Reports seconds, also while no row is handled and the histogram shows nothing.
fn note_behind(seconds: f64) {
    metrics::gauge!("optimist_relay_behind_seconds").set(seconds);
}
