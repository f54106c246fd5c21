-- What the auditor has found: by region and data type, how much was compared, and what differed.

set lock_timeout = '5s';

create table consistency (
    region text not null,
    data_type text not null,
    checked bigint not null default 0,
    -- Differed from Postgres where it must not have.
    conflicts bigint not null default 0,
    -- Older than Postgres, as its row allows.
    stale bigint not null default 0,
    checked_at timestamptz not null,
    conflict_at timestamptz,
    primary key (region, data_type)
);
