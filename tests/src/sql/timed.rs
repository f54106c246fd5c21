//! A statement as the origin's connections run it, timed from outside: prepared, with whichever plan Postgres then takes, or planned
//! anew at each run. Each run is in a transaction that is rolled back.

use std::time::Instant;

use bytes::BytesMut;
use tokio_postgres::types::{Format, IsNull, ToSql, Type};

use super::{Full, Statement, values};

/// A statement with its parameters.
pub struct Timed<'f> {
    full: &'f Full,
    name: String,
    sql: String,
    planned_anew: bool,
    prepared: tokio_postgres::Statement,
    values: Vec<Text>,
}

impl<'f> Timed<'f> {
    pub async fn new(full: &'f Full, statement: &Statement) -> Timed<'f> {
        let (name, sql) = (statement.name.clone(), statement.sql.clone());
        // An explanation may have chosen another.
        full.client.batch_execute("set plan_cache_mode = auto").await.expect("a setting");
        let values = values(&full.client, statement).await.into_iter().map(Text).collect();
        let prepared = full.client.prepare(&sql).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        Timed { full, name, sql, planned_anew: statement.planned_anew, prepared, values }
    }

    /// Milliseconds of a run, from sending it to its last row.
    pub async fn run(&self) -> f64 {
        self.full.client.batch_execute("begin").await.expect("a transaction");
        let ms = self.execute().await;
        self.full.client.batch_execute("rollback").await.expect("a transaction");
        ms
    }

    /// The bytes that a run adds to the write-ahead log of the whole server, with its commit left out.
    pub async fn written(&self) -> u64 {
        let position = async || -> u64 {
            let text = self.full.ask("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn").await;
            text.parse().expect("a position")
        };
        self.full.client.batch_execute("begin").await.expect("a transaction");
        let before = position().await;
        self.execute().await;
        let after = position().await;
        self.full.client.batch_execute("rollback").await.expect("a transaction");
        after - before
    }

    async fn execute(&self) -> f64 {
        let client = &self.full.client;
        let begun = Instant::now();
        let rows = if self.planned_anew {
            let typed: Vec<(&(dyn ToSql + Sync), Type)> = self
                .values
                .iter()
                .map(|value| value as &(dyn ToSql + Sync))
                .zip(self.prepared.params().iter().cloned())
                .collect();
            client.query_typed(&self.sql, &typed).await
        } else {
            let values: Vec<&(dyn ToSql + Sync)> =
                self.values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
            client.query(&self.prepared, &values).await
        };
        let ms = begun.elapsed().as_secs_f64() * 1_000.0;
        rows.unwrap_or_else(|error| panic!("{}: {error:?}", self.name));
        ms
    }
}

/// A value of any type, as text.
#[derive(Debug)]
struct Text(Option<String>);

impl ToSql for Text {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let Some(text) = &self.0 else { return Ok(IsNull::Yes) };
        out.extend_from_slice(text.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}
