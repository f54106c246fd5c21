-- What circles are about. Each migration puts the categories of its release in place, from `categories.json`.

set lock_timeout = '5s';

create table categories (
    id text primary key,
    -- By language.
    names jsonb not null,
    place integer not null
);

-- Null: the owner names none.
alter table circles add column category text references categories;

-- Roughly when somebody last posted: a post moves it at most once an hour, since it is in indexes, and most posts must change none. Of
-- circles from before this migration it is not known until somebody posts there.
alter table circles add column active_at timestamptz not null default '2000-01-01';
alter table circles alter column active_at set default now();

create index circles_active on circles (active_at desc, id desc) where visibility = 'public' and archived_at is null;
create index circles_popular on circles (member_count desc, id desc) where visibility = 'public' and archived_at is null;
create index circles_of_category on circles (category, created_at desc, id desc) where visibility = 'public' and archived_at is null;
create index circles_active_of_category on circles (category, active_at desc, id desc)
    where visibility = 'public' and archived_at is null;
create index circles_popular_of_category on circles (category, member_count desc, id desc)
    where visibility = 'public' and archived_at is null;
