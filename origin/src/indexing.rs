//! Indexes that take long to build, on tables that may be full: built one after the other, while people go on writing. An index
//! that somebody has stopped building is built anew.
//!
//! A partition to come gets its indexes when it is made: the schema says which.

use tokio_postgres::Client;

use crate::partitioning::patiently;

type Outcome<T> = Result<T, tokio_postgres::Error>;

const CIRCLES: Index<'static> = Index {
    name: "circles_found",
    table: "circles",
    of: "(search_words(name || ' ' || description)) with (fastupdate = off) where visibility = 'public' and archived_at is null",
};
/// As the schema has it for all partitions.
const MESSAGES: &str =
    "(message_words(circle_id, author_id, id, body)) with (fastupdate = off) where deleted_at is null";

/// Partitions without their part of the index.
const UNINDEXED: &str = "select leaf.inhrelid::regclass::text from pg_inherits leaf
where leaf.inhparent = 'messages'::regclass and not leaf.inhdetachpending and not exists (
    select from pg_inherits part join pg_index on indexrelid = part.inhrelid
    where part.inhparent = 'messages_words'::regclass and indrelid = leaf.inhrelid)
order by 1 desc";

/// Whether an index that is there is whole.
const VALID: &str = "select indisvalid from pg_index where indexrelid = to_regclass($1)";

struct Index<'a> {
    name: &'a str,
    table: &'a str,
    of: &'a str,
}

/// Builds what is missing. The tables are in partitions.
pub async fn build(client: &Client) -> Outcome<()> {
    CIRCLES.build(client).await?;
    for row in client.query(UNINDEXED, &[]).await? {
        let leaf: String = row.get(0);
        let name = format!("{leaf}_words");
        Index { name: &name, table: &leaf, of: MESSAGES }.build(client).await?;
        patiently(client, &format!("alter index messages_words attach partition {name}")).await?;
    }
    Ok(())
}

impl Index<'_> {
    async fn build(&self, client: &Client) -> Outcome<()> {
        let Index { name, table, of } = self;
        let known = client.query_opt(VALID, &[name]).await?;
        match known.map(|row| row.get::<_, bool>(0)) {
            Some(true) => return Ok(()),
            Some(false) => client.batch_execute(&format!("drop index concurrently {name}")).await?,
            None => {}
        }
        // It waits for transactions that began before, and nobody waits for it.
        client.batch_execute("set lock_timeout = 0").await?;
        let built = client
            .batch_execute(&format!("create index concurrently {name} on {table} using gin {of}"))
            .await;
        client.batch_execute("set lock_timeout = '10s'").await?;
        built?;
        tracing::info!(index = name, "is built");
        Ok(())
    }
}
