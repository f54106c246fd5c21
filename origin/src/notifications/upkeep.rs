//! Statements that keep notifications in order: old ones are removed, and counts of unread ones are compared and mended.
//!
//! The plane's jobs and its auditor run them.

use optimist_plane::statements;

statements! {
    /// Removes old ones, read or not.
    pub const CLEAN: &str = "-- notifications::clean
with old as (
    select user_id, id from notifications where updated_at < now() - interval '90 days' limit $1),
gone as (
    delete from notifications n using old
    where n.user_id = old.user_id and n.id = old.id and n.updated_at < now() - interval '90 days'
    returning n.user_id, n.read_at),
counted as (
    update notification_counts c set unread = c.unread - less.by
    from (select user_id, count(*) as by from gone where read_at is null group by user_id) less
    where c.user_id = less.user_id)
select count(*) from gone";

    pub const UNREAD: &str = "-- notifications::audit_unread
with sample as (
    select users.id, c.unread,
        (select count(*) from notifications n where n.user_id = users.id and n.read_at is null)::integer as real
    from users left join notification_counts c on c.user_id = users.id
    where users.id > $1 order by users.id limit $2),
added as (
    insert into notification_counts (user_id, unread)
    select id, real from sample where $3 and unread is null and real > 0 on conflict do nothing),
repaired as (
    update notification_counts c set unread = greatest(c.unread + s.real - s.unread, 0)
    from sample s where $3 and c.user_id = s.id and s.real <> s.unread)
select id, id, real <> coalesce(unread, 0) from sample order by id";
}
