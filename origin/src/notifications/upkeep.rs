//! Keeps notifications within bounds and in order: a person keeps the newest thousand, for ninety days; counts are compared and
//! mended.
//!
//! Whoever removes or adds a person's notifications locks their row of counts first.

use chrono::NaiveDate;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::jobs::clean;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;

use crate::notifications::counts::lock_counts;
use crate::notifications::kept::kept;

/// The most that one statement removes: more than one adds.
const REMOVED: i64 = 2_000;
/// Old ones that are removed together.
const OLD_AT_ONCE: i64 = 1_000;
/// People whom a pass of the job brings within bounds.
const PEOPLE: i64 = 10;

statements! {
    /// Removes the oldest notifications of people who have more than a thousand and whose counts are locked, of the months from
    /// `$3` to `$4`. Selects how many it removed, and how many more there are to remove.
    const EVICT: &str = "-- notifications::evict, planned anew (2,000 rows)
with over as materialized (
    select user_id, held - 1000 as by, read_through from notification_counts
    where user_id = any($1) and held > 1000),
old as (
    select o.user_id, n.month, n.id, o.read_through from over o cross join lateral (
        select month, id from notifications n
        where n.user_id = o.user_id and n.user_id = any($1) and n.month >= $3 and n.month <= $4 order by place limit o.by) n
    limit $2),
gone as (
    delete from notifications n using old
    where n.user_id = old.user_id and n.month = old.month and n.month >= $3 and n.month <= $4 and n.id = old.id
    returning n.user_id, n.month, n.id, n.kind, n.read_at is null and n.place > old.read_through as was_unread),
queued as (
    insert into notification_actors_gone (user_id, month, notification_id)
    select user_id, month, id from gone where kind = 'reaction' on conflict do nothing),
counted as (
    update notification_counts c set held = c.held - less.held, unread = c.unread - less.unread
    from (
        select user_id, count(*)::integer as held, (count(*) filter (where was_unread))::integer as unread
        from gone group by user_id) less
    where c.user_id = less.user_id)
select (select count(*) from gone), (select coalesce(sum(by), 0) from over)::bigint - (select count(*) from gone)";

    /// People who have more than a thousand: the release before made them.
    const OVER: &str = "-- notifications::over
select user_id from notification_counts where held > 1000 order by user_id limit $1";

    /// Old ones, read or not.
    const OLD: &str = "-- notifications::old
select user_id, month, id from notifications where updated_at < now() - interval '90 days' limit $1";

    /// Removes those of these that are old still, of people whose counts are locked. The second look at their age is such that
    /// the planner cannot search by it.
    const CLEAN: &str = "-- notifications::clean
with gone as (
    delete from notifications n using unnest($1::uuid[], $2::date[], $3::uuid[]) as old (user_id, month, id), notification_counts c
    where n.user_id = old.user_id and n.month = old.month and n.month = any($2) and n.id = old.id and c.user_id = n.user_id
      and n.updated_at at time zone 'UTC' < (now() - interval '90 days') at time zone 'UTC'
    returning n.user_id, n.month, n.id, n.kind, n.read_at is null and n.place > c.read_through as was_unread),
queued as (
    insert into notification_actors_gone (user_id, month, notification_id)
    select user_id, month, id from gone where kind = 'reaction' on conflict do nothing),
counted as (
    update notification_counts c set held = c.held - less.held, unread = c.unread - less.unread
    from (
        select user_id, count(*)::integer as held, (count(*) filter (where was_unread))::integer as unread
        from gone group by user_id) less
    where c.user_id = less.user_id)
select count(*) from gone";

    /// Removes the people of notifications that are gone. With fewer than `$1` of them, all of these notifications are done.
    pub const CLEAN_ACTORS: &str = "-- notifications::clean_actors
with one as (
    select user_id, month, notification_id from notification_actors_gone order by user_id, notification_id limit $1),
actor as materialized (
    select user_id, month, notification_id, actor_id from one join notification_actors using (user_id, month, notification_id)
    limit $1),
gone as (
    delete from notification_actors a using actor
    where (a.user_id, a.month, a.notification_id, a.actor_id)
        = (actor.user_id, actor.month, actor.notification_id, actor.actor_id)),
done as (
    delete from notification_actors_gone g using one
    where (g.user_id, g.notification_id) = (one.user_id, one.notification_id) and (select count(*) from actor) < $1)
select greatest((select count(*) from one), (select count(*) from actor))";

    pub const COUNTS: &str = "-- notifications::audit_counts (200,000 rows)
with person as (select id from users where id > $1 order by id limit $2),
found as (
    select user_id, max(unread) as unread, max(held) as held, count(id)::integer as real_held,
        (count(id) filter (where read_at is null and place > coalesce(read_through, -1)))::integer as real_unread
    from (select user_id, unread, held, read_through from notification_counts where user_id in (select id from person)) c
    full join (select user_id, id, read_at, place from notifications where user_id in (select id from person)) n using (user_id)
    group by user_id),
sample as (
    select id, unread, held, coalesce(real_unread, 0) as real_unread, coalesce(real_held, 0) as real_held
    from person left join found on user_id = id),
added as (
    insert into notification_counts (user_id, unread, held)
    select id, real_unread, real_held from sample where $3 and held is null and real_held > 0 on conflict do nothing),
repaired as (
    update notification_counts c
    set unread = greatest(c.unread + s.real_unread - s.unread, 0), held = greatest(c.held + s.real_held - s.held, 0)
    from sample s where $3 and c.user_id = s.id and (s.real_unread, s.real_held) <> (s.unread, s.held))
select id, id, (real_unread, real_held) <> (coalesce(unread, 0), coalesce(held, 0)) from sample order by id";
}

