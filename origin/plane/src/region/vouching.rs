//! Vouching: each second the relay states that the region's Redis may be trusted, for three seconds more. It does not while
//! the outbox's reader lags behind: copies may then be stale that a write elsewhere, or a writer that died, left.
//!
//! Every origin runs a relay; several at once do no harm. [`crate::outbox::relay`] deals with committed writes.

use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Pipeline, RedisResult, Value};
use optimist_shared::ids::{PARTITIONS, Partition, Uuid};
use optimist_shared::scripts::vouch;
use optimist_shared::vouching::Vouched;

use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::hooks;
use crate::redis::{Items, command};
use crate::region::switch::learn;
use crate::region::trust::{Mode, OFF_FOR_MS};
use crate::statements;

const BEAT: Duration = Duration::from_secs(1);
const VOUCH_MS: u64 = 3_000;
/// How far the reader of the outbox may lag behind Postgres.
const LAG: Duration = Duration::from_secs(10);
/// How long a beat may wait for a store: the next one must not come late.
const PATIENCE: Duration = Duration::from_millis(700);

statements! {
    const REGISTER: &str = "-- relay::register
insert into regions (name) values ($1) on conflict do nothing";

    const HEARTBEAT: &str = "-- relay::heartbeat
insert into origins (id, region, seen_at, redis_ok, release) values ($1, $2, clock_timestamp(), $3, 1)
on conflict (id) do update set seen_at = excluded.seen_at, redis_ok = excluded.redis_ok";

    /// Once a minute. A region that comes back after a day of silence starts a new epoch: rows it has not seen may be gone.
    const SEEN: &str = "-- relay::seen
update regions
set epoch = epoch + case when seen_at < now() - interval '1 day' then 1 else 0 end, seen_at = now()
where name = $1 and seen_at < now() - interval '1 minute'";

    const ROW: &str = "-- relay::row
select state = 'on', epoch, run_id, (pg_current_wal_insert_lsn() - '0/0')::bigint from regions where name = $1";

    const NEW_EPOCH: &str = "-- relay::new_epoch
update regions set epoch = epoch + 1, run_id = $2 where name = $1 and run_id is distinct from $2";

    const SWITCH_ON: &str = "-- relay::switch_on
update regions set state = 'on', off_since = null, epoch = epoch + 1
where name = $1 and state = 'off' and off_since < clock_timestamp() - $2::bigint * interval '1 millisecond'
  and not exists (
      select from origins
      where region = $1 and seen_at > clock_timestamp() - interval '5 seconds' and not redis_ok)";
}

/// Runs until the process ends.
pub async fn run(ctx: Ctx) {
    let id = Uuid::now_v7();
    let mut link = None;
    let mut last_epoch = None;
    let mut registered = false;
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        if !registered {
            registered = ctx.db.query(REGISTER, &[&ctx.config.region]).await.is_ok();
        }
        vouch(&ctx, id, &mut link, &mut last_epoch).await;
    }
}

/// A connection to a known Redis process: as long as it lasts, the process is the same.
struct Link {
    connection: MultiplexedConnection,
    run_id: String,
}

/// The region's row, as a beat found it.
struct Row {
    on: bool,
    epoch: u64,
    run_id: Option<String>,
}

/// One beat.
async fn vouch(ctx: &Ctx, id: Uuid, link: &mut Option<Link>, last_epoch: &mut Option<u64>) {
    if link.is_none() {
        *link = tokio::time::timeout(PATIENCE, connect(ctx)).await.ok().and_then(RedisResult::ok);
    }
    let began = Instant::now();
    // Redis's time from before the row is read: vouching ends three seconds after it, however long the rest takes.
    let time = match link {
        Some(link) => tokio::time::timeout(PATIENCE, redis_time(&mut link.connection))
            .await
            .ok()
            .and_then(RedisResult::ok),
        None => None,
    };
    if time.is_none() {
        *link = None;
    }
    let redis_ok = time.is_some() && ctx.redis.reachable().await;
    let run_id = link.as_ref().map(|link| link.run_id.clone());
    let row = tokio::time::timeout(PATIENCE, read_row(ctx, id, redis_ok, run_id.as_deref())).await;
    hooks::step("relay.row").await;
    let (epoch, degraded) = match row {
        Ok(Ok(row)) => {
            ctx.region.set_mode(if row.on { Mode::Fenced } else { Mode::Unfenced });
            if row.on && !is_in_time(ctx) {
                if last_epoch.take().is_some() {
                    tracing::warn!("the reader of the outbox lags behind: this origin vouches no more");
                }
                // Another origin may.
                return learn(ctx).await;
            }
            let vouches = row.on || hooks::disabled("vouching");
            *last_epoch = vouches.then_some(row.epoch);
            (*last_epoch, false)
        }
        // Postgres is unavailable: copies are served, marked.
        _ => (*last_epoch, true),
    };
    let (Some(epoch), Some(time), Some(open)) = (epoch, time, link.as_mut()) else {
        ctx.region.set_vouched(None);
        return;
    };
    watch_budget(ctx, open).await;
    match tokio::time::timeout(PATIENCE, vouch_all(open, Vouched { epoch, degraded }, time)).await {
        Ok(Ok(true)) if !degraded => {
            ctx.region.set_vouched(Some((epoch, began + Duration::from_millis(VOUCH_MS))));
        }
        Ok(Ok(_)) => ctx.region.set_vouched(None),
        _ => {
            *link = None;
            ctx.region.set_vouched(None);
        }
    }
}

