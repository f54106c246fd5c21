-- Names for what the seeds make, so that later statements can name it again. Dates count back from `bench.now`. Each seed defines
-- how many people there are (`bench.people`), how large circles are (`bench.messages`, `bench.members`) and who is in them.

set session_replication_role = replica;
select setseed(0.42);

create schema bench;
grant usage on schema bench to public;

-- The moment from which dates count back, in milliseconds.
select set_config('bench.now', (extract(epoch from now()) * 1000)::bigint::text, false);
create function bench.now() returns timestamptz language sql stable parallel safe as $$
    select to_timestamp(current_setting('bench.now')::bigint / 1000.0) $$;
-- Ids in the form and order of UUIDv7, derived from kind and number so that later statements can name them again.
create function bench.id_ago(ms bigint, kind text, n bigint) returns uuid language sql stable parallel safe as $$
    select (lpad(to_hex(current_setting('bench.now')::bigint - ms), 12, '0') || '7' || substr(md5(kind || n), 1, 3)
        || '8' || substr(md5(kind || n), 4, 15))::uuid $$;
create function bench.id(kind text, n bigint) returns uuid language sql stable parallel safe as $$
    select bench.id_ago(7200000 - n * 10, kind, n) $$;
create function bench.person(n bigint) returns uuid language sql stable parallel safe as $$ select bench.id('person', n) $$;
create function bench.session(n bigint) returns uuid language sql stable parallel safe as $$ select bench.id('session', n) $$;
create function bench.circle(n bigint) returns uuid language sql stable parallel safe as $$ select bench.id('circle', n) $$;
-- The first id of a month: that of an id, or so many months later.
create function bench.month_of(id uuid, later bigint) returns uuid language sql stable parallel safe as $$
    select id_least(month_begin(month_number(id_time(id)) + later)) $$;
-- The first day of this month, or of so many months later.
create function bench.month(later bigint) returns date language sql stable parallel safe as $$
    select (month_begin(month_number(bench.now()) + later) at time zone 'UTC')::date $$;
-- The spans that messages of one month are in.
create function bench.spans(messages uuid[]) returns uuid[] language sql stable parallel safe as $$
    select array[min(id::text)::uuid, max(id::text)::uuid, null, null, null, null, null, null] from unnest(messages) id $$;
