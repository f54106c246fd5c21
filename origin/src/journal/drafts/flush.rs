//! Flushing drafts: every few seconds, what was saved in Redis comes to Postgres.
//!
//! A row takes a newer version alone, and a deleted one none, so any number of origins may flush, and any may die. A text
//! that the row cannot take, because it went another way, is kept as a sibling.

use std::time::Duration;

use ::redis::{Cmd, Value};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Partition, Uuid, parse_id};
use optimist_shared::keys::Key;

use crate::journal::drafts::draft::Stored;
use crate::journal::drafts::saving::checked_version;
use crate::journal::drafts::store::{Names, flushed_ms, fork, stored};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::hooks;
use optimist_plane::redis::{Call, Items, RedisDown};

/// How often: what a lost Redis can cost at most.
const EVERY: Duration = Duration::from_secs(3);
/// Drafts of a partition in one batch: of the longest there are, some megabytes.
const BATCH: usize = 50;

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
with gone as (
    delete from drafts where ctid = any(array(
        select ctid from drafts where deleted_at < now() - interval '1 day' limit $1))
    returning 1)
select count(*) from gone";

pub const STATEMENTS: &[&str] = &[UPSERT, WHY, CLEAN];

/// Runs until the process ends.
pub async fn run(app: Ctx) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for partition in waiting(&app).await.unwrap_or_default() {
            match flush(&app, partition).await {
                // Without Postgres they wait; the breaker has said so.
                Err(error) if error.code == ErrorCode::Unavailable => break,
                // What is wrong with one partition is no other's affair; it was logged where it happened.
                _ => {}
            }
        }
    }
}

/// Flushes what waits in any partition. How many drafts.
pub async fn flush_waiting(app: &Ctx) -> Result<u64> {
    let mut flushed = 0;
    for partition in waiting(app).await.unwrap_or_default() {
        flushed += flush(app, partition).await?;
    }
    Ok(flushed)
}

/// Flushes what waits in the partition of a user, and with it their drafts. Without Redis there is nothing.
pub async fn flush_of(app: &Ctx, user: Uuid) -> Result<()> {
    flush(app, Partition::of(user)).await.map(drop)
}

