//! Runs a statement on a connection: by the plan that the connection has of it, or planned anew (see [`Stated`]).
//!
//! [`Stated`]: crate::statements::Stated

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row, Statement};

use crate::postgres::connecting::Client;
use crate::statements::stated;

/// A statement that a connection knows, so that its next message is sent when its future is first polled.
pub(super) struct Prepared<'a> {
    client: &'a Client,
    sql: &'static str,
    statement: Statement,
}

impl<'a> Prepared<'a> {
    pub async fn new(client: &'a Client, sql: &'static str) -> Result<Prepared<'a>, Error> {
        Ok(Prepared { client, sql, statement: client.prepare_cached(sql).await? })
    }

    pub async fn query(&self, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        match self.typed(parameters) {
            Some(typed) => self.client.query_typed(self.sql, &typed).await,
            None => self.client.query(&self.statement, parameters).await,
        }
    }

    /// Returns how many rows it changed.
    pub async fn execute(&self, parameters: &[&(dyn ToSql + Sync)]) -> Result<u64, Error> {
        match self.typed(parameters) {
            Some(typed) => self.client.execute_typed(self.sql, &typed).await,
            None => self.client.execute(&self.statement, parameters).await,
        }
    }

    /// The parameters and their types, if the statement is planned anew: Postgres takes its text for another statement then, of
    /// which it has no plan. This costs no trip.
    fn typed<'p>(
        &self,
        parameters: &[&'p (dyn ToSql + Sync)],
    ) -> Option<Vec<(&'p (dyn ToSql + Sync), Type)>> {
        stated(self.sql)?
            .planned_anew
            .then(|| parameters.iter().copied().zip(self.statement.params().iter().cloned()).collect())
    }
}
