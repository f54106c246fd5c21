-- Erasure goes once through a month's rows, in the order of their key. Before, each statement looked for the next thousand rows of
-- erased people, and read the month again from its beginning.

set lock_timeout = '5s';

-- Removes rows of erased people from the table `%1$s`, or their texts, among those of the condition `%2$s`. A person is looked up for
-- each row, since a join may read the whole list. Releases before this one read `erasing`.
alter table partitioned add column erases text;
update partitioned set erases = 'update %1$I t set body = '''', deleted_at = coalesce(deleted_at, now()), version = version + 1
    where %2$s and (select true from erased e where e.user_id = t.author_id) and (body <> '''' or deleted_at is null)'
where name = 'messages';
update partitioned set erases = 'delete from %1$I t where %2$s and (select true from erased e where e.user_id = t.user_id)'
where name = 'notifications';
update partitioned set erases = 'delete from %1$I t
    where %2$s and ((select true from erased e where e.user_id = t.user_id) or (select true from erased e where e.user_id = t.actor_id))'
where name = 'notification_actors';

-- Erases among the next rows after a place of the key of `name`, a table like those of `parent` that nobody else changes. Returns the
-- place of the last of these rows, null if there are none, and how many it changed or removed. Rows are found by where they lie: by the
-- bounds of their key, Postgres may look for them in another index.
create function erase_part(parent text, name text, after text[], most integer, out last text[], out changed bigint)
language plpgsql as $$
declare
    erases text;
begin
    select format(p.erases, erase_part.name, 't.ctid = any(array(select place from part))') into erases
    from partitioned p where p.name = parent;
    execute format(
        'with part as materialized (select t.ctid as place, %1$s from %2$I t where %3$s order by %1$s limit %4$s),
         changed as (%5$s returning 1)
         select (select array[%6$s] from part order by %7$s limit 1), (select count(*) from changed)',
        keys_as(name, 't.%I'), name, compared(name, '>', after), most, erases, keys_as(name, '%I::text'), keys_as(name, '%I desc'))
    into last, changed;
end $$;

-- How many rows a person, a log-in or a circle has, on average and roughly: one in so many rows is another's. Postgres counts for itself,
-- and where most have one row, its plan for all parameters may look for a row among all of its owner's, which are thousands for some.
-- Tables that are spread over shards are left as they are: each shard plans for its parameters.
do $$
declare
    each record;
begin
    for each in
        select * from (values
            ('moods', 'user_id', -0.02), ('journal_entries', 'user_id', -0.02), ('journal_tags', 'user_id', -0.01),
            ('drafts', 'user_id', -0.05), ('sessions', 'user_id', -0.02), ('sessions', 'family', -0.05),
            ('memberships', 'circle_id', -0.1), ('invites', 'circle_id', -0.1)) as known (name, col, part)
        where not (name in (select s.name from sharded s) and shard_of('00000000-0000-0000-0000-000000000000') <> 0)
    loop
        execute format('alter table %I alter column %I set (n_distinct = %s)', each.name, each.col, each.part);
        execute format('analyze %I (%I)', each.name, each.col);
    end loop;
end $$;

-- The maker's role is looked up by its key: a join may go through all members of the circle.
create or replace view usable_invites as
select i.id, i.circle_id, i.token_hash, i.token_key, i.created_by, i.for_user, i.created_at, i.expires_at
from invites i
join circles c on c.id = i.circle_id and c.archived_at is null
where i.used_at is null and i.revoked_at is null and i.expires_at > now()
  and (select maker.role in ('owner', 'moderator') from memberships maker
      where maker.circle_id = i.circle_id and maker.user_id = i.created_by);

-- Log-ins are asked for their live sessions only, of which there is an index; with this one a plan may read all that a log-in has had.
drop index sessions_of_family;
