-- The tables that grow without end, once more in partitions, empty: `optimist-origin migrate` fills them and gives them the
-- names of those that they replace.
--
-- No foreign keys: to check them row by row costs each write, and to attach a partition would lock what they refer to. Users and
-- circles are never deleted, and the statements that write here join both.

set lock_timeout = '5s';

-- How each table is cut: by month of an id's or a row's time, or by 2^24 transactions; how many partitions there are ahead of
-- the present one; and what each partition has of its own (`%1$s` is its name).
create table partitioned (
    name text primary key,
    key text not null,
    cut text not null check (cut in ('id', 'date', 'time', 'transaction')),
    ahead integer not null check (ahead > 0),
    own text
);
insert into partitioned (name, key, cut, ahead, own) values
    ('messages', 'id', 'id', 3, 'create unique index %1$s_number on %1$s (circle_id, number)'),
    ('reactions', 'message_id', 'id', 3, null),
    ('reaction_counts', 'message_id', 'id', 3, null),
    ('activity', 'day', 'date', 3, null),
    ('notifications', 'month', 'date', 3, null),
    ('notification_actors', 'month', 'date', 3, null),
    ('audit', 'at', 'time', 3, null),
    ('outbox', 'xid', 'transaction', 8, null);

-- The partitioned table of this name, which has another name until it replaces the former one.
create function parted(name text) returns text language sql stable parallel safe
return case when exists (select from pg_class where oid = to_regclass(name) and relkind = 'p') then name else name || '_parted' end;

create table messages_parted (like messages including defaults including constraints) partition by range (id);
alter table messages_parted add primary key (circle_id, id);
-- A page passes over deleted messages without reading them.
create index messages_shown on messages_parted (circle_id, id) where deleted_at is null;

create table reactions_parted (like reactions including defaults including constraints) partition by range (message_id);
alter table reactions_parted add primary key (circle_id, message_id, kind, user_id);
create index reactions_parted_in_order on reactions_parted (circle_id, message_id, reacted_at desc, user_id desc, kind desc)
    where is_on;
create index reactions_parted_taken_back on reactions_parted (reacted_at) where not is_on;

create table reaction_counts_parted (like reaction_counts including defaults including constraints)
    partition by range (message_id);
alter table reaction_counts_parted add primary key (circle_id, message_id, kind);

create table activity_parted (like activity including defaults including constraints) partition by range (day);
alter table activity_parted add primary key (circle_id, user_id, day);
create index activity_parted_newest on activity_parted (circle_id, day desc, user_id);
create index activity_parted_by_day on activity_parted (day);

create table notifications_parted (like notifications including defaults including constraints) partition by range (month);
alter table notifications_parted add primary key (user_id, month, id);
create index notifications_parted_newest on notifications_parted (user_id, month desc, updated_at desc, id desc);
create index notifications_parted_of_circle on notifications_parted (user_id, circle_id, month, id);
create index notifications_parted_placed on notifications_parted (user_id, place);
create index notifications_parted_by_age on notifications_parted (updated_at);
-- Reactions to one message are one notification a month, until it is read.
create unique index notifications_parted_folded on notifications_parted (user_id, circle_id, message_id, read_round, month)
    where kind = 'reaction' and read_at is null;

create table notification_actors_parted (like notification_actors including defaults including constraints)
    partition by range (month);
alter table notification_actors_parted add primary key (user_id, month, notification_id, actor_id);
-- Only for statements that say so: to find one person, Postgres might read everyone's.
create index notification_actors_parted_newest on notification_actors_parted
    (user_id, month, notification_id, acted_at desc) where acted_at is not null;

create table outbox_parted (like outbox including defaults including constraints including identity) partition by range (xid);
alter table outbox_parted add primary key (xid, seq);
create index outbox_parted_by_age on outbox_parted (created_at);

-- Who did what to an account, a circle or a role. Written from the outbox, in its order, and kept for longer.
create table audit (
    at timestamptz not null,
    xid xid8 not null,
    seq bigint not null,
    kind text not null,
    actor uuid,
    circle_id uuid,
    user_id uuid,
    payload jsonb not null,
    primary key (at, xid, seq)
) partition by range (at);
create index audit_of_circle on audit (circle_id, at desc, xid desc, seq desc) where circle_id is not null;
create index audit_of_user on audit (user_id, at desc, xid desc, seq desc) where user_id is not null;
create index audit_of_actor on audit (actor, at desc, xid desc, seq desc) where actor is not null;

-- The name of a partition.
create function leaf_name(parent text, nth bigint) returns text language sql stable parallel safe
return (
    select case p.cut
        when 'transaction' then format('%s_%s', parent, nth)
        else format('%s_%s_%s', parent, nth / 12, lpad((nth % 12 + 1)::text, 2, '0')) end
    from partitioned p where p.name = parent);

