-- Puts people's own tables into hash partitions by person, in the place of shards: `drafts_shard_0` to `drafts_shard_3`. Postgres
-- has the same rules for their keys as Citus.
do $$
declare
    name text;
    nth integer;
begin
    for name in select s.name from sharded s loop
        execute format('create table %1$I (like %2$I including all) partition by hash (user_id)', name || '_whole', name);
        for nth in 0..3 loop
            execute format('create table %I partition of %I for values with (modulus 4, remainder %s)',
                name || '_shard_' || nth, name || '_whole', nth);
        end loop;
        execute format('insert into %I select * from %I', name || '_whole', name);
        execute format('drop table %I cascade', name);
        execute format('alter table %I rename to %I', name || '_whole', name);
    end loop;
end $$;
