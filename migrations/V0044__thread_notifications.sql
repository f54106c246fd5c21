-- Those who follow a thread are told of its comments: one notification for each thread, until it is read.

set lock_timeout = '5s';

do $$
declare
    name text;
begin
    foreach name in array array['notifications', 'notifications_parted'] loop
        if to_regclass(name) is not null then
            execute format('alter table %I drop constraint if exists notifications_kind_check', name);
            -- A new kind, of which no old row is: nothing needs to be checked.
            execute format('alter table %I add constraint notifications_kind_check
                check (kind in (''message'', ''mention'', ''comment'', ''reaction'', ''role'', ''invite'', ''more'')) not valid', name);
            execute format('create index %I on %I (user_id, message_id) where kind = ''comment'' and read_at is null',
                name || '_of_thread', name);
        end if;
    end loop;
end $$;

-- Comments go with messages in a person's preferences.
create or replace function notification_bit(kind text) returns integer language sql immutable strict parallel safe
return case kind when 'message' then 1 when 'comment' then 1 when 'more' then 1 when 'mention' then 2 when 'reaction' then 4
    when 'role' then 8 else 16 end;
