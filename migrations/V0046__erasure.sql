-- Accounts that their owners erase. The list of erased people, which the archive has, also says how far each erasure is.

set lock_timeout = '5s';

-- The row of an erased account stays, since kept messages are by it. It says nothing of the person.
alter table users drop constraint users_status_check;
alter table users add constraint users_status_check check (status in ('active', 'suspended', 'erased')) not valid;

-- `email` finds mails and registrations; the last step removes it. Who was on the list before is dealt with.
alter table erased
    add column keeps_messages boolean not null default false,
    add column email text,
    add column step smallint not null default 0,
    add column after text,
    add column left_at xid8,
    add column done_at timestamptz;
update erased set done_at = now();
create index erased_waiting on erased (place) where done_at is null;

-- Up to which of the erased a region's Redis was searched for their keys.
alter table regions add column erased_place bigint not null default 0;

-- Of those who keep their messages, archived texts stay. Archived reactions stay as nobody's, so that their counts are right.
update partitioned set erases = 'update %1$I t set body = '''', deleted_at = coalesce(deleted_at, now()), version = version + 1
    where %2$s and (select not e.keeps_messages from erased e where e.user_id = t.author_id) and (body <> '''' or deleted_at is null)'
where name = 'messages';
update partitioned set erases = 'update %1$I t set user_id = gen_random_uuid()
    where %2$s and (select true from erased e where e.user_id = t.user_id)'
where name = 'reactions';

-- What finds a person's rows.
do $$
declare
    name text;
begin
    foreach name in array array['activity', 'activity_parted'] loop
        if to_regclass(name) is not null then
            execute format('create index %I on %I (user_id, circle_id, day)', name || '_of_user', name);
        end if;
    end loop;
end $$;
create index sessions_over_of_user on sessions (user_id) where revoked_at is not null;
create index memberships_bans_of_user on memberships (user_id, circle_id) where role = 'banned';
create index memberships_moderators on memberships (circle_id, joined_at, user_id) where role = 'moderator';
create index invites_of_maker on invites (created_by);
create index invites_for_user on invites (for_user) where for_user is not null;
create index invites_used_by on invites (used_by) where used_by is not null;
create index deliveries_of_address on deliveries (lower(about ->> 'address')) where channel = 'account-mail';

-- Looks at the next `most` rows of a table after a key, and counts those of a condition on the person `$1`.
create function found_part(name text, condition text, after text[], most integer, person uuid, out last text[], out number bigint)
language plpgsql as $$
begin
    execute format(
        'with part as materialized (select t.* from %2$I t where %3$s order by %1$s limit %4$s)
         select (select array[%5$s] from part t order by %6$s limit 1), (select count(*) from part t where %7$s)',
        keys_as(name, 't.%I'), name, compared(name, '>', after), most, keys_as(name, 't.%I::text'), keys_as(name, 't.%I desc'), condition)
    into last, number using person;
end $$;
