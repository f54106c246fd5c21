-- Old months leave the database for an archive, and come back from it. The origin does it step by step, as the role that owns the
-- schema: a month is closed, its rows are copied to objects and compared, its partitions are detached, and dropped a week later.

set lock_timeout = '5s';

alter table partitioned
    -- The table whose months this one's go with; its own name, if others go with it or it goes alone. Null: it stays.
    add column goes_with text references partitioned (name),
    -- After the end of a month. A setting may say otherwise.
    add column age interval,
    -- Without an archive: old months are dropped once they are empty, or as they are. Null: they stay.
    add column drops text check (drops in ('empty', 'whole')),
    -- A function that removes some of a closed partition's rows, with what is counted of them.
    add column leaving text,
    -- Removes at most `%2$s` rows of erased people from the table `%1$s`, or their texts.
    add column erasing text;
update partitioned set goes_with = 'messages', age = '24 months' where name in ('messages', 'reactions', 'reaction_counts');
update partitioned set goes_with = 'notifications', age = '90 days', drops = 'empty'
where name in ('notifications', 'notification_actors');
update partitioned set goes_with = 'audit', age = '400 days', drops = 'whole' where name = 'audit';
update partitioned set leaving = 'leave_notifications' where name = 'notifications';
update partitioned set erasing = 'update %1$I set body = '''', deleted_at = coalesce(deleted_at, now()), version = version + 1
    where (circle_id, id) in (select circle_id, id from %1$I
        where author_id in (select user_id from erased) and (body <> '''' or deleted_at is null) limit %2$s)'
where name = 'messages';
update partitioned set erasing = 'delete from %1$I where (user_id, month, id) in (select user_id, month, id from %1$I
    where user_id in (select user_id from erased) limit %2$s)'
where name = 'notifications';
update partitioned set erasing = 'delete from %1$I where (user_id, month, notification_id, actor_id) in (
    select user_id, month, notification_id, actor_id from %1$I
    where user_id in (select user_id from erased) or actor_id in (select user_id from erased) limit %2$s)'
where name = 'notification_actors';

-- Months that are on their way to the archive, there, or back.
--
-- closed: nothing of it changes any more; written: its object was read back and is the same; leaving: its rows are going;
-- detached: no query reads them; dropped: they are in the object alone; restored: they are back.
create table archived (
    name text not null references partitioned (name),
    -- The number of the partition.
    nth bigint not null,
    month date not null,
    state text not null check (state in ('closed', 'written', 'leaving', 'detached', 'dropped', 'restored')),
    changed_at timestamptz not null default clock_timestamp(),
    -- Of the object: each has a name of its own.
    version integer not null default 1,
    rows bigint,
    -- Of the rows as CSV.
    sha256 text,
    -- The newest erased person whom the object has been searched for.
    erased bigint not null default 0,
    -- The age that was set when it was restored: it stays until another is.
    restored_at_age text,
    primary key (name, nth)
);

-- People whose texts and private rows leave the objects, and leave a month again that is restored.
create table erased (
    user_id uuid primary key,
    place bigint generated always as identity unique,
    erased_at timestamptz not null default now()
);

-- A closed partition passes over changes. Whoever asks finds no row changed, and looks for the reason.
create function pass_over() returns trigger language plpgsql as $$
begin
    if coalesce(current_setting('optimist.leaving', true), '') <> 'on' then
        return null;
    end if;
    return case tg_op when 'DELETE' then old else new end;
end $$;

-- Closes a month of a table and of those that go with it. The lock waits for whoever is changing the month, so that afterwards
-- nobody is.
create function close_month(lead text, nth bigint) returns void
language plpgsql set search_path = public, pg_temp set lock_timeout = '200ms' as $$
declare
    each record;
