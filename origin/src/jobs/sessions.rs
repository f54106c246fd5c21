//! Sessions in use, written back, so that they outlive a Redis that loses them.

use ::redis::{Cmd, Value};
use optimist_shared::ids::{Partition, Uuid, parse_id};
use optimist_shared::keys::Key;

use crate::app::Ctx;
use crate::error::Result;
use crate::redis::Items;

pub const WRITE_BACK: &str = "-- jobs::write_back_sessions
update sessions
set idle_until = greatest(idle_until, least(to_timestamp(used.at / 1000.0) + interval '30 minutes', absolute_until)),
    first_used_at = coalesce(first_used_at, now())
from unnest($1::uuid[], $2::bigint[]) as used (id, at)
where sessions.id = used.id and revoked_at is null and idle_until > now()";

/// Tells Postgres of sessions that were used, so that they outlive a Redis that loses them.
pub async fn write_back(app: &Ctx) -> Result<u64> {
    let read: Vec<Cmd> = Partition::all()
        .map(|partition| {
            let mut command = Cmd::new();
            command.arg("ZRANGE").arg(Key::Touched.of_partition(partition)).arg(0).arg(-1).arg("WITHSCORES");
            command
        })
        .collect();
    let Ok(values) = app.cache.redis.send(&read).await else { return Ok(0) };
    let (mut ids, mut times, mut done): (Vec<Uuid>, Vec<i64>, Vec<Cmd>) = Default::default();
    for (partition, value) in Partition::all().zip(values) {
        let Value::Array(pairs) = value else { continue };
        let mut items = Items::new(Value::Array(pairs.clone()));
        for _ in 0..pairs.len() / 2 {
            let (member, at) = (items.text(), items.text());
            let session = member.split_once(':').and_then(|(_, session)| parse_id(session));
            if let (Some(session), Ok(at)) = (session, at.parse::<f64>()) {
                ids.push(session);
                times.push(at as i64);
            }
            let mut command = Cmd::new();
            command.arg("ZREM").arg(Key::Touched.of_partition(partition)).arg(member);
            done.push(command);
        }
    }
    if ids.is_empty() {
        return Ok(0);
    }
    app.db.query(WRITE_BACK, &[&ids, &times]).await?;
    // Left in place, they are written back once more.
    let _ = app.cache.redis.send(&done).await;
    Ok(ids.len() as u64)
}
