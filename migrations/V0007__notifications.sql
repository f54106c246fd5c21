-- What follows from writes: who is told of what, and who was active where. Rows of the outbox are read once, in order.

set lock_timeout = '5s';

-- How far the outbox is dealt with, by whichever origin is at it.
create table projections (
    name text primary key,
    xid xid8 not null,
    seq bigint not null,
    -- Of the next row, the last member that was told already.
    part uuid
);
insert into projections (name, xid, seq) values ('main', pg_snapshot_xmin(pg_current_snapshot()), 0);

create table notifications (
    user_id uuid not null references users on delete cascade,
    -- Of what everyone in a circle is told, the same for all.
    id uuid not null,
    kind text not null check (kind in ('message', 'reaction', 'role', 'invite')),
    circle_id uuid not null,
    message_id uuid,
    -- Who did it; of several, the last.
    actor_id uuid,
    -- How many did it.
    actors integer not null default 1,
    role text,
    invite_id uuid,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    read_at timestamptz,
    primary key (user_id, id)
);
create index notifications_newest on notifications (user_id, updated_at desc, id desc);
create index notifications_unread on notifications (user_id) where read_at is null;
create index notifications_of_circle on notifications (user_id, circle_id);
create index notifications_by_age on notifications (updated_at);
-- Reactions to one message are one notification, until it is read.
create unique index notifications_folded on notifications (user_id, circle_id, message_id)
    where kind = 'reaction' and read_at is null;

create table notification_actors (
    user_id uuid not null,
    notification_id uuid not null,
    actor_id uuid not null,
    acted_at timestamptz not null,
    primary key (user_id, notification_id, actor_id),
    foreign key (user_id, notification_id) references notifications on delete cascade
);
create index notification_actors_newest on notification_actors (user_id, notification_id, acted_at desc);

-- How many of someone's notifications are unread, changed with them.
create table notification_counts (
    user_id uuid primary key references users on delete cascade,
    unread integer not null check (unread >= 0)
);

-- An invitation may be for one person alone, who is told.
alter table invites add column for_user uuid references users on delete cascade;

-- Who did how much in a circle on a day, by UTC.
create table activity (
    circle_id uuid not null,
    user_id uuid not null references users on delete cascade,
    day date not null,
    posts integer not null default 0,
    reactions integer not null default 0,
    -- The day's five minutes in which there was a visit: told twice, or late, it is the same.
    visits bit(288) not null default repeat('0', 288)::bit(288),
    last_seen_at timestamptz not null,
    primary key (circle_id, user_id, day)
);
create index activity_newest on activity (circle_id, day desc, user_id);
