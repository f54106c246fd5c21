-- What keeps Redis honest: the regions and their epochs, the origins alive in them, the outbox.

set lock_timeout = '5s';

create table regions (
    name text primary key,
    state text not null default 'on' check (state in ('on', 'off')),
    off_since timestamptz,
    -- Counts up whenever copies of before may not be believed any more.
    epoch bigint not null default 1,
    -- The Redis process that the epoch was last seen with.
    run_id text,
    -- How far the relay has applied invalidations.
    cursor_xid xid8 not null default pg_snapshot_xmin(pg_current_snapshot()),
    cursor_seq bigint not null default 0,
    check ((state = 'off') = (off_since is not null))
);

create table origins (
    id uuid primary key,
    region text not null references regions,
    seen_at timestamptz not null,
    redis_ok boolean not null
);

-- Each write's record: what happened, by whom, and which keys it made stale. Read in the order (xid, seq).
create table outbox (
    xid xid8 not null default pg_current_xact_id(),
    seq bigint generated always as identity,
    region text not null,
    actor uuid,
    session uuid,
    request_id text not null,
    traceparent text,
    keys text[] not null,
    kind text not null,
    version smallint not null default 1,
    payload jsonb not null,
    created_at timestamptz not null default now(),
    primary key (xid, seq)
);
create index outbox_by_age on outbox (created_at);
