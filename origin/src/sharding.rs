//! Spreads people's own tables (`sharded` names them) over a Citus cluster by person. All other tables stay on the coordinator, where
//! transactions that write both are committed in two phases.
//!
//! It installs nothing and adds no server: Citus is there, and knows its workers.

use optimist_plane::hooks;
use tokio_postgres::Client;

/// Functions that statements about the tables call, which their servers need too.
const FUNCTIONS: &str = "select create_distributed_function(f.oid::regprocedure) from pg_proc f
where f.pronamespace = 'public'::regnamespace and f.proname in ('id_place', 'id_time', 'id_month', 'notification_bit', 'may_tell', 'told_since') order by f.oid";

/// A table that is not spread yet, and the table with whose rows its own are. The first has none.
const LEFT: &str = "select s.name, case when s.name <> first.name then first.name end
from sharded s, (select min(name) as name from sharded) first
where not exists (select from pg_dist_partition d where d.logicalrelid = to_regclass(s.name) and d.partmethod = 'h')
order by s.name";

/// Without an entry of its own in Citus's tables, a table's part of a transaction would be committed after the shards'.
const OUTBOX: &str = "select citus_add_local_table_to_metadata('outbox')
where not exists (select from pg_dist_partition where logicalrelid = 'outbox'::regclass)";

/// It serves an earlier release, of which no origin lives once tables are in partitions. Citus spreads no table with a trigger.
const TRIGGER: &str = "do $$ begin
    if exists (select from pg_trigger where tgname = 'note_month' and tgrelid = 'notification_actors_gone'::regclass) then
        drop trigger note_month on notification_actors_gone;
    end if;
end $$";

const FOUND: &str = "select exists (select from pg_extension where extname = 'citus')";

/// Which shard has a person's rows. The last step: origins that start from now on know that the tables are spread.
const SHARD_OF: &str =
    "create or replace function shard_of(person uuid) returns bigint language plpgsql stable as $$
begin return get_shard_id_for_distribution_column('notification_counts', person); end $$";

/// Copies of people's own rows in Redis count no more: on shards nobody fills them, and nobody replaces them.
const FORGET_COPIES: &str = "update regions set epoch = epoch + 1";

/// Origins that live fill copies as on one server.
const LIVING: &str = "select count(*) from origins where seen_at > now() - interval '1 minute'";

const IS_DONE: &str = "select shard_of('00000000-0000-0000-0000-000000000000') <> 0";

/// Does what there is to do, while no origin lives. It may be killed, and run again.
pub async fn spread(client: &Client) -> Result<(), Box<dyn std::error::Error>> {
    if !client.query_one(FOUND, &[]).await?.get::<_, bool>(0) {
        return Err(
            "this database has no Citus: `create extension citus` on it and its workers, and add these first"
                .into(),
        );
    }
    if !client.query_one(IS_DONE, &[]).await?.get::<_, bool>(0) {
        let living = client.query_one(LIVING, &[]).await?.get::<_, i64>(0);
        if living > 0 {
            return Err(format!("{living} origins live, or did a minute ago: stop them first").into());
        }
        client.batch_execute(FORGET_COPIES).await?;
    }
    client.batch_execute(TRIGGER).await?;
    for row in client.query(LEFT, &[]).await? {
        let (table, beside): (String, Option<String>) = (row.get(0), row.get(1));
        let beside = beside.unwrap_or_else(|| "none".to_owned());
        client
            .execute(
                "select create_distributed_table($1::text::regclass, 'user_id', colocate_with => $2)",
                &[&table, &beside],
            )
            .await?;
        tracing::info!(table, "is spread by person");
        hooks::step("sharding.table").await;
    }
    client.batch_execute(FUNCTIONS).await?;
    client.batch_execute(OUTBOX).await?;
    client.batch_execute(SHARD_OF).await?;
    Ok(())
}
