-- What happens in a circle, by day of UTC, as sums that are kept beside the rows that they are of. History begins here: no earlier day is
-- filled in, and `counted_from` says from when a circle's days are whole.

set lock_timeout = '5s';

-- Of existing circles tomorrow, since today is not whole; of others the day on which they were made.
alter table circles add column counted_from date not null default ((now() at time zone 'UTC')::date + 1);
alter table circles alter column counted_from set default (now() at time zone 'UTC')::date;

-- Written with each change of a circle's number of members, under the circle's lock.
create table member_days (
    circle_id uuid not null,
    day date not null,
    joined integer not null,
    departed integer not null,
    -- After the day's last change.
    members integer not null,
    primary key (circle_id, day)
);

do $$
declare
    name text;
begin
    -- The partitioned table has the second name until it replaces the first.
    foreach name in array array['activity', 'activity_parted'] loop
        if to_regclass(name) is not null then
            -- Of the posts, those that are comments.
            execute format('alter table %I add column comments integer not null default 0', name);
        end if;
    end loop;
end $$;

-- The sums of `activity` by circle and day. What follows from events, what is flushed, and what is erased stand in rows of their own,
-- so that none of these transactions waits for another's: only the sum of a day's rows means something.
create table activity_days (
    circle_id uuid not null,
    day date not null,
    part smallint not null,
    posts integer not null,
    comments integer not null,
    reactions integer not null,
    people integer not null,
    primary key (circle_id, day, part)
);

-- The sums of all days.
create table activity_totals (
    circle_id uuid not null,
    part smallint not null,
    comments bigint not null,
    reactions bigint not null,
    primary key (circle_id, part)
);
