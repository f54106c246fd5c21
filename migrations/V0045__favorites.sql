-- Messages that a person keeps at hand.

set lock_timeout = '5s';

create table favorites (
    user_id uuid not null,
    message_id uuid not null,
    -- Where the message is found, and whose rights decide.
    circle_id uuid not null,
    added_at timestamptz not null default now(),
    primary key (user_id, message_id)
);
create index favorites_newest on favorites (user_id, added_at desc, message_id desc);

insert into sharded (name) values ('favorites');
