-- What is written to Redis first, and comes here in batches: how far each partition's stream is in Postgres, and reactions.

set lock_timeout = '5s';

-- A flush moves the position in the transaction that applies the entries, so that each is applied once.
create table write_behind (
    region text not null,
    partition smallint not null check (partition between 0 and 255),
    -- Counts up whenever the stream begins anew; entries of an earlier one are all here, or lost with their Redis.
    generation bigint not null,
    -- An entry's id; 0-1 is the least there is.
    position_ms bigint not null default 0,
    position_seq bigint not null default 1,
    -- The newest stamp that was given here, while Redis could not be asked: the next stream's go on from it.
    floor_ms bigint not null default 0,
    primary key (region, partition)
);

-- Entries that could not be applied, for somebody to look at.
create table writes_set_aside (
    region text not null,
    partition smallint not null,
    generation bigint not null,
    position_ms bigint not null,
    position_seq bigint not null,
    entry text not null,
    reason text not null,
    set_aside_at timestamptz not null default now(),
    primary key (region, partition, generation, position_ms, position_seq)
);

-- Who reacted how, by each one's last intent; a reaction that was taken back stays for a day, so that no older intent
-- undoes it. No foreign keys: a flush joins what it is about, rather than check it row by row.
create table reactions (
    circle_id uuid not null,
    message_id uuid not null,
    -- Its place among the kinds, from 1: `shared/src/reactions.rs`.
    kind smallint not null check (kind > 0),
    user_id uuid not null,
    is_on boolean not null,
    -- When the intent was made, by the stream's id or the clock here, and in which generation of the partition.
    stamp_ms bigint not null,
    stamp_seq bigint not null,
    generation bigint not null,
    -- Made here while Redis could not be asked: newer than everything that is left in a stream of its generation.
    is_through boolean not null,
    reacted_at timestamptz not null,
    primary key (circle_id, message_id, kind, user_id)
);
create index reactions_newest on reactions (circle_id, message_id, reacted_at desc) where is_on;
create index reactions_taken_back on reactions (reacted_at) where not is_on;

create table reaction_counts (
    circle_id uuid not null,
    message_id uuid not null,
    kind smallint not null,
    count integer not null,
    primary key (circle_id, message_id, kind)
);
