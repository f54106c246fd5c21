-- Comments: messages that belong to another one. What its readers ask of a thread stands in the row of the message that began it.

set lock_timeout = '5s';

do $$
declare
    name text;
begin
    -- The partitioned table has the second name until it replaces the first.
    foreach name in array array['messages', 'messages_parted'] loop
        if to_regclass(name) is not null then
            execute format('alter table %I
                -- Of a comment: the message that it belongs to, which is no comment.
                add column parent_id uuid,
                -- How many comments there are, without those that are deleted.
                add column comments integer not null default 0,
                -- The months in which there were comments, in order.
                add column thread_months date[] not null default ''{}'',
                -- Who commented last, the latest at the end: they are told of further comments, as the author is.
                add column followers uuid[] not null default ''{}''', name);
            execute format('create index %I on %I (circle_id, parent_id, id) where parent_id is not null and deleted_at is null',
                name || '_in_thread', name);
        end if;
    end loop;
end $$;

-- A thread's followers after more comments: the last fifty authors, without that of its message.
create function followers_with(known uuid[], more uuid[], author uuid) returns uuid[] language sql immutable parallel safe
return array(
    select person from (
        select person, max(place) as last from unnest(known || more) with ordinality as each (person, place)
        where person <> author group by person order by last desc limit 50) latest
    order by last);

-- Copies some rows of a table that is to be in partitions. Messages get numbers in the order of their ids; of the columns of a
-- message, only the number differs.
create or replace function copy_part(parent text, most integer) returns bigint language plpgsql set lock_timeout = '1s' as $$
declare
    step replaced := step_of('copy ' || parent);
    row partitioned;
    last text[];
    part text;
    nth bigint;
    columns text := (
        select string_agg(format('%I', attname), ', ' order by attnum) from pg_attribute
        where attrelid = parent::regclass and attnum > 0 and not attisdropped and attname <> 'number');
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
            insert into messages_parted (%1$s, number)
            select %2$s,
                coalesce((select number from messages_parted p where p.circle_id = t.circle_id and (p.circle_id, p.id) = (%3$L, %4$L)), 0)
                    + row_number() over (partition by t.circle_id order by t.id)
            from %5$s on conflict (circle_id, id) do update set number = excluded.number',
            columns, 't.' || replace(columns, ', ', ', t.'), step.position[1], step.position[2], part);
    else
        execute format('insert into %I select t.* from %s on conflict do nothing', parent || '_parted', part);
    end if;
    return step_done(step.name, last, most);
end $$;
