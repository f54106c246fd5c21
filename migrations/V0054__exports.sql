-- What people take with them: one export of a person at a time, in sealed pieces, for a day.

set lock_timeout = '5s';

create table exports (
    user_id uuid primary key,
    id uuid not null,
    requested_at timestamptz not null default now(),
    -- The key of its pieces, sealed by the person's own.
    sealed_key bytea not null,
    -- How far it is: a place among its sections, and what was written by then.
    section smallint not null default 0,
    after text not null default '',
    pieces integer not null default 0,
    items bigint not null default 0,
    ready_at timestamptz
);
create index exports_waiting on exports (requested_at) where ready_at is null;
create index exports_ready on exports (ready_at) where ready_at is not null;

create table export_pieces (
    user_id uuid not null,
    export_id uuid not null,
    number integer not null,
    sealed bytea not null,
    primary key (user_id, export_id, number)
);

insert into sharded (name) values ('exports'), ('export_pieces');

-- The names of a mask's kinds, in the order of their bits.
create function kinds(mask smallint) returns text[] language sql immutable strict parallel safe
return array(select kind from unnest(array['message', 'mention', 'reaction', 'role', 'invite']) with ordinality each (kind, nth)
    where mask & (1 << (nth - 1)::integer) <> 0 order by nth);
