-- A person keeps the newest thousand notifications. All are marked as read by moving a mark. Events whose consequences fail are
-- set aside, so that no other waits for them.

set lock_timeout = '5s';

alter table notification_counts
    -- Places are given in order, under this row's lock.
    add column last_place bigint not null default 0,
    -- All up to this place are read. Rows that the release before writes have place 0.
    add column read_through bigint not null default -1,
    -- Grows each time that all are marked as read: a reaction then begins a new notification.
    add column read_round bigint not null default 0,
    -- How many notifications there are.
    add column held integer not null default 0 check (held >= 0);

alter table notifications
    add column place bigint not null default 0,
    add column read_round bigint not null default 0;

update notifications n set place = placed.place
from (
    select user_id, id, row_number() over (partition by user_id order by updated_at, id) as place from notifications
) placed
where n.user_id = placed.user_id and n.id = placed.id;

insert into notification_counts as c (user_id, unread, last_place, held)
select user_id, 0, max(place), count(*) from notifications group by user_id
on conflict (user_id) do update set last_place = excluded.last_place, held = excluded.held;

create index notifications_placed on notifications (user_id, place);
create index notification_counts_over on notification_counts (user_id) where held > 1000;
drop index notifications_unread_in_order;

drop index notifications_folded;
create unique index notifications_folded on notifications (user_id, circle_id, message_id, read_round)
    where kind = 'reaction' and read_at is null;

-- A message of many reactions has many people in its notification: a job removes them, some at a time.
alter table notification_actors drop constraint notification_actors_user_id_notification_id_fkey;
create table notification_actors_gone (
    user_id uuid not null,
    notification_id uuid not null,
    primary key (user_id, notification_id)
);

-- Events whose consequences Postgres refuses, or cannot write in time.
create table events_set_aside (
    xid xid8 not null,
    seq bigint not null,
    kind text not null,
    actor uuid,
    payload jsonb not null,
    created_at timestamptz not null,
    -- The last person whom the consequences reached.
    part uuid,
    reason text not null,
    attempts integer not null default 1,
    tried_at timestamptz not null default clock_timestamp(),
    primary key (xid, seq)
);
create index events_set_aside_by_try on events_set_aside (tried_at);
