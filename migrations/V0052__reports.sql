-- Messages that people report, and what moderators and administrators decide about them.

set lock_timeout = '5s';

create table report_cases (
    message_id uuid primary key,
    circle_id uuid not null,
    author_id uuid not null,
    number bigint not null,
    -- As it was when it was reported last: an edit hides nothing from those who decide. Empty once they have decided.
    body text not null,
    state text not null check (state in ('open', 'escalated', 'dismissed', 'removed')),
    is_open boolean not null generated always as (state in ('open', 'escalated')) stored,
    -- Grows whenever somebody reports it after a decision.
    round integer not null default 1,
    decided_by uuid,
    decided_at timestamptz
);
create index report_cases_of_circle on report_cases (circle_id, is_open, message_id);
create index report_cases_escalated on report_cases (message_id) where state = 'escalated';
create index report_cases_of_author on report_cases (author_id);
create index report_cases_decided on report_cases (decided_at) where decided_at is not null;
create index report_cases_by on report_cases (decided_by) where decided_by is not null;

create table reports (
    message_id uuid not null references report_cases on delete cascade,
    reporter_id uuid not null,
    round integer not null,
    reason text not null,
    body text not null,
    created_at timestamptz not null default now(),
    primary key (message_id, reporter_id)
);
create index reports_of_round on reports (message_id, round, created_at);
create index reports_with_text on reports (message_id, round, created_at) where body <> '';
create index reports_of_person on reports (reporter_id, message_id);

-- Moderators, whoever reported and whoever wrote it are told: notifications of their own kinds, which go with roles in a person's
-- preferences.
do $$
declare
    name text;
begin
    foreach name in array array['notifications', 'notifications_parted'] loop
        if to_regclass(name) is not null then
            execute format('alter table %I drop constraint if exists notifications_kind_check', name);
            -- New kinds, of which no old row is: nothing needs to be checked.
            execute format('alter table %I add constraint notifications_kind_check check (kind in (''message'', ''mention'', ''comment'',
                ''reaction'', ''role'', ''offer'', ''invite'', ''more'', ''report'', ''upheld'', ''dismissed'', ''removed'')) not valid', name);
        end if;
    end loop;
end $$;

create or replace function notification_bit(kind text) returns integer language sql immutable strict parallel safe
return case when kind in ('message', 'comment', 'more') then 1 when kind = 'mention' then 2 when kind = 'reaction' then 4
    when kind = 'invite' then 16 else 8 end;
