-- What the relay needs to append events to streams: whom they concern, and how far rows may be gone.

set lock_timeout = '5s';

-- Circles and users whose subscribers learn of the event: each of their partitions' streams gets it.
alter table outbox add column topics uuid[] not null default '{}';

-- When an origin of the region was last alive, to the minute. A region that is silent for a day is not waited for.
alter table regions add column seen_at timestamptz not null default now();

-- The newest row that was removed: a cursor before it has missed something.
create table outbox_floor (
    one boolean primary key default true check (one),
    xid xid8 not null default '0',
    seq bigint not null default 0
);
insert into outbox_floor default values;
