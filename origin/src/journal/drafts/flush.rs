//! Flushing drafts: every few seconds, the versions that Redis holds come to Postgres.
//!
//! A row takes a newer version only, and a deleted row takes none, so any number of origins may flush, and any may die. If the
//! row went another way, the text becomes a sibling.

use std::time::Duration;

use ::redis::{Cmd, Value};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::redis::{Items, RedisDown};
use optimist_plane::{hooks, statements};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Partition, Uuid, parse_id};
use optimist_shared::keys::Key;
use optimist_shared::scripts::drafts::{Draft, is_settled};
use optimist_shared::scripts::{Call, Scalars as _};

use crate::journal::drafts::draft::Stored;
use crate::journal::drafts::store::fork;
use crate::journal::drafts::version::Version;
use crate::journal::sealing::hold_all;

/// The interval of flushes: a lost Redis costs at most this much writing.
const EVERY: Duration = Duration::from_secs(3);
/// Drafts of a partition in one batch: some megabytes if all are as long as they may be.
const BATCH: usize = 50;

statements! {
    const UPSERT: &str = "-- drafts::flush
insert into drafts as d (user_id, id, version, sealed, sibling_of, saved_at)
select flushed.* from unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[], $5::uuid[], $6::timestamptz[])
    as flushed (user_id, id, version, sealed, sibling_of, saved_at)
join users on users.id = flushed.user_id and users.status <> 'erased'
on conflict (user_id, id) do update
    set version = excluded.version, sealed = excluded.sealed, saved_at = excluded.saved_at
    where d.deleted_at is null and excluded.version > d.version and excluded.version > d.overtook
returning user_id, id";

    const WHY: &str = "-- drafts::why
select d.user_id, d.id, d.version, d.overtook, d.deleted_at is not null from drafts d
join unnest($1::uuid[], $2::uuid[]) as kept (user_id, id) using (user_id, id)";

    /// A tombstone lives for a day: longer than any flush that may still bring the draft.
    pub const CLEAN: &str = "-- drafts::clean
with gone as (
    delete from drafts where (user_id, id) in (
        select user_id, id from drafts where deleted_at < now() - interval '1 day' and entry_id is null limit $1)
    returning 1)
select count(*) from gone";

    /// A device may send its last auto-save weeks later. Of a person there are at most ten a day.
    pub const CLEAN_SAVED: &str = "-- drafts::clean_saved
with gone as (
    delete from drafts where (user_id, id) in (
        select user_id, id from drafts where deleted_at < now() - interval '30 days' limit $1)
    returning 1)
select count(*) from gone";
}

/// Runs until the process ends.
pub async fn run(ctx: Ctx) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for partition in waiting(&ctx).await.unwrap_or_default() {
            match flush(&ctx, partition).await {
                // Without Postgres the drafts wait; the breaker has logged why.
                Err(error) if error.code == ErrorCode::Unavailable => break,
                // One partition's failure does not stop the others; it was logged where it happened.
                _ => {}
            }
        }
    }
}

/// Flushes the drafts that wait in any partition. Returns how many.
pub async fn flush_waiting(ctx: &Ctx) -> Result<u64> {
    let mut flushed = 0;
    for partition in waiting(ctx).await.unwrap_or_default() {
        flushed += flush(ctx, partition).await?;
    }
    Ok(flushed)
}

/// Flushes the partition of a user, and with it their drafts. Without Redis it flushes nothing.
pub async fn flush_of(ctx: &Ctx, user: Uuid) -> Result<()> {
    flush(ctx, Partition::of(user)).await.map(drop)
}

/// The partitions in which drafts wait.
async fn waiting(ctx: &Ctx) -> std::result::Result<Vec<Partition>, RedisDown> {
    let commands: Vec<Cmd> = Partition::all()
        .map(|partition| {
            let mut command = Cmd::new();
            command.arg("ZCARD").arg(Key::DirtyDrafts.of_partition(partition));
            command
        })
        .collect();
    let counts = ctx.redis.send(commands).await?;
    let counts: Vec<i64> = counts.into_iter().map(|value| Items::new(value).int()).collect();
    metrics::gauge!("optimist_drafts_waiting").set(counts.iter().sum::<i64>() as f64);
    Ok(Partition::all().zip(counts).filter(|(_, count)| *count > 0).map(|(partition, _)| partition).collect())
}

/// A draft that waits for Postgres.
struct Waiting {
    draft: Draft,
    stored: Stored,
}

/// The oldest waiting drafts of a partition, skipping some.
struct Batch {
    drafts: Vec<Waiting>,
    /// Drafts that the set names, and that Redis does not have in a form that a save writes.
    missing: Vec<Draft>,
    is_full: bool,
}

