-- How `optimist-origin migrate` brings rows into partitions while people go on writing: step by step, each in a transaction of its
-- own, with a position from which it continues. It calls these functions; nothing else does.
--
-- First, while origins of an earlier release may live: months for notifications, and what circles know of their messages
-- (`prepare_part`). Then, when none does: a trigger sends each change of a table to its partitioned one as well, the rows from
-- before are copied (`copy_part`) and compared (`check_part`), and the tables change names (`replace_table`).

set lock_timeout = '5s';

create table replaced (
    -- A step, and the table that it is about.
    name text primary key,
    -- The key of the last row that the step has dealt with.
    position text[],
    done bigint not null default 0,
    finished_at timestamptz
);

-- The columns of a table's primary key, in its order.
create function key_of(name text) returns text[] language sql stable
return (
    select array_agg(a.attname::text order by k.place)
    from pg_index i
    cross join lateral unnest(i.indkey::int2[]) with ordinality as k (attnum, place)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indrelid = to_regclass(name) and i.indisprimary);

-- The columns of a table's primary key, each put into a format, as a list.
create function keys_as(name text, each text) returns text language sql stable
return (
    select string_agg(format(each, key), ', ' order by place) from unnest(key_of(name)) with ordinality as k (key, place));

-- That a row's key compares like this with a position, as SQL; `true` without a position.
create function compared(name text, comparison text, place text[]) returns text language sql stable
return case when place is null then 'true' else (
    select format('(%s) %s (%s)', keys_as(name, 't.%I'), comparison,
        string_agg(format('%L::%s', place[nth], format_type(a.atttypid, a.atttypmod)), ', ' order by nth))
    from unnest(key_of(name)) with ordinality as k (key, nth)
    join pg_attribute a on a.attrelid = to_regclass(name) and a.attname = key) end;

-- The key of the last of the next rows after a position, which get locked. Null if there are none.
create function next_place_of(name text, place text[], most integer, lock text) returns text[] language plpgsql as $$
declare
    last text[];
begin
    execute format(
        'with part as materialized (select %1$s from %2$I t where %3$s order by %1$s limit %4$s %5$s)
         select array[%6$s] from part order by %7$s limit 1',
        keys_as(name, 't.%I'), name, compared(name, '>', place), most, lock, keys_as(name, '%I::text'), keys_as(name, '%I desc'))
    into last;
    return last;
end $$;

-- Begins or continues a step. Null once it is finished.
create function step_of(step text) returns replaced language plpgsql as $$
declare
    found replaced;
begin
    insert into replaced (name) values (step) on conflict do nothing;
    select * into strict found from replaced where name = step for update;
    if found.finished_at is not null then
        return null;
    end if;
    return found;
end $$;

-- Notes how far a step is, and returns how many rows it has dealt with at most; -1 at its end.
create function step_done(step text, last text[], most bigint) returns bigint language sql as $$
    update replaced set position = coalesce(last, position), done = done + case when last is null then 0 else most end,
        finished_at = case when last is null then clock_timestamp() end
    where name = step
    returning case when last is null then -1 else done end
$$;

-- Gives some rows their months; or, of messages, tells their circles the months and the newest one.
create function prepare_part(parent text, most integer) returns bigint language plpgsql set lock_timeout = '1s' as $$
declare
    step replaced := step_of('prepare ' || parent);
    last text[];
    part text;
