//! Writers' and the relay's operations on copies: raising, releasing and undoing fences, and dropping copies.

use std::collections::BTreeMap;

use ::redis::Cmd;
use optimist_shared::keys::Companions;
use optimist_shared::scripts::invalidate::{self, From};
use optimist_shared::scripts::{Call, Scalars as _, fence};

use crate::cache::touched::{TouchedKey, with_floor};
use crate::ctx::Ctx;
use crate::redis::{Items, RedisDown};

/// Milliseconds that a fence stands: longer than any commit can take, see the session's timeouts in [`crate::postgres::pool`].
const FENCE_MS: u64 = 7_000;

/// Keys of one trip, to stay within its deadline: a trip that is too large would look like a lost Redis.
const AT_ONCE: usize = 100;

/// Hides the values of keys, voids their leases and blocks fills, until released or lapsed.
pub async fn raise(ctx: &Ctx, touched: &[TouchedKey], token: &str) -> Result<(), RedisDown> {
    for some in touched.chunks(AT_ONCE) {
        let calls: Vec<Call<'_>> =
            some.iter().map(|key| fence::raise(&key.name, &key.beside, token, FENCE_MS)).collect();
        ctx.redis.call(&calls).await?;
    }
    Ok(())
}

/// Drops hidden values, voids leases, lowers fences. Returns the keys that were warm and have no other fence.
pub async fn release(ctx: &Ctx, touched: &[TouchedKey], token: &str) -> Result<Vec<TouchedKey>, RedisDown> {
    let mut warm = Vec::new();
    for some in touched.chunks(AT_ONCE) {
        let calls: Vec<Call<'_>> =
            some.iter().map(|key| fence::release(&key.name, &key.beside, token)).collect();
        let released = some.iter().zip(ctx.redis.call(&calls).await?);
        warm.extend(released.filter_map(|(key, mut reply)| fence::is_warm(&mut reply).then(|| key.clone())));
    }
    Ok(warm)
}

/// Restores hidden values after a rollback that is certain. If that fails, they lapse, and are read again.
pub async fn unhide(ctx: &Ctx, touched: &[TouchedKey], token: &str) {
    for some in touched.chunks(AT_ONCE) {
        let calls: Vec<Call<'_>> =
            some.iter().map(|key| fence::unhide(&key.name, &key.beside, token)).collect();
        if ctx.redis.call(&calls).await.is_err() {
            tracing::debug!("hidden values were left to lapse");
            return;
        }
    }
}

/// Milliseconds that a floor lasts. A fill that lacks the floor's transaction comes no later than this after the relay told
/// of it: the primary shows a commit within two seconds of a replica, a relay lags ten at most (see
/// [`crate::region::vouching`]), and a lease lasts five.
const FLOOR_MS: u64 = 60_000;

/// Drops copies, whatever their snapshots saw, and voids their leases. Returns how many copies there were.
pub async fn drop_copies(ctx: &Ctx, names: &[String]) -> Result<u64, RedisDown> {
    let mut dropped = 0;
    for names in names.chunks(AT_ONCE) {
        let commands = names.iter().flat_map(|name| {
            let beside = Companions::of(name);
            let (mut void, mut drop) = (Cmd::new(), Cmd::new());
            void.arg("DEL").arg(beside.lease);
            drop.arg("DEL").arg(name).arg(beside.hidden);
            [void, drop]
        });
        let replies = ctx.redis.send(commands).await?;
        dropped += replies.into_iter().skip(1).step_by(2).map(|reply| Items::new(reply).count()).sum::<u64>();
    }
    Ok(dropped)
}

/// Drops the copies that do not show the transaction which changed them last, and keeps later fills from bringing them back.
/// Returns how many there were.
pub async fn drop_stale(ctx: &Ctx, changed: BTreeMap<&str, u64>) -> Result<u64, RedisDown> {
    let changed: Vec<(&str, Companions, u64)> =
        changed.into_iter().map(|(name, xid)| (name, with_floor(name), xid)).collect();
    let from = match ctx.relay_replica {
        Some(_) => From::Replica,
        None => From::Primary,
    };
    let calls =
        changed.iter().map(|(name, beside, xid)| invalidate::call(name, beside, *xid, FLOOR_MS, from));
    let calls: Vec<Call<'_>> = calls.collect();
    let mut dropped = 0;
    for calls in calls.chunks(AT_ONCE) {
        let replies = ctx.redis.call(calls).await?;
        dropped += replies.into_iter().map(|mut reply| invalidate::read(&mut reply)).sum::<u64>();
    }
    Ok(dropped)
}