async fn connect(ctx: &Ctx) -> RedisResult<Link> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let mut connection = ctx.redis.client().get_multiplexed_async_connection_with_config(&config).await?;
    let info: String = ::redis::cmd("INFO").query_async(&mut connection).await?;
    let field = |name: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let script = &vouch::VOUCH;
    let _: String =
        ::redis::cmd("SCRIPT").arg("LOAD").arg(script.source()).query_async(&mut connection).await?;
    Ok(Link { connection, run_id: field("run_id") })
}

async fn redis_time(connection: &mut MultiplexedConnection) -> RedisResult<u64> {
    let (seconds, micros): (u64, u64) = ::redis::cmd("TIME").query_async(connection).await?;
    Ok(seconds * 1000 + micros / 1000)
}

/// Sends the heartbeat, and makes the row fit the Redis process: a new epoch for a new one, on again when all is well.
async fn read_row(ctx: &Ctx, id: Uuid, redis_ok: bool, run_id: Option<&str>) -> Result<Row> {
    let region = &ctx.config.region;
    ctx.db.query(HEARTBEAT, &[&id, region, &redis_ok]).await?;
    ctx.db.query(SEEN, &[region]).await?;
    let mut row = select_row(ctx).await?;
    if let Some(run_id) = run_id.filter(|run_id| row.run_id.as_deref() != Some(run_id)) {
        tracing::warn!(run_id, "another redis process: a new epoch");
        ctx.db.query(NEW_EPOCH, &[region, &run_id]).await?;
        row = select_row(ctx).await?;
    }
    if !row.on && redis_ok && is_in_time(ctx) {
        ctx.db.query(SWITCH_ON, &[region, &OFF_FOR_MS]).await?;
        row = select_row(ctx).await?;
    }
    Ok(row)
}

/// Whether the reader of the outbox is at most [`LAG`] behind.
fn is_in_time(ctx: &Ctx) -> bool {
    ctx.region.relay_lag().is_some_and(|lag| lag <= LAG)
}

async fn select_row(ctx: &Ctx) -> Result<Row> {
    let asked = Instant::now();
    let row = ctx
        .db
        .query_opt(ROW, &[&ctx.config.region])
        .await?
        .ok_or_else(|| Error::internal("region", &"its row is missing"))?;
    ctx.region.note_written(asked, row.get::<_, i64>(3).cast_unsigned());
    Ok(Row { on: row.get(0), epoch: row.get::<_, i64>(1).cast_unsigned(), run_id: row.get(2) })
}

/// Vouches for all partitions. Returns whether every one accepted it.
async fn vouch_all(link: &mut Link, vouched: Vouched, time_ms: u64) -> RedisResult<bool> {
    let mut pipeline = Pipeline::with_capacity(usize::from(PARTITIONS));
    for partition in Partition::all() {
        pipeline.add_command(command(&vouch::call(partition, vouched, time_ms, VOUCH_MS), false));
    }
    let values: Vec<Value> = pipeline.query_async(&mut link.connection).await?;
    Ok(values.into_iter().all(|value| vouch::read(&mut Items::new(value))))
}

/// Rejects a Redis that is too old or configured to evict data we must keep, and warns of one that may lose some. An
/// unreachable Redis does not prevent the start: the relay keeps trying.
pub async fn check_redis(ctx: &Ctx) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let Some(Ok(mut link)) = tokio::time::timeout(PATIENCE, connect(ctx)).await.ok() else {
        tracing::warn!("redis cannot be reached at the start");
        return Ok(());
    };
    let info: String = ::redis::cmd("INFO").query_async(&mut link.connection).await?;
    let field = |name: &str| {
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default()
    };
    let major: u32 = field("redis_version").split('.').next().and_then(|text| text.parse().ok()).unwrap_or(0);
    if major < 7 {
        return Err(format!("Redis {} is too old: 7.0 is needed", field("redis_version")).into());
    }
    let policy = field("maxmemory_policy");
    if policy.starts_with("allkeys-") {
        return Err(format!(
            "Redis's maxmemory-policy {policy} evicts sessions, limits and fences: set noeviction"
        )
        .into());
    }
    if policy.starts_with("volatile-") {
        tracing::warn!(policy, "redis may evict sessions and limits: noeviction is meant");
    }
    if field("aof_enabled") == "0" {
        tracing::warn!("redis persists nothing, or snapshots alone: a restart forgets limits");
    }
    Ok(())
}

/// Enforces the byte budget of values: beyond it, nothing is filled.
async fn watch_budget(ctx: &Ctx, link: &mut Link) {
    let budget = ctx.config.value_budget_bytes;
    if budget == 0 {
        return;
    }
    let info: RedisResult<String> =
        ::redis::cmd("INFO").arg("memory").query_async(&mut link.connection).await;
    let used = info.ok().and_then(|info| {
        info.lines().find_map(|line| line.strip_prefix("used_memory:")?.parse::<u64>().ok())
    });
    if let Some(used) = used {
        ctx.region.set_over_budget(used > budget);
    }
}
