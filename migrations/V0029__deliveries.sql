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
