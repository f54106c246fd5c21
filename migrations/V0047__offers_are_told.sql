-- Whom a circle is offered to is told: a notification of its own kind, which goes with roles in a person's preferences.

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
                check (kind in (''message'', ''mention'', ''comment'', ''reaction'', ''role'', ''offer'', ''invite'', ''more'')) not valid', name);
        end if;
    end loop;
end $$;

create or replace function notification_bit(kind text) returns integer language sql immutable strict parallel safe
return case kind when 'message' then 1 when 'comment' then 1 when 'more' then 1 when 'mention' then 2 when 'reaction' then 4
    when 'role' then 8 when 'offer' then 8 else 16 end;
