-- Message ids that Postgres gives, in the order of their numbers; and what rows need before their tables can be partitioned.
--
-- An id is a UUIDv7: 48 bits of milliseconds, the version, 12 bits, the variant, 62 random bits. Milliseconds and the 12 bits
-- together are its place. A circle's places only grow, whatever the clock does.

set lock_timeout = '5s';

create function id_place(id uuid) returns bigint language sql immutable strict parallel safe
return ('x' || left(id::text, 8) || substr(id::text, 10, 4) || substr(id::text, 16, 3))::bit(60)::bigint;

-- A new id at a place.
create function id_at(place bigint) returns uuid language sql volatile parallel safe
return (lpad(to_hex(place >> 12), 12, '0') || '7' || lpad(to_hex(place & 4095), 3, '0')
    || substr(replace(gen_random_uuid()::text, '-', ''), 17))::uuid;

-- The first of `count` places after the id `last`, at most 4,096 of them: all in one millisecond, so that they are in one month.
create function next_place(last uuid, count bigint) returns bigint language sql volatile parallel safe
return (
    select case when (place & 4095) + count > 4096 then ((place >> 12) + 1) << 12 else place end
    from (select greatest(floor(extract(epoch from clock_timestamp()) * 1000)::bigint << 12, coalesce(id_place(last), 0) + 1)) as next (place));

-- When an id was given, to the millisecond.
create function id_time(id uuid) returns timestamptz language sql immutable strict parallel safe
return to_timestamp((id_place(id) >> 12) / 1000.0);

-- The month in which an id was given, by UTC: its first day.
create function id_month(id uuid) returns date language sql immutable strict parallel safe
return date_trunc('month', to_timestamp((id_place(id) >> 12) / 1000.0) at time zone 'UTC')::date;

-- Sorts before all ids that are given from then on.
create function id_least(at timestamptz) returns uuid language sql immutable strict parallel safe
return (lpad(to_hex(floor(extract(epoch from at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;

alter table circles
    -- Of the newest message.
    add column last_id uuid,
    -- The months in which there are messages, in order, and for each a number that no message of it is below.
    add column months date[] not null default '{}',
    add column month_numbers bigint[] not null default '{}';

-- 1: gives ids by `next_place`, and months to notifications. Earlier releases do not write it.
alter table origins add column release smallint not null default 0;

-- That of the notification's id. Rows of an earlier release get it here, older ones step by step.
alter table notifications add column month date;
alter table notification_actors add column month date;
alter table notification_actors_gone add column month date;

create function note_month() returns trigger language plpgsql as $$
begin
    if tg_table_name = 'notifications' then
        new.month := id_month(new.id);
    else
        new.month := id_month(new.notification_id);
    end if;
    return new;
end $$;
create trigger note_month before insert on notifications for each row execute function note_month();
create trigger note_month before insert on notification_actors for each row execute function note_month();
create trigger note_month before insert on notification_actors_gone for each row execute function note_month();