begin
    if month_begin(nth + 1) > now() then
        raise exception 'the month is not over';
    end if;
    for each in select name, leaf_name(name, close_month.nth) as leaf from partitioned where goes_with = lead order by name loop
        if close_month.nth in (select leaves(each.name)) then
            if not exists (select from pg_trigger where tgrelid = each.leaf::regclass and tgname = 'closed') then
                execute format('create trigger closed before insert or update or delete on %I
                    for each row execute function pass_over()', each.leaf);
            end if;
            insert into archived as known (name, nth, month, state)
            values (each.name, close_month.nth, (month_begin(close_month.nth) at time zone 'UTC')::date, 'closed')
            on conflict on constraint archived_pkey do update set state = 'closed', version = known.version + 1, changed_at = clock_timestamp(),
                rows = null, sha256 = null, erased = 0, restored_at_age = null
            where known.state = 'restored';
        end if;
    end loop;
end $$;

-- Removes some notifications of a closed month, and takes them off their people's counts. Returns how many.
create function leave_notifications(leaf text, most integer) returns bigint
language plpgsql set search_path = public, pg_temp set lock_timeout = '200ms' as $$
declare
    removed bigint;
begin
    perform set_config('optimist.leaving', 'on', true);
    execute format('
        with old as (select user_id, month, id from %1$I order by user_id, month, id limit %2$s),
        person as materialized (
            select user_id, read_through from notification_counts where user_id in (select user_id from old)
            order by user_id for update),
        gone as (
            delete from %1$I n using old left join person using (user_id)
            where (n.user_id, n.month, n.id) = (old.user_id, old.month, old.id)
            returning n.user_id, n.read_at is null and n.place > coalesce(read_through, -1) as was_unread),
        counted as (
            update notification_counts c
            set held = greatest(c.held - less.held, 0), unread = greatest(c.unread - less.unread, 0)
            from (
                select user_id, count(*)::integer as held, (count(*) filter (where was_unread))::integer as unread
                from gone group by user_id) less
            where c.user_id = less.user_id)
        select count(*) from gone', leaf, most) into removed;
    perform set_config('optimist.leaving', '', true);
    return removed;
end $$;

-- A table like a partition, which is not one yet; its constraint spares the search through it when it becomes one.
create function make_standalone(parent text, nth bigint, name text) returns void
language plpgsql set search_path = public, pg_temp set lock_timeout = '200ms' as $$
declare
    row partitioned;
begin
    select * into strict row from partitioned p where p.name = parent;
    execute format('drop table if exists %I', name);
    execute format('create table %I (like %I including all excluding identity)', name, parent);
    if row.own is not null then
        execute format(row.own, name);
    end if;
    execute format('alter table %1$I add constraint %2$I check (%3$I is not null and %3$I >= %4$L and %3$I < %5$L)',
        name, name || '_bounds', row.key, leaf_begin(row.cut, nth), leaf_begin(row.cut, nth + 1));
end $$;

-- Makes such a table the partition of its month.
create function attach_restored(parent text, nth bigint, name text, at_age text) returns void
language plpgsql set search_path = public, pg_temp set lock_timeout = '200ms' as $$
declare
    row partitioned;
    leaf text := leaf_name(parent, nth);
begin
    select * into strict row from partitioned p where p.name = parent;
    -- The one that was detached less than a week ago: whatever is attached cannot be dropped here.
    if exists (select from pg_inherits where inhrelid = to_regclass(leaf)) then
        raise exception 'the partition % is attached', leaf;
    end if;
    execute format('drop table if exists %I', leaf);
    execute format('alter table %I rename to %I', name, leaf);
    execute format('alter table %I attach partition %I for values from (%L) to (%L)',
        parent, leaf, leaf_begin(row.cut, nth), leaf_begin(row.cut, nth + 1));
    execute format('alter table %I drop constraint %I', leaf, name || '_bounds');
    update archived a set state = 'restored', changed_at = clock_timestamp(), restored_at_age = at_age
    where a.name = parent and a.nth = attach_restored.nth;
end $$;

-- The statement that copies the rows between two places of a table's key, as CSV, in its order.
create function copy_of(name text, columns text[], after text[], last text[]) returns text language sql stable
return format('copy (select %s from %I t where %s and %s order by %s) to stdout (format csv)',
    (select string_agg(format('t.%I', col), ', ' order by place) from unnest(columns) with ordinality as c (col, place)),
    name, compared(name, '>', after), compared(name, '<=', last), keys_as(name, 't.%I'));

-- Without an archive: drops months that are old enough, of tables whose old months may go. Returns how many.
create function drop_old_months(but text[]) returns bigint
language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '200ms' as $$
declare
    each record;
    holds boolean;
    dropped bigint := 0;
begin
    for each in
        select p.name, p.goes_with, p.drops, leaf as nth, leaf_name(p.name, leaf) as leaf
        from partitioned p cross join lateral leaves(p.name) leaf
        where p.drops is not null and p.goes_with <> all (but)
          and month_begin(leaf + 1) + p.age + interval '4 days' < now()
        order by nth, p.name <> p.goes_with
    loop
        -- The caller asks again for more.
        exit when dropped = 2;
        -- A month goes after that of the table that it goes with.
        if each.name <> each.goes_with and to_regclass(leaf_name(each.goes_with, each.nth)) is not null then
            continue;
        end if;
        execute format('select exists (select from %I)', each.leaf) into holds;
        if not holds or each.drops = 'whole' or each.name <> each.goes_with then
            execute format('drop table %I', each.leaf);
            delete from archived a where a.name = each.name and a.nth = each.nth;
            dropped := dropped + 1;
        end if;
    end loop;
    return dropped;
end $$;
revoke execute on function drop_old_months from public;
