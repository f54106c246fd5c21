//! Keeps notifications within bounds and in order: a person keeps the newest thousand, for ninety days; counts are compared and
//! mended.
//!
//! Whoever removes or adds a person's notifications locks their row of counts first.

use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::jobs::clean;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;

use crate::notifications::kept::kept;

/// The most that one statement removes: more than one adds.
const REMOVED: i64 = 2_000;
/// People whom a pass of the job brings within bounds.
const PEOPLE: i64 = 10;

statements! {
    /// Removes the oldest notifications of people who have more than a thousand, of the months from `$3` to `$4`. Selects how many
    /// it removed, and how many more there are to remove.
    const EVICT: &str = "-- notifications::evict, planned anew (2,000 rows)
with over as materialized (
    select user_id, held - 1000 as by, read_through from notification_counts
    where user_id = any($1) and held > 1000 order by user_id for update),
old as (
    select o.user_id, n.month, n.id, o.read_through from over o cross join lateral (
        select month, id from notifications n
        where n.user_id = o.user_id and n.month >= $3 and n.month <= $4 order by place limit o.by) n
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

    /// Removes old ones, read or not. The second look at their age is such that the planner cannot search by it.
    const CLEAN: &str = "-- notifications::clean
with old as (
    select user_id, month, id from notifications where updated_at < now() - interval '90 days' limit $1),
person as materialized (
    select user_id, read_through from notification_counts where user_id in (select user_id from old)
    order by user_id for update),
gone as (
    delete from notifications n using old join person using (user_id)
    where n.user_id = old.user_id and n.month = old.month and n.id = old.id
      and n.updated_at + interval '90 days' < now()
    returning n.user_id, n.month, n.id, n.kind, n.read_at is null and n.place > read_through as was_unread),
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
    select user_id, month, notification_id from notification_actors_gone order by user_id, notification_id limit $1
    for update skip locked),
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
with sample as (
    select users.id, c.unread, c.held, found.unread as real_unread, found.held as real_held
    from users left join notification_counts c on c.user_id = users.id
    cross join lateral (
        select count(*)::integer as held,
            (count(*) filter (where n.read_at is null and n.place > coalesce(c.read_through, -1)))::integer as unread
        from notifications n where n.user_id = users.id) found
    where users.id > $1 order by users.id limit $2),
added as (
    insert into notification_counts (user_id, unread, held)
    select id, real_unread, real_held from sample where $3 and held is null and real_held > 0 on conflict do nothing),
repaired as (
    update notification_counts c
    set unread = greatest(c.unread + s.real_unread - s.unread, 0), held = greatest(c.held + s.real_held - s.held, 0)
    from sample s where $3 and c.user_id = s.id and (s.real_unread, s.real_held) <> (s.unread, s.held))
select id, id, (real_unread, real_held) <> (coalesce(unread, 0), coalesce(held, 0)) from sample order by id";
}

/// Removes notifications of ninety days ago. Where there is an archive, their months go there instead.
pub async fn remove_old(ctx: &Ctx) -> Result<u64> {
    if ctx.config.archives("notifications") { Ok(0) } else { clean(ctx, CLEAN).await }
}

/// Removes the oldest notifications of those of these people who have more than they keep. Returns how many.
pub async fn evict(tx: &Tx, people: &[Uuid]) -> Result<u64> {
    if people.is_empty() {
        return Ok(0);
    }
    let mut evicted = 0;
    for (first, last) in kept().stretches() {
        let row = tx.query_one(EVICT, &[&people, &REMOVED, &first.first_day(), &last.first_day()]).await?;
        let (gone, left): (i64, i64) = (row.get(0), row.get(1));
        evicted += gone.cast_unsigned();
        if left <= 0 {
            break;
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