-- The number of the partition of a moment: months since the year 0, by UTC.
create function month_number(at timestamptz) returns bigint language sql immutable strict parallel safe
return extract(year from at at time zone 'UTC')::bigint * 12 + extract(month from at at time zone 'UTC')::bigint - 1;

-- The first moment of a month.
create function month_begin(nth bigint) returns timestamptz language sql immutable strict parallel safe
return make_timestamptz((nth / 12)::integer, (nth % 12 + 1)::integer, 1, 0, 0, 0, 'UTC');

-- Where a partition begins, as its table's `create` says it.
create function leaf_begin(cut text, nth bigint) returns text language sql stable strict parallel safe
return case cut
    when 'id' then id_least(month_begin(nth))::text
    when 'date' then (month_begin(nth) at time zone 'UTC')::date::text
    when 'time' then to_char(month_begin(nth) at time zone 'UTC', 'YYYY-MM-DD') || ' 00:00:00+00'
    else (nth << 24)::text end;

-- The partition that new rows of a table go to.
create function leaf_now(parent text) returns bigint language sql stable strict parallel safe
return (
    select case p.cut
        when 'transaction' then pg_snapshot_xmax(pg_current_snapshot())::text::bigint >> 24
        else month_number(clock_timestamp()) end
    from partitioned p where p.name = parent);

-- Makes the partition if there is none, and says whether there was none. The roles that serve may call it: it makes nothing
-- but empty partitions of the tables above, at most a year and a half ahead (sixteen, by transactions).
create function make_leaf(parent text, nth bigint) returns boolean
language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '200ms' as $$
declare
    row partitioned;
    leaf text := leaf_name(parent, nth);
begin
    select * into strict row from partitioned where name = parent;
    if nth > leaf_now(parent) + 18 then
        raise exception 'the partition % is too far ahead', leaf using errcode = 'invalid_parameter_value';
    end if;
    -- One at a time; others wait for no more than the lock's timeout.
    perform pg_advisory_xact_lock(hashtextextended('partition ' || parent, 0));
    if to_regclass(leaf) is not null then
        return false;
    end if;
    execute format('create table %I (like %I including all excluding identity)', leaf, parted(parent));
    if row.own is not null then
        execute format(row.own, leaf);
    end if;
    execute format('alter table %I attach partition %I for values from (%L) to (%L)',
        parted(parent), leaf, leaf_begin(row.cut, nth), leaf_begin(row.cut, nth + 1));
    return true;
end $$;

-- The attached partitions of a table, by their numbers.
create function leaves(parent text) returns setof bigint language sql stable as $$
    select case p.cut
        when 'transaction' then right(c.relname, -length(p.name) - 1)::bigint
        else left(right(c.relname, 7), 4)::bigint * 12 + right(c.relname, 2)::bigint - 1 end
    from partitioned p
    join pg_inherits i on i.inhparent = to_regclass(parted(p.name)) and not i.inhdetachpending
    join pg_class c on c.oid = i.inhrelid
    where p.name = parent and c.relname ~ ('^' || p.name || '_[0-9_]+$')
    order by 1
$$;

-- Removes the oldest partition of the outbox, if every region that is heard of and all consequences are past it, and all its rows
-- are a day old. Says whether it did. History before it is gone: the floor says so.
create function drop_outbox_leaf() returns boolean
language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '200ms' as $$
declare
    nth bigint := (select min(leaf) from leaves('outbox') leaf);
    leaf text := leaf_name('outbox', nth);
    after xid8 := ((nth + 1) << 24)::text::xid8;
    young boolean;
begin
    if nth is null or nth >= leaf_now('outbox')
        or exists (select from regions where seen_at > now() - interval '1 day' and cursor_xid < after)
        or exists (select from projections where xid < after) then
        return false;
    end if;
    execute format('select exists (select from %I where created_at > now() - interval ''24 hours'')', leaf) into young;
    if young then
        return false;
    end if;
    execute format('drop table %I', leaf);
    update outbox_floor set xid = greatest(xid, after), seq = case when xid < after then 0 else seq end;
    return true;
end $$;

-- They act with the rights of whoever owns the schema.
revoke execute on function make_leaf, drop_outbox_leaf from public;

-- No foreign key leaves a person's own rows: they are to be spread over shards by person.
alter table drafts drop constraint drafts_user_id_fkey;
alter table moods drop constraint moods_user_id_fkey;
alter table journal_entries drop constraint journal_entries_user_id_fkey;
alter table journal_entries drop constraint journal_entries_prompt_id_fkey;
alter table journal_keys drop constraint journal_keys_user_id_fkey;
alter table notification_counts drop constraint notification_counts_user_id_fkey;