/// Flushes a partition. Returns how many drafts are in Postgres now and were not before.
async fn flush(ctx: &Ctx, partition: Partition) -> Result<u64> {
    // Drafts that cannot be flushed are skipped, so that they do not hold up the others.
    let (mut flushed, mut left) = (0, 0);
    loop {
        let Ok(batch) = read(ctx, partition, left).await else { return Ok(flushed) };
        let Batch { mut drafts, missing, is_full } = batch;
        if !drafts.is_empty() {
            hooks::step("drafts.flush").await;
            let unreadable = upsert(ctx, &drafts).await?;
            hooks::step("drafts.flushed").await;
            left += unreadable.len();
            drafts.retain(|waiting| !unreadable.contains(&waiting.draft));
        }
        let Ok(noted) = note(ctx, &drafts, &missing).await else { return Ok(flushed) };
        let (drafts, missing) = noted.split_at(drafts.len());
        flushed += drafts.iter().filter(|is_newest| **is_newest).count() as u64;
        left += missing.iter().filter(|is_gone| !**is_gone).count();
        if !is_full {
            return Ok(flushed);
        }
    }
}

/// Brings drafts to Postgres. A text whose row went another way becomes a sibling. Returns the drafts that cannot become one,
/// because they do not open or because of a defect of ours. They stay in Redis, and in the set.
async fn upsert(ctx: &Ctx, drafts: &[Waiting]) -> Result<Vec<Draft>> {
    let users: Vec<Uuid> = drafts.iter().map(|waiting| waiting.draft.user).collect();
    let ids: Vec<Uuid> = drafts.iter().map(|waiting| waiting.draft.draft).collect();
    let versions: Vec<&str> = drafts.iter().map(|waiting| waiting.stored.version.as_str()).collect();
    let sealed: Vec<&[u8]> = drafts.iter().map(|waiting| waiting.stored.sealed.as_slice()).collect();
    let siblings: Vec<Option<Uuid>> = drafts.iter().map(|waiting| waiting.stored.sibling_of).collect();
    let times: Vec<_> = drafts.iter().map(|waiting| waiting.stored.saved_at).collect();
    hold_all(ctx, &users).await?;
    let taken = ctx.db.query(UPSERT, &[&users, &ids, &versions, &sealed, &siblings, &times]).await?;
    let taken: Vec<Draft> = taken.iter().map(|row| Draft { user: row.get(0), draft: row.get(1) }).collect();
    let mut unreadable = Vec::new();
    for row in ctx.db.query(WHY, &[&users, &ids]).await? {
        let draft = Draft { user: row.get(0), draft: row.get(1) };
        let (version, overtook, is_gone): (String, String, bool) = (row.get(2), row.get(3), row.get(4));
        let Some(waiting) = drafts.iter().find(|waiting| waiting.draft == draft) else { continue };
        let own = &waiting.stored.version;
        let is_contained = if is_gone { *own <= version } else { *own == version || *own <= overtook };
        if taken.contains(&draft) || is_contained {
            continue;
        }
        match fork(ctx, draft.user, draft.draft, &waiting.stored).await {
            Ok(()) => {}
            // The reason does not matter: this draft must not hold up the others.
            Err(error) if error.code == ErrorCode::Internal => {
                tracing::error!(user = %draft.user, draft = %draft.draft, "a draft cannot be kept as a sibling");
                metrics::counter!("optimist_drafts_unreadable_total").increment(1);
                unreadable.push(draft);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(unreadable)
}

/// Reads a batch of a partition, skipping the oldest `from` drafts.
async fn read(ctx: &Ctx, partition: Partition, from: usize) -> std::result::Result<Batch, RedisDown> {
    let mut oldest = Cmd::new();
    oldest.arg("ZRANGE").arg(Key::DirtyDrafts.of_partition(partition)).arg(from).arg(from + BATCH - 1);
    let members = match ctx.redis.send([oldest]).await?.pop() {
        Some(Value::Array(members)) => members,
        _ => Vec::new(),
    };
    let is_full = members.len() == BATCH;
    let members: Vec<Draft> = members
        .into_iter()
        .filter_map(|member| {
            let member = Items::new(member).text();
            let (user, draft) = member.split_once(':')?;
            Some(Draft { user: parse_id(user)?, draft: parse_id(draft)? })
        })
        .collect();
    let mut batch = Batch { drafts: Vec::new(), missing: Vec::new(), is_full };
    if members.is_empty() {
        return Ok(batch);
    }
    let reads = members.iter().map(|draft| {
        let mut fields = Cmd::new();
        fields.arg("HMGET").arg(Key::draft(draft.user, draft.draft).name());
        fields.arg(&["version", "sealed", "saved_at", "sibling_of"]);
        fields
    });
    let values = ctx.redis.send(reads).await?;
    for (draft, value) in members.iter().zip(values) {
        match Stored::read(&mut Items::new(value)).filter(|stored| Version::is_one(&stored.version)) {
            Some(stored) => batch.drafts.push(Waiting { draft: *draft, stored }),
            None => batch.missing.push(*draft),
        }
    }
    Ok(batch)
}

/// Tells Redis which versions are in Postgres, and which drafts are nowhere. Of each, whether nothing is left to be done.
async fn note(ctx: &Ctx, drafts: &[Waiting], missing: &[Draft]) -> std::result::Result<Vec<bool>, RedisDown> {
    let flushed = drafts.iter().map(|waiting| waiting.draft.flushed(&waiting.stored.version));
    let calls: Vec<Call<'_>> = flushed.chain(missing.iter().map(|draft| draft.flushed(""))).collect();
    let replies = ctx.redis.call(&calls).await?;
    Ok(replies.into_iter().map(|mut reply| is_settled(&mut reply)).collect())
}
