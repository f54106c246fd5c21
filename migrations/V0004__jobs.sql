-- What is done now and then: one row a job and region, which whoever runs it next has claimed.

set lock_timeout = '5s';

create table jobs (
    region text not null,
    name text not null,
    every_seconds integer not null check (every_seconds > 0),
    -- When it was claimed; an origin that dies over it leaves it to be claimed again when it is next due.
    started_at timestamptz,
    finished_at timestamptz,
    -- How many rows it dealt with, or why it failed.
    done bigint,
    error text,
    primary key (region, name)
);
