//! The connection that the archive works with: of the role that owns the tables, one process at a time, with short statements.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use crate::archive::csv::Records;
use crate::config::Config;
use crate::hooks;
use crate::tls;

/// Rows of a part that is copied: each holds a snapshot for some ten milliseconds.
const ROWS: i32 = 5_000;
/// How often a step that finds a lock taken is tried again. Others wait for it no longer than its lock's timeout.
const TRIES: u32 = 300;
const PAUSE: Duration = Duration::from_millis(200);
/// The session of a process that was killed ends within this time: no statement of its own takes longer.
const SESSION_ENDS: Duration = Duration::from_secs(3);

/// Its settings. No statement waits 200 ms for a lock, nor holds a snapshot for two seconds. Parts of a table are read in the order of
/// its key, by the key's index: left to itself, Postgres may read a month's table, or a circle's rows by another index, for each part.
const SESSION: &str = "-c lock_timeout=200 -c statement_timeout=2000 -c timezone=UTC -c datestyle=ISO \
                       -c idle_in_transaction_session_timeout=2500 -c jit=off \
                       -c enable_seqscan=off -c enable_bitmapscan=off -c enable_sort=off -c enable_incremental_sort=off";

pub type Outcome<T> = Result<T, Trouble>;

/// A failure, for the operator.
#[derive(Debug)]
pub struct Trouble(pub String);

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Trouble {}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Trouble {
        Trouble(error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned()))
    }
}

impl From<object_store::Error> for Trouble {
    fn from(error: object_store::Error) -> Trouble {
        Trouble(error.to_string())
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Trouble {
        Trouble(error.to_string())
    }
}

impl From<serde_json::Error> for Trouble {
    fn from(error: serde_json::Error) -> Trouble {
        Trouble(format!("a manifest cannot be read: {error}"))
    }
}

/// Takes the rows of a table as CSV.
pub trait Sink {
    fn take(&mut self, records: &[u8], count: u64) -> impl Future<Output = Outcome<()>> + Send;
}

pub struct Owner {
    client: Client,
}

impl Owner {
    pub async fn connect(config: &Config) -> Outcome<Owner> {
        let url = config.migrate_database_url.as_deref().unwrap_or(&config.database_url);
        let authorities = config.database_ca.as_ref();
        let mut connection = tls::postgres(url, authorities)
            .map_err(|reason| Trouble(format!("the database's URL {reason}")))?;
        connection.options(SESSION).application_name("optimist-archive");
        let (client, driver) = connection.connect(tls::connector(authorities)).await?;
        tokio::spawn(driver);
        Ok(Owner { client })
    }

    /// Whether nobody else works on the archive. It ends with the connection; the session of a process that was killed a moment ago may
    /// be there still, and is waited for.
    pub async fn is_alone(&self) -> Outcome<bool> {
        let deadline = Instant::now() + SESSION_ENDS;
        loop {
            let is_alone = self.client.query_one("select pg_try_advisory_lock(7083411)", &[]).await?.get(0);
            if is_alone || Instant::now() > deadline {
                return Ok(is_alone);
            }
            tokio::time::sleep(SESSION_ENDS / 20).await;
        }
    }

    pub async fn rows(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Outcome<Vec<Row>> {
        Ok(self.client.query(sql, parameters).await?)
    }

    /// For statements with one row.
    pub async fn row(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Outcome<Row> {
        Ok(self.client.query_one(sql, parameters).await?)
    }

    /// Runs a statement, again and again while others hold its locks. Returns the number that it selects.
    pub async fn patiently(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Outcome<i64> {
        for _ in 0..TRIES {
            match self.client.query(sql, parameters).await {
                Ok(rows) => return Ok(rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or_default()),
                Err(error) if is_busy(&error) => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Trouble(format!("others held locks for too long: {sql}")))
    }

    /// Detaches a partition without stopping whoever reads or writes the table; goes on where a run was killed.
    pub async fn detach(&self, parent: &str, leaf: &str) -> Outcome<()> {
        const PENDING: &str = "select inhdetachpending from pg_inherits where inhrelid = to_regclass($1) and inhparent = to_regclass($2)";
        self.client.batch_execute("set statement_timeout = 60000").await?;
        let mut result = Err(Trouble(format!("others read {parent} for too long")));
        for _ in 0..TRIES {
            let Some(row) = self.rows(PENDING, &[&leaf, &parent]).await?.pop() else {
                result = Ok(());
                break;
            };
            let how = if row.get(0) { "finalize" } else { "concurrently" };
            match self
                .client
                .batch_execute(&format!("alter table {parent} detach partition {leaf} {how}"))
                .await
            {
                Ok(()) => {}
                Err(error) if is_busy(&error) => tokio::time::sleep(PAUSE).await,
                Err(error) => {
                    result = Err(error.into());
                    break;
                }
            }
        }
        self.client.batch_execute("set statement_timeout = 2000").await?;
        result
    }

    /// The columns of a table, in its order.
    pub async fn columns(&self, table: &str) -> Outcome<Vec<String>> {
        const COLUMNS: &str = "select attname::text from pg_attribute
            where attrelid = to_regclass($1) and attnum > 0 and not attisdropped order by attnum";
        Ok(self.rows(COLUMNS, &[&table]).await?.iter().map(|row| row.get(0)).collect())
    }

    /// Copies the rows of a table that nobody changes, part by part, in the order of its key.
    pub async fn copy_out(&self, table: &str, columns: &[String], sink: &mut impl Sink) -> Outcome<()> {
        let mut place: Option<Vec<String>> = None;
        loop {
            let row = self.row("select next_place_of($1, $2, $3, '')", &[&table, &place, &ROWS]).await?;
            let Some(last) = row.get::<_, Option<Vec<String>>>(0) else { return Ok(()) };
            let sql: String =
                self.row("select copy_of($1, $2, $3, $4)", &[&table, &columns, &place, &last]).await?.get(0);
            let mut records = Records::default();
            // Collected first: the store may be slow, and the statement holds a snapshot.
            let mut part = Vec::new();
            {
                let mut stream = pin!(self.client.copy_out(&sql).await?);
                while let Some(piece) = stream.try_next().await? {
                    part.extend_from_slice(&piece);
                }
            }
            let (whole, count) = records.take(&part);
            sink.take(&whole, count).await?;
            hooks::step("archive.part").await;
            place = Some(last);
        }
    }

    /// Adds records to a table.
    pub async fn copy_in(&self, table: &str, columns: &[String], records: Vec<u8>) -> Outcome<u64> {
        use futures_util::SinkExt as _;
        let columns: Vec<String> = columns.iter().map(|column| format!("\"{column}\"")).collect();
        let sql = format!("copy {table} ({}) from stdin (format csv)", columns.join(", "));
        let mut sink = pin!(self.client.copy_in(&sql).await?);
        sink.send(bytes::Bytes::from(records)).await?;
        Ok(sink.finish().await?)
    }
}

fn is_busy(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::T_R_DEADLOCK_DETECTED))
}