async fn waiting(app: &Ctx) -> std::result::Result<Vec<Partition>, RedisDown> {
    let commands: Vec<Cmd> = Partition::all()
        .map(|partition| {
            let mut command = Cmd::new();
            command.arg("ZCARD").arg(Key::DirtyDrafts.of_partition(partition));
            command
        })
        .collect();
    let counts = app.redis.send(commands).await?;
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

/// The oldest of those that wait in a partition, but for so many.
struct Batch {
    drafts: Vec<Waiting>,
    /// Named as waiting, and not there, or nothing that a save has written.
    missing: Vec<Names>,
    is_full: bool,
}

/// How many drafts of a partition are in Postgres now that were not.
async fn flush(app: &Ctx, partition: Partition) -> Result<u64> {
    // Those that stay as they are hinder nobody behind them.
    let (mut flushed, mut left) = (0, 0);
    loop {
        let Ok(batch) = read(app, partition, left).await else { return Ok(flushed) };
        let Batch { mut drafts, missing, is_full } = batch;
        if !drafts.is_empty() {
            hooks::step("drafts.flush").await;
            let unreadable = upsert(app, &drafts).await?;
            hooks::step("drafts.flushed").await;
            left += unreadable.len();
            drafts.retain(|waiting| !unreadable.contains(&(waiting.user, waiting.id)));
        }
        let Ok(noted) = note(app, &drafts, &missing).await else { return Ok(flushed) };
        let (drafts, missing) = noted.split_at(drafts.len());
        flushed += drafts.iter().filter(|is_newest| **is_newest).count() as u64;
        left += missing.iter().filter(|is_gone| !**is_gone).count();
        if !is_full {
            return Ok(flushed);
        }
    }
}

/// Brings drafts to Postgres. What a row has gone past on another way is kept as a sibling; those of which that is true, and
/// that do not open, are returned: nobody can do anything about them here.
async fn upsert(app: &Ctx, drafts: &[Waiting]) -> Result<Vec<(Uuid, Uuid)>> {
    let users: Vec<Uuid> = drafts.iter().map(|waiting| waiting.user).collect();
    let ids: Vec<Uuid> = drafts.iter().map(|waiting| waiting.id).collect();
    let versions: Vec<&str> = drafts.iter().map(|waiting| waiting.stored.version.as_str()).collect();
    let sealed: Vec<&[u8]> = drafts.iter().map(|waiting| waiting.stored.sealed.as_slice()).collect();
    let siblings: Vec<Option<Uuid>> = drafts.iter().map(|waiting| waiting.stored.sibling_of).collect();
    let times: Vec<_> = drafts.iter().map(|waiting| waiting.stored.saved_at).collect();
    let taken = app.db.query(UPSERT, &[&users, &ids, &versions, &sealed, &siblings, &times]).await?;
    let taken: Vec<(Uuid, Uuid)> = taken.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut unreadable = Vec::new();
    for row in app.db.query(WHY, &[&users, &ids]).await? {
        let (user, id): (Uuid, Uuid) = (row.get(0), row.get(1));
        let (version, overtook, is_gone): (String, String, bool) = (row.get(2), row.get(3), row.get(4));
        let Some(waiting) = drafts.iter().find(|waiting| (waiting.user, waiting.id) == (user, id)) else {
            continue;
        };
        let own = &waiting.stored.version;
        let is_contained = if is_gone { *own <= version } else { *own == version || *own <= overtook };
        if taken.contains(&(user, id)) || is_contained {
            continue;
        }
        match fork(app, user, id, &waiting.stored).await {
            Ok(()) => {}
            Err(error) if error.is_refused() => {
                tracing::error!(%user, draft = %id, "a draft can be kept nowhere: it does not open");
                metrics::counter!("optimist_drafts_unreadable_total").increment(1);
                unreadable.push((user, id));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(unreadable)
}

async fn read(app: &Ctx, partition: Partition, from: usize) -> std::result::Result<Batch, RedisDown> {
    let mut oldest = Cmd::new();
    oldest.arg("ZRANGE").arg(Key::DirtyDrafts.of_partition(partition)).arg(from).arg(from + BATCH - 1);
    let members = match app.redis.send([oldest]).await?.pop() {
        Some(Value::Array(members)) => members,
        _ => Vec::new(),
    };
    let is_full = members.len() == BATCH;
    let members: Vec<(Uuid, Uuid)> = members
        .into_iter()
        .filter_map(|member| {
            let member = Items::new(member).text();
            let (user, id) = member.split_once(':')?;
            Some((parse_id(user)?, parse_id(id)?))
        })
        .collect();
    let mut batch = Batch { drafts: Vec::new(), missing: Vec::new(), is_full };
    if members.is_empty() {
        return Ok(batch);
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
    let values = app.redis.send(reads).await?;
    for ((user, id), value) in members.into_iter().zip(values) {
        match stored(&mut Items::new(value)).filter(|stored| checked_version(&stored.version).is_ok()) {
            Some(stored) => batch.drafts.push(Waiting { user, id, stored }),
            None => batch.missing.push(Names::of(user, id)),
        }
    }
    Ok(batch)
}

/// Tells Redis what is in Postgres, and that nothing waits where nothing is. Of each, whether nothing is left to be done.
async fn note(app: &Ctx, drafts: &[Waiting], missing: &[Names]) -> std::result::Result<Vec<bool>, RedisDown> {
    let lives = flushed_ms();
    let names: Vec<Names> = drafts.iter().map(|waiting| Names::of(waiting.user, waiting.id)).collect();
    let versions = drafts.iter().map(|waiting| waiting.stored.version.as_str());
    let noted = names.iter().zip(versions).chain(missing.iter().map(|names| (names, "")));
    let calls: Vec<Call<'_>> = noted
        .map(|(names, version)| Call {
            script: &app.redis.scripts.flushed,
            keys: vec![&names.draft, &names.dirty],
            arguments: vec![version.as_bytes(), names.member.as_bytes(), lives.as_bytes()],
        })
        .collect();
    if calls.is_empty() {
        return Ok(Vec::new());
    }
    let values = app.redis.call(&calls).await?;
    Ok(values.into_iter().map(|value| Items::new(value).int() == 1).collect())
}
