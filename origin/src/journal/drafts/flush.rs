//! Flushing drafts: every few seconds, what was saved in Redis comes to Postgres.
//!
//! A row takes a newer version alone, and a deleted one none, so any number of origins may flush, and any may die. A text
//! that the row cannot take, because it went another way, is kept as a sibling.

use std::time::Duration;

use ::redis::{Cmd, Value};
use optimist_shared::ids::{Partition, Uuid, parse_id};
use optimist_shared::keys::Key;

use super::Stored;
use super::store::{Names, flushed_ms, fork, stored};
use crate::app::Ctx;
use crate::error::Result;
use crate::hooks;
use crate::redis::{Call, Items, RedisDown};

/// How often: what a lost Redis can cost at most.
const EVERY: Duration = Duration::from_secs(3);
/// Drafts of a partition in one batch.
const BATCH: usize = 200;

const UPSERT: &str = "-- drafts::flush
insert into drafts as d (user_id, id, version, sealed, sibling_of, saved_at)
select flushed.* from unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[], $5::uuid[], $6::timestamptz[])
    as flushed (user_id, id, version, sealed, sibling_of, saved_at)
join users on users.id = flushed.user_id
on conflict (user_id, id) do update
    set version = excluded.version, sealed = excluded.sealed, saved_at = excluded.saved_at
    where d.deleted_at is null and excluded.version > d.version and excluded.version > d.overtook
returning user_id, id";

const WHY: &str = "-- drafts::why
select d.user_id, d.id, d.version, d.overtook, d.deleted_at is not null from drafts d
join unnest($1::uuid[], $2::uuid[]) as kept (user_id, id) using (user_id, id)";

/// Tombstones outlive every flush that may still come.
pub const CLEAN: &str = "-- drafts::clean
delete from drafts where deleted_at < now() - interval '1 day'";

pub const STATEMENTS: &[&str] = &[UPSERT, WHY, CLEAN];

/// Runs until the process ends.
pub async fn run(app: Ctx) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for partition in waiting(&app).await.unwrap_or_default() {
            // Without Postgres they wait; the breaker has said so.
            if flush(&app, partition).await.is_err() {
                break;
            }
        }
    }
}

/// Flushes what waits in the partition of a user, and with it their drafts. Without Redis there is nothing.
pub async fn flush_of(app: &Ctx, user: Uuid) -> Result<()> {
    flush(app, Partition::of(user)).await
}

async fn waiting(app: &Ctx) -> std::result::Result<Vec<Partition>, RedisDown> {
    let commands: Vec<Cmd> = Partition::all()
        .map(|partition| {
            let mut command = Cmd::new();
            command.arg("ZCARD").arg(Key::DirtyDrafts.of_partition(partition));
            command
        })
        .collect();
    let counts = app.cache.redis.send(&commands).await?;
    let counts: Vec<i64> = counts.into_iter().map(|value| Items::new(value).int()).collect();
    metrics::gauge!("optimist_drafts_waiting").set(counts.iter().sum::<i64>() as f64);
    Ok(Partition::all().zip(counts).filter(|(_, count)| *count > 0).map(|(partition, _)| partition).collect())
}

/// A draft that waits, and whose it is.
struct Waiting {
    user: Uuid,
    id: Uuid,
    stored: Stored,
}

async fn flush(app: &Ctx, partition: Partition) -> Result<()> {
    loop {
        let Ok(batch) = read(app, partition).await else { return Ok(()) };
        if batch.is_empty() {
            return Ok(());
        }
        hooks::step("drafts.flush").await;
        let users: Vec<Uuid> = batch.iter().map(|waiting| waiting.user).collect();
        let ids: Vec<Uuid> = batch.iter().map(|waiting| waiting.id).collect();
        let versions: Vec<&str> = batch.iter().map(|waiting| waiting.stored.version.as_str()).collect();
        let sealed: Vec<&[u8]> = batch.iter().map(|waiting| waiting.stored.sealed.as_slice()).collect();
        let siblings: Vec<Option<Uuid>> = batch.iter().map(|waiting| waiting.stored.sibling_of).collect();
        let times: Vec<_> = batch.iter().map(|waiting| waiting.stored.saved_at).collect();
        let taken = app.db.query(UPSERT, &[&users, &ids, &versions, &sealed, &siblings, &times]).await?;
        let taken: Vec<(Uuid, Uuid)> = taken.iter().map(|row| (row.get(0), row.get(1))).collect();
        for row in app.db.query(WHY, &[&users, &ids]).await? {
            let (user, id): (Uuid, Uuid) = (row.get(0), row.get(1));
            let (version, overtook, is_gone): (String, String, bool) = (row.get(2), row.get(3), row.get(4));
            let Some(waiting) = batch.iter().find(|waiting| (waiting.user, waiting.id) == (user, id)) else {
                continue;
            };
            let own = &waiting.stored.version;
            let is_contained = if is_gone { *own <= version } else { *own == version || *own <= overtook };
            if !taken.contains(&(user, id)) && !is_contained {
                fork(app, user, id, &waiting.stored).await?;
            }
        }
        hooks::step("drafts.flushed").await;
        if note(app, &batch).await.is_err() || batch.len() < BATCH {
            return Ok(());
        }
    }
}

async fn read(app: &Ctx, partition: Partition) -> std::result::Result<Vec<Waiting>, RedisDown> {
    let mut oldest = Cmd::new();
    oldest.arg("ZRANGE").arg(Key::DirtyDrafts.of_partition(partition)).arg(0).arg(BATCH - 1);
    let Some(Value::Array(members)) = app.cache.redis.send(&[oldest]).await?.pop() else {
        return Ok(Vec::new());
    };
    let members: Vec<(Uuid, Uuid)> = members
        .into_iter()
        .filter_map(|member| {
            let member = Items::new(member).text();
            let (user, id) = member.split_once(':')?;
            Some((parse_id(user)?, parse_id(id)?))
        })
        .collect();
    if members.is_empty() {
        return Ok(Vec::new());
    }
    let reads: Vec<Cmd> = members
        .iter()
        .map(|(user, id)| {
            let mut fields = Cmd::new();
            fields.arg("HMGET").arg(Names::of(*user, *id).draft);
            fields.arg(&["version", "sealed", "saved_at", "sibling_of"]);
            fields
        })
        .collect();
    let values = app.cache.redis.send(&reads).await?;
    let drafts = members.into_iter().zip(values);
    Ok(drafts
        .filter_map(|((user, id), value)| Some(Waiting { user, id, stored: stored(&mut Items::new(value))? }))
        .collect())
}

/// Tells Redis what is in Postgres.
async fn note(app: &Ctx, batch: &[Waiting]) -> std::result::Result<(), RedisDown> {
    let lives = flushed_ms();
    let names: Vec<Names> = batch.iter().map(|waiting| Names::of(waiting.user, waiting.id)).collect();
    let calls: Vec<Call<'_>> = batch
        .iter()
        .zip(&names)
        .map(|(waiting, names)| Call {
            script: &app.cache.redis.scripts.flushed,
            keys: vec![&names.draft, &names.dirty],
            arguments: vec![waiting.stored.version.as_bytes(), names.member.as_bytes(), lives.as_bytes()],
        })
        .collect();
    app.cache.redis.call(&calls).await.map(drop)
}