/// Removes notifications of ninety days ago. Where there is an archive, their months go there instead, unless they are on shards.
pub async fn remove_old(ctx: &Ctx) -> Result<u64> {
    if ctx.config.archives("notifications") && !ctx.db.is_spread().await? {
        return Ok(0);
    }
    let mut removed = 0;
    loop {
        let tx = Tx::begin(&ctx.db).await?;
        let some = remove_some_old(&tx).await;
        let (found, gone) = tx.end(some).await?;
        removed += gone;
        // Those that it found and leaves have no counts, which the auditor mends.
        if found < OLD_AT_ONCE || gone == 0 {
            return Ok(removed);
        }
    }
}

/// Returns how many it found, and how many it removed.
async fn remove_some_old(tx: &Tx) -> Result<(i64, u64)> {
    let rows = tx.query(OLD, &[&OLD_AT_ONCE]).await?;
    let users: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    let months: Vec<NaiveDate> = rows.iter().map(|row| row.get(1)).collect();
    let ids: Vec<Uuid> = rows.iter().map(|row| row.get(2)).collect();
    if rows.is_empty() {
        return Ok((0, 0));
    }
    lock_counts(tx, &users).await?;
    let gone: i64 = tx.query_one(CLEAN, &[&users, &months, &ids]).await?.get(0);
    Ok((rows.len() as i64, gone.cast_unsigned()))
}

/// Removes the oldest notifications of those of these people who have more than they keep. Returns how many.
pub async fn evict(tx: &Tx, people: &[Uuid]) -> Result<u64> {
    if people.is_empty() {
        return Ok(0);
    }
    lock_counts(tx, people).await?;
    let mut evicted = 0;
    // Citus finds the oldest of each person within one shard only.
    for people in tx.together(people).await? {
        for (first, last) in kept().stretches() {
            let row =
                tx.query_one(EVICT, &[&people, &REMOVED, &first.first_day(), &last.first_day()]).await?;
            let (gone, left): (i64, i64) = (row.get(0), row.get(1));
            evicted += gone.cast_unsigned();
            if left <= 0 {
                break;
            }
        }
    }
    Ok(evicted)
}

/// Brings everyone within bounds. Returns how many notifications that removed.
pub async fn bring_within_bounds(ctx: &Ctx) -> Result<u64> {
    let mut removed = clean(ctx, CLEAN_ACTORS).await?;
    loop {
        let rows = ctx.db.query(OVER, &[&PEOPLE]).await?;
        let people: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
        if people.is_empty() {
            return Ok(removed);
        }
        let tx = Tx::begin(&ctx.db).await?;
        let evicted = evict(&tx, &people).await;
        let evicted = tx.end(evicted).await?;
        removed += evicted;
        if evicted == 0 {
            // Their numbers are wrong, which the auditor mends.
            return Ok(removed);
        }
    }
}
