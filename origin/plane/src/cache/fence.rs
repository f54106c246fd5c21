//! What writers and the relay do to copies: fences raised, released and taken back; copies dropped.

use std::collections::BTreeMap;

use optimist_shared::keys;

use crate::cache::touched::{NO_LEASE, TouchedKey};
use crate::ctx::Ctx;
use crate::hooks;
use crate::redis::{Call, Items, RedisDown};

/// Milliseconds that a fence stands: longer than any commit can take, see the session's timeouts in [`crate::postgres::pool`].
const FENCE_MS: &[u8] = b"7000";

/// Hides the values of keys, voids their leases and blocks fills, until released or lapsed.
pub async fn fence(ctx: &Ctx, touched: &[TouchedKey], token: &str) -> Result<(), RedisDown> {
    let arguments = || vec![token.as_bytes(), FENCE_MS];
    let calls: Vec<Call<'_>> = touched
        .iter()
        .map(|key| Call { script: &ctx.redis.scripts.fence, keys: key.writer_keys(), arguments: arguments() })
        .collect();
    ctx.redis.call(&calls).await.map(drop)
}

/// Drops what was hidden, voids leases, lowers the fences. Returns the keys that were warm, and that nobody else fences.
pub async fn release(ctx: &Ctx, touched: &[TouchedKey], token: &str) -> Result<Vec<TouchedKey>, RedisDown> {
    let values = ctx.redis.call(&writer_calls(&ctx.redis.scripts.release, touched, token)).await?;
    let warm = |value: ::redis::Value| Items::new(value).int() == 1;
    Ok(touched.iter().zip(values).filter_map(|(key, value)| warm(value).then(|| key.clone())).collect())
}

/// Brings hidden values back after a certain rollback. Should it fail, they lapse, and are read anew.
pub async fn unhide(ctx: &Ctx, touched: &[TouchedKey], token: &str) {
    let calls = writer_calls(&ctx.redis.scripts.unhide, touched, token);
    if ctx.redis.call(&calls).await.is_err() {
        tracing::debug!("hidden values were left to lapse");
    }
}

fn writer_calls<'a>(
    script: &'a optimist_shared::scripts::Script,
    touched: &'a [TouchedKey],
    token: &'a str,
) -> Vec<Call<'a>> {
    touched
        .iter()
        .map(|key| Call { script, keys: key.writer_keys(), arguments: vec![token.as_bytes()] })
        .collect()
}

/// Copies dropped in one trip, which has a deadline.
const DROPPED_AT_ONCE: usize = 100;

/// Drops any copies, whatever lease there is. How many there were.
pub async fn drop_copies(ctx: &Ctx, names: &[String]) -> Result<u64, RedisDown> {
    let newest = names.iter().map(|name| (name.as_str(), u64::MAX)).collect();
    drop_stale(ctx, newest).await
}

/// Drops the copies of names that do not show the transaction which changed them last, whatever lease there is. How many
/// there were.
pub async fn drop_stale(ctx: &Ctx, changed: BTreeMap<&str, u64>) -> Result<u64, RedisDown> {
    let changed: Vec<(&str, [String; 3])> = changed
        .into_iter()
        .map(|(name, xid)| (name, [keys::hidden(name), noted_lease(name), format!("{xid:016x}")]))
        .collect();
    let calls: Vec<Call<'_>> = changed
        .iter()
        .map(|(name, [hidden, lease, xid])| Call {
            script: &ctx.redis.scripts.invalidate,
            keys: vec![name, hidden, lease],
            arguments: vec![xid.as_bytes()],
        })
        .collect();
    let mut dropped = 0;
    for calls in calls.chunks(DROPPED_AT_ONCE) {
        let values = ctx.redis.call(calls).await?;
        dropped += values.into_iter().map(|value| Items::new(value).int()).sum::<i64>();
    }
    Ok(dropped.max(0).cast_unsigned())
}

/// The lease that is told of a transaction.
fn noted_lease(name: &str) -> String {
    if hooks::disabled("floor") { NO_LEASE.to_owned() } else { keys::lease(name) }
}
