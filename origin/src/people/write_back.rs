//! Tells Postgres which sessions are in use, so that they outlive a Redis that loses them.
//!
//! The edge notes uses in Redis, by partition; requests write none to Postgres.

use ::redis::{Cmd, Value};
use optimist_shared::ids::{Partition, Uuid, parse_id};
use optimist_shared::keys::Key;
use optimist_shared::scripts::Scalars as _;

use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::redis::Items;
use optimist_plane::statements;

statements! {
    const WRITE_BACK: &str = "-- jobs::write_back_sessions (2,000 rows)
update sessions
set idle_until = greatest(idle_until, least(to_timestamp(used.at / 1000.0) + interval '30 minutes', absolute_until)),
    first_used_at = coalesce(first_used_at, now())
from unnest($1::uuid[], $2::bigint[]) as used (id, at)
where sessions.id = used.id and revoked_at is null and idle_until > now()";
}

/// Sessions of one statement.
const AT_ONCE: usize = 2_000;

/// Writes back the noted uses of all partitions. Returns how many.
pub async fn write_back(ctx: &Ctx) -> Result<u64> {
    let mut done = 0;
    for partition in Partition::all() {
        loop {
            let noted = write_back_some(ctx, &Key::Touched.of_partition(partition)).await?;
            done += noted as u64;
            if noted < AT_ONCE {
                break;
            }
        }
    }
    Ok(done)
}

/// Writes back the oldest noted uses of a partition. Returns how many; 0 if Redis cannot be asked.
async fn write_back_some(ctx: &Ctx, touched: &str) -> Result<usize> {
    let mut oldest = Cmd::new();
    oldest.arg("ZRANGE").arg(touched).arg(0).arg(AT_ONCE - 1).arg("WITHSCORES");
    let Ok(values) = ctx.redis.send([oldest]).await else { return Ok(0) };
    let Some(Value::Array(pairs)) = values.into_iter().next() else { return Ok(0) };
    let noted = pairs.len() / 2;
    let mut items = Items::new(Value::Array(pairs));
    let (mut ids, mut times): (Vec<Uuid>, Vec<i64>) = Default::default();
    let mut done = Cmd::new();
    done.arg("ZREM").arg(touched);
    for _ in 0..noted {
        let (member, at) = (items.text(), items.text());
        let session = member.split_once(':').and_then(|(_, session)| parse_id(session));
        if let (Some(session), Ok(at)) = (session, at.parse::<f64>()) {
            ids.push(session);
            times.push(at as i64);
        }
        done.arg(member);
    }
    if noted == 0 {
        return Ok(0);
    }
    ctx.db.query(WRITE_BACK, &[&ids, &times]).await?;
    // Notes that stay in Redis are written back once more, which changes nothing.
    Ok(ctx.redis.send([done]).await.map_or(0, |_| noted))
}
