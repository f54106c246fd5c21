-- What leaves the service for other people's machines. A row is written in the transaction that it follows from.

set lock_timeout = '5s';

create table deliveries (
    user_id uuid not null,
    -- What it is about, such as a notification; receivers know it by this id.
    subject uuid not null,
    -- Where it goes: a device, a webhook, or the person, for mail.
    target uuid not null,
    channel text not null,
    -- What the sender needs besides.
    about jsonb,
    state text not null default 'queued'
        check (state in ('queued', 'claimed', 'sent', 'withdrawn', 'failed', 'given-up')),
    attempts smallint not null default 0,
    -- When it may be sent; of one that is claimed, when its claim lapses.
    due_at timestamptz not null default clock_timestamp(),
    -- Of what was not sent, or not yet.
    reason text,
    created_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz,
    primary key (user_id, subject, target)
) with (fillfactor = 85);
create index deliveries_due on deliveries (channel, due_at) where ended_at is null;
create index deliveries_by_age on deliveries (created_at);

insert into sharded (name) values ('deliveries');

-- Where a person is told besides in the application: browsers (Web Push), their own webhooks, and, while their preferences say so,
-- their e-mail address, whose row has the person's id.
create table push_tokens (
    user_id uuid not null,
    id uuid not null,
    channel text not null check (channel in ('push', 'webhook', 'email')),
    endpoint text not null check (length(endpoint) <= 1024),
    -- Of Web Push: the browser's public key, and the secret that it shares with us.
    p256dh bytea,
    auth bytea,
    -- Of a webhook: the key from which its secret is derived.
    token_key text,
    created_at timestamptz not null default now(),
    -- Nothing but challenges goes to a webhook before.
    verified_at timestamptz,
    primary key (user_id, id)
);
create unique index push_tokens_once on push_tokens (user_id, endpoint);

-- Kinds of notifications are bits (see `notification_bit`). Who has no row has the defaults: all but e-mail.
create table notification_preferences (
    user_id uuid primary key,
    version bigint not null default 1,
    in_app smallint not null,
    push smallint not null,
    email smallint not null,
    webhook smallint not null,
    -- By the person's clock: from and to, which may be past midnight.
    quiet_from time,
    quiet_to time,
    check ((quiet_from is null) = (quiet_to is null))
);

create table notification_mutes (
    user_id uuid not null,
    circle_id uuid not null,
    until timestamptz not null,
    primary key (user_id, circle_id)
);

create function notification_bit(kind text) returns integer language sql immutable strict parallel safe
return case kind when 'message' then 1 when 'more' then 1 when 'mention' then 2 when 'reaction' then 4 when 'role' then 8 else 16 end;

insert into sharded (name) values ('push_tokens'), ('notification_preferences'), ('notification_mutes');

-- How many notifications someone was told of since a moment: 60 in ten minutes, and 500 a day. `told` is how many of the last batch.
alter table notification_counts
    add column told integer not null default 0,
    add column burst integer not null default 0,
    add column burst_at timestamptz,
    add column daily integer not null default 0,
    add column daily_at timestamptz;

create function told_since(count integer, since timestamptz, length interval) returns integer language sql stable parallel safe
return case when since > now() - length then count else 0 end;

-- How many of so many more.
create function may_tell(burst integer, burst_at timestamptz, daily integer, daily_at timestamptz, wanted integer)
returns integer language sql stable parallel safe
return greatest(0, least(wanted, 60 - told_since(burst, burst_at, '10 minutes'), 500 - told_since(daily, daily_at, '1 day')));

-- New kinds, of which no old row is: nothing needs to be checked.
do $$
declare
    name text;
begin
    foreach name in array array['notifications', 'notifications_parted'] loop
        if to_regclass(name) is not null then
            execute format('alter table %I drop constraint if exists notifications_kind_check', name);
            execute format('alter table %I add constraint notifications_kind_check
                check (kind in (''message'', ''mention'', ''reaction'', ''role'', ''invite'', ''more'')) not valid', name);
        end if;
    end loop;
end $$;
