//! Turning the region off, and learning of the vouching without a relay.
//!
//! The region's row in Postgres decides. The relay turns the region on again (see [`super::vouching`]).

use std::time::{Duration, Instant};

use ::redis::Cmd;
use optimist_shared::ids::Partition;
use optimist_shared::keys::Key;
use optimist_shared::scripts::Scalars as _;
use optimist_shared::vouching::Vouched;

use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::redis::Items;
use crate::region::trust::{Mode, OFF_FOR_MS};
use crate::statements;

statements! {
    const SWITCH_OFF: &str = "-- region::switch_off
update regions set state = 'off', off_since = coalesce(off_since, clock_timestamp())
where name = $1
returning (extract(epoch from clock_timestamp() - off_since) * 1000)::bigint";
}

/// Whether this origin may soon learn of a vouching: the region is on, and both stores answer. An origin that has just
/// started, or whose relay has missed a beat, is no reason to turn the region off. Fails without Postgres.
pub async fn may_soon_vouch(ctx: &Ctx) -> Result<bool> {
    let mut ping = Cmd::new();
    ping.arg("PING");
    if ctx.region.mode() != Mode::Fenced || ctx.redis.send([ping]).await.is_err() {
        return Ok(false);
    }
    ctx.db.client().await.map(|_| true)
}

/// Keeps learning of the vouching from Redis, for a process without a relay of its own, as long as it runs.
pub async fn follow(ctx: Ctx) {
    const EVERY: Duration = Duration::from_millis(500);
    loop {
        learn(&ctx).await;
        tokio::time::sleep(EVERY).await;
    }
}

/// Learns which epoch is vouched for now. Degraded vouching does not count.
pub async fn learn(ctx: &Ctx) {
    let vouch = Key::Vouch.of_partition(Partition::COMMON);
    let (mut get, mut lives) = (Cmd::new(), Cmd::new());
    get.arg("GET").arg(&vouch);
    lives.arg("PTTL").arg(&vouch);
    let asked = Instant::now();
    let Ok(values) = ctx.redis.send([get, lives]).await else { return ctx.region.set_vouched(None) };
    let mut values = values.into_iter().map(Items::new);
    let vouched = values.next().and_then(|mut vouch| Vouched::parse(&vouch.bytes()));
    let epoch = vouched.filter(|vouched| !vouched.degraded).map(|vouched| vouched.epoch);
    let lives_ms = values.next().and_then(|mut lives| u64::try_from(lives.int()).ok()).unwrap_or(0);
    ctx.region.set_vouched(epoch.map(|epoch| (epoch, asked + Duration::from_millis(lives_ms))));
}

/// Turns the region off, and returns when nobody can trust Redis any more. Concurrent callers share the wait.
pub async fn switch_off(ctx: &Ctx) -> Result<()> {
    let _one = ctx.region.switching.lock().await;
    let row = ctx.db.query_opt(SWITCH_OFF, &[&ctx.config.region]).await?;
    let off_for: i64 = row.ok_or_else(|| Error::internal("region", &"its row is missing"))?.get(0);
    ctx.region.set_vouched(None);
    ctx.region.set_mode(Mode::Unfenced);
    if let Ok(rest) = u64::try_from(OFF_FOR_MS - off_for) {
        tracing::warn!(milliseconds = rest, "redis could not be told of a write: nobody is to trust it");
        tokio::time::sleep(Duration::from_millis(rest)).await;
    }
    Ok(())
}
