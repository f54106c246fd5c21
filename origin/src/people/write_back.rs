//! Sessions in use, written back, so that they outlive a Redis that loses them.

use ::redis::{Cmd, Value};
use optimist_shared::ids::{Partition, Uuid, parse_id};
use optimist_shared::keys::Key;

use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::redis::Items;

const WRITE_BACK: &str = "-- jobs::write_back_sessions
update sessions
set idle_until = greatest(idle_until, least(to_timestamp(used.at / 1000.0) + interval '30 minutes', absolute_until)),
    first_used_at = coalesce(first_used_at, now())
from unnest($1::uuid[], $2::bigint[]) as used (id, at)
where sessions.id = used.id and revoked_at is null and idle_until > now()";

pub const STATEMENTS: &[&str] = &[WRITE_BACK];

/// Sessions of one statement.
const AT_ONCE: usize = 2_000;

/// Tells Postgres of sessions that were used, so that they outlive a Redis that loses them.
pub async fn write_back(app: &Ctx) -> Result<u64> {
    let mut done = 0;
    for partition in Partition::all() {
        loop {
            let noted = write_back_some(app, &Key::Touched.of_partition(partition)).await?;
            done += noted as u64;
            if noted < AT_ONCE {
                break;
            }
        }
    }
    Ok(done)
}

/// Those that were noted first. How many: none if Redis cannot be asked.
async fn write_back_some(app: &Ctx, touched: &str) -> Result<usize> {
    let mut oldest = Cmd::new();
    oldest.arg("ZRANGE").arg(touched).arg(0).arg(AT_ONCE - 1).arg("WITHSCORES");
    let Ok(values) = app.redis.send([oldest]).await else { return Ok(0) };
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
    app.db.query(WRITE_BACK, &[&ids, &times]).await?;
    // Left in place, they are written back once more.
    Ok(app.redis.send([done]).await.map_or(0, |_| noted))
}