begin
    if step.name is null then
        return -1;
    end if;
    last := next_place_of(parent, step.position, most, case parent when 'messages' then '' else 'for update' end);
    part := compared(parent, '>', step.position) || ' and ' || compared(parent, '<=', last);
    if parent = 'messages' then
        execute format('
            with part as (select t.circle_id, id_month(t.id) as month, min(t.number) as first from messages t where %s group by 1, 2),
            found as (
                select circle_id, month, first from part
                union all
                select c.id, m.month, m.first
                from circles c cross join lateral unnest(c.months, c.month_numbers) as m (month, first)
                where c.id in (select circle_id from part)),
            merged as (
                select circle_id, array_agg(month order by month) as months, array_agg(first order by month) as numbers
                from (select circle_id, month, min(first) as first from found group by 1, 2) each group by 1)
            update circles c set months = merged.months, month_numbers = merged.numbers, last_id = newest.id
            from merged cross join lateral (
                select id from messages where messages.circle_id = merged.circle_id order by id desc limit 1) newest
            where c.id = merged.circle_id', part);
    else
        execute format('update %I t set month = id_month(t.%I) where t.month is null and %s', parent,
            case parent when 'notifications' then 'id' else 'notification_id' end, part);
    end if;
    return step_done(step.name, last, most);
end $$;

-- While a table is copied, each change of it goes to the partitioned one too. A row that is not copied yet is not there to be
-- changed: its copy will be of the newest version. The argument: a column that an update keeps as it is there.
create function copy_change() returns trigger language plpgsql as $$
declare
    target text := tg_table_name || '_parted';
    same text := (select string_agg(format('t.%1$I = ($1).%1$I', key), ' and ') from unnest(key_of(target)) key);
    sets text;
begin
    if tg_op = 'INSERT' then
        execute format('insert into %I select ($1).* on conflict do nothing', target) using new;
    elsif tg_op = 'DELETE' then
        execute format('delete from %I t where %s', target, same) using old;
    else
        select string_agg(format('%1$I = ($1).%1$I', attname), ', ') into sets
        from pg_attribute
        where attrelid = target::regclass and attnum > 0 and not attisdropped and attname <> all (key_of(target))
          and attname <> tg_argv[0];
        execute format('update %I t set %s where %s', target, sets, same) using new;
    end if;
    return null;
end $$;

-- Begins to replace a table: its newest partitions, and the trigger. Waits for nobody longer than its lock's timeout.
create function begin_replacing(parent text) returns void language plpgsql set lock_timeout = '200ms' as $$
begin
    perform make_leaf(parent, nth) from generate_series(leaf_now(parent) - 5, leaf_now(parent) + 3) nth;
    if not exists (select from pg_trigger where tgrelid = parent::regclass and tgname = 'copy_change') then
        execute format(
            'create trigger copy_change after insert or update or delete on %I for each row execute function copy_change(%L)',
            parent, case parent when 'messages' then 'number' else '' end);
    end if;
end $$;

-- Copies some rows. Messages get numbers in the order of their ids.
create function copy_part(parent text, most integer) returns bigint language plpgsql set lock_timeout = '1s' as $$
declare
    step replaced := step_of('copy ' || parent);
    row partitioned;
    last text[];
    part text;
    nth bigint;
begin
    if step.name is null then
        return -1;
    end if;
    last := next_place_of(parent, step.position, most, 'for share');
    if last is null then
        return step_done(step.name, last, most);
    end if;
    select * into strict row from partitioned where name = parent;
    part := format('%I t where %s and %s', parent, compared(parent, '>', step.position), compared(parent, '<=', last));
    for nth in execute format('select distinct month_number(%s) from %s',
        format(case row.cut when 'id' then 'id_time(t.%I)' else 't.%I::timestamp at time zone ''UTC''' end, row.key), part)
    loop
        perform make_leaf(parent, nth);
    end loop;
    if parent = 'messages' then
        execute format('
            insert into messages_parted (id, circle_id, number, author_id, body, version, created_at, edited_at, deleted_at)
            select t.id, t.circle_id,
                coalesce((select number from messages_parted p where p.circle_id = t.circle_id and (p.circle_id, p.id) = (%L, %L)), 0)
                    + row_number() over (partition by t.circle_id order by t.id),
                t.author_id, t.body, t.version, t.created_at, t.edited_at, t.deleted_at
            from %s on conflict (circle_id, id) do update set number = excluded.number',
            step.position[1], step.position[2], part);
    else
        execute format('insert into %I select t.* from %s on conflict do nothing', parent || '_parted', part);
    end if;
    return step_done(step.name, last, most);
end $$;

-- Tells some circles the numbers that their months begin with, now that messages have other numbers.
create function number_months(parent text, most integer) returns bigint language plpgsql set lock_timeout = '1s' as $$
declare
    step replaced := step_of('number ' || parent);
    last text[];
begin
    if step.name is null then
        return -1;
    end if;
    last := next_place_of(parent, step.position, most, 'for no key update');
    execute format('
        update circles t set month_numbers = array(
            select coalesce(first.number, known.number)
            from unnest(t.months, t.month_numbers) with ordinality as known (month, number, nth)
            left join lateral (
                select number from messages_parted m
                where m.circle_id = t.id and m.id >= id_least(known.month::timestamp at time zone ''UTC'') order by m.id limit 1) first on true
            order by nth)
        where cardinality(months) > 0 and %s and %s',
        compared(parent, '>', step.position), compared(parent, '<=', last));
    return step_done(step.name, last, most);
end $$;

-- Compares some rows of both tables, at one moment. Fails if any differ.
create function check_part(parent text, most integer) returns bigint language plpgsql as $$
declare
    step replaced := step_of('check ' || parent);
    last text[];
    part text;
    columns text := (
        select string_agg(format('t.%I', attname), ', ' order by attnum) from pg_attribute
        where attrelid = parent::regclass and attnum > 0 and not attisdropped and (parent, attname) <> ('messages', 'number'));
    differing bigint;
begin
    if step.name is null then
        return -1;
    end if;
    last := next_place_of(parent, step.position, most, '');
    part := compared(parent, '>', step.position) || ' and ' || compared(parent, '<=', last);
    execute format('
        with former as materialized (select %1$s from %2$I t where %4$s),
        copied as materialized (select %1$s from %3$I t where %4$s)
        select count(*) from (
            (select * from former except all select * from copied) union all
            (select * from copied except all select * from former)) each',
        columns, parent, parent || '_parted', part) into differing;
    if parent = 'messages' and differing = 0 then
        execute format('
            select count(*) from (
                select number - lag(number) over (partition by circle_id order by id) as step from messages_parted t where %s) each
            where step <> 1', part) into differing;
    end if;
    if differing > 0 then
        raise exception '% rows of % differ from their copies', differing, parent;
    end if;
    return step_done(step.name, last, most);
end $$;

-- Gives the partitioned table its name, and drops the former one.
create function replace_table(parent text) returns void language plpgsql set lock_timeout = '200ms' as $$
declare
    index text;
begin
    execute format('lock table %I in access exclusive mode', parent);
    execute format('alter table %I rename to %I', parent, parent || '_former');
    for index in select indexrelid::regclass::text from pg_index where indrelid = (parent || '_former')::regclass loop
        execute format('alter index %s rename to %I', index, left(index, 50) || '_former');
    end loop;
    execute format('alter table %I rename to %I', parent || '_parted', parent);
    for index in select indexrelid::regclass::text from pg_index where indrelid = parent::regclass loop
        if index like '%\_parted%' then
            execute format('alter index %s rename to %I', index, replace(index, '_parted', ''));
        end if;
    end loop;
    execute format('drop table %I', parent || '_former');
end $$;

-- The outbox is not copied: its rows become the oldest partition. Each call is a step: a check of up to where that one goes, not
-- validated yet; the validation; the change of names.
create function adopt_outbox() returns void language plpgsql set lock_timeout = '200ms' as $$
declare
    nth bigint := (
        select substring(conname from '[0-9]+$')::bigint from pg_constraint
        where conrelid = 'outbox'::regclass and conname like 'outbox\_before\_%');
    leaf text;
    newest bigint;
begin
    if nth is null then
        nth := leaf_now('outbox') + 1;
        execute format('alter table outbox add constraint outbox_before_%s check (xid < %L) not valid', nth, (nth << 24)::text);
        return;
    end if;
    if not (select convalidated from pg_constraint where conrelid = 'outbox'::regclass and conname = 'outbox_before_' || nth) then
        execute format('alter table outbox validate constraint outbox_before_%s', nth);
        return;
    end if;
    leaf := leaf_name('outbox', nth - 1);
    lock table outbox in access exclusive mode;
    newest := coalesce((select last_value from pg_sequences where schemaname = 'public' and sequencename = 'outbox_seq_seq'), 0);
    execute format('alter table outbox rename to %I', leaf);
    execute format('alter table %I alter column seq drop identity', leaf);
    execute format('alter index outbox_pkey rename to %I', leaf || '_pkey');
    execute format('alter index outbox_by_age rename to %I', leaf || '_by_age');
    alter table outbox_parted rename to outbox;
    alter index outbox_parted_pkey rename to outbox_pkey;
    alter index outbox_parted_by_age rename to outbox_by_age;
    perform setval(pg_get_serial_sequence('outbox', 'seq'), newest + 1);
    execute format('alter table outbox attach partition %I for values from (%L) to (%L)', leaf, '0', (nth << 24)::text);
    execute format('alter table %I drop constraint outbox_before_%s', leaf, nth);
    perform make_leaf('outbox', n) from generate_series(nth, leaf_now('outbox') + 8) n;
end $$;
