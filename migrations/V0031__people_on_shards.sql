-- The shard that has a person's rows: 0 while people's tables are not spread. `optimist-origin migrate --citus` replaces it.

set lock_timeout = '5s';

create function shard_of(person uuid) returns bigint language sql stable return 0;

-- How many notifications someone may be told of, at a moment that is given: Citus takes only immutable functions where a new row meets
-- one that is there.
drop function may_tell(integer, timestamptz, integer, timestamptz, integer);
drop function told_since(integer, timestamptz, interval);

create function told_since(count integer, since timestamptz, length interval, moment timestamptz)
returns integer language sql immutable parallel safe
return case when moment - since < length then count else 0 end;

create function may_tell(
    burst integer, burst_at timestamptz, daily integer, daily_at timestamptz, wanted integer, moment timestamptz)
returns integer language sql immutable parallel safe
return greatest(0, least(
    wanted, 60 - told_since(burst, burst_at, '10 minutes', moment), 500 - told_since(daily, daily_at, '1 day', moment)));

-- Without an archive: drops months that are old enough, of tables whose old months may go. Returns how many. Citus refuses to select
-- no column.
create or replace function drop_old_months(but text[]) returns bigint
language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '200ms' as $$
declare
    each record;
    holds boolean;
    dropped bigint := 0;
begin
    for each in
        select p.name, p.goes_with, p.drops, leaf as nth, leaf_name(p.name, leaf) as leaf
        from partitioned p cross join lateral leaves(p.name) leaf
        where p.drops is not null and p.goes_with <> all (but)
          and month_begin(leaf + 1) + p.age + interval '4 days' < now()
        order by nth, p.name <> p.goes_with
    loop
        -- The caller asks again for more.
        exit when dropped = 2;
        -- A month goes after that of the table that it goes with.
        if each.name <> each.goes_with and to_regclass(leaf_name(each.goes_with, each.nth)) is not null then
            continue;
        end if;
        execute format('select exists (select 1 from %I)', each.leaf) into holds;
        if not holds or each.drops = 'whole' or each.name <> each.goes_with then
            execute format('drop table %I', each.leaf);
            delete from archived a where a.name = each.name and a.nth = each.nth;
            dropped := dropped + 1;
        end if;
    end loop;
    return dropped;
end $$;
