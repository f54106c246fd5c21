-- People whom a person has blocked or muted.

set lock_timeout = '5s';

create table blocks (
    user_id uuid not null,
    blocked_id uuid not null,
    created_at timestamptz not null default now(),
    primary key (user_id, blocked_id)
);
-- By whom somebody is blocked.
create index blocks_of on blocks (blocked_id, user_id);

create table mutes (
    user_id uuid not null,
    muted_id uuid not null,
    created_at timestamptz not null default now(),
    primary key (user_id, muted_id)
);
create index mutes_of on mutes (muted_id, user_id);

-- Whether a person is told nothing of what another one does.
create function is_silenced(person uuid, actor uuid) returns boolean language sql stable parallel safe
return exists (select from blocks where user_id = person and blocked_id = actor)
    or exists (select from mutes where user_id = person and muted_id = actor);
