//! The pool of connections to one Postgres server, and queries outside transactions.

use std::time::{Duration, Instant};

use deadpool::Runtime;
use deadpool::managed::{Pool, PoolError, TimeoutType, Timeouts};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::breaker::Breaker;
use crate::error::{Error, Result};
use crate::hooks;
use crate::postgres::connecting::{Client, Connecting};
use crate::postgres::left::Left;
use crate::postgres::prepared::Prepared;
use crate::postgres::shards::Shards;
use crate::statements;
use crate::tls::{self, Authorities};

/// Milliseconds that a statement may take, wait for a lock, or leave its transaction idle. Behind its fence a write has the
/// outbox's statement, a pause and the commit: together less than the seven seconds that a fence stands, so that no commit
/// comes after its fence has lapsed. No statement runs long enough for JIT compilation to pay. A page costs little more for being
/// far from the last one, in memory or on a solid-state disk: at Postgres's default of 4, a look-up in a table of some pages
/// reads the whole table.
pub const SESSION: &str = "-c statement_timeout=2000 -c lock_timeout=1500 -c idle_in_transaction_session_timeout=2500 \
                           -c timezone=UTC -c jit=off -c random_page_cost=1.1";

statements! {
    const PING: &str = "-- postgres::ping
select 1";
}

pub struct Postgres {
    pool: Pool<Connecting>,
    breaker: Breaker,
    /// What commits have left to send.
    pub left: Left,
    pub(super) shards: Shards,
}

impl Postgres {
    /// A pool of `connections` to the server at `url`; the log calls it `name`. Authorities stand for the public ones.
    pub fn new(
        name: &'static str,
        url: &str,
        authorities: Option<&Authorities>,
        connections: usize,
    ) -> std::result::Result<Postgres, Box<dyn std::error::Error>> {
        let manager =
            Connecting { config: connection_config(url, authorities)?, tls: tls::connector(authorities) };
        let timeouts = Timeouts {
            wait: Some(Duration::from_secs(2)),
            create: Some(Duration::from_secs(1)),
            recycle: Some(Duration::from_secs(1)),
        };
        let pool = Pool::builder(manager)
            .max_size(connections)
            .timeouts(timeouts)
            .runtime(Runtime::Tokio1)
            .build()?;
        Ok(Postgres { pool, breaker: Breaker::new(name), left: Left::default(), shards: Shards::default() })
    }

    /// A connection for reads outside transactions, or for beginning one.
    pub async fn client(&self) -> Result<Client> {
        if !self.breaker.admits() {
            return Err(Error::unavailable("The database"));
        }
        let began = Instant::now();
        match self.pool.get().await {
            Ok(client) => {
                self.breaker.succeeded();
                Ok(client)
            }
            Err(PoolError::Timeout(TimeoutType::Wait)) => {
                tracing::warn!("every connection to postgres is busy");
                Err(Error::unavailable("The database"))
            }
            Err(error) => {
                self.breaker.failed(began.elapsed(), &error);
                Err(Error::unavailable("The database"))
            }
        }
    }

    /// Whether callers wait for a connection: work that can wait should.
    pub fn is_busy(&self) -> bool {
        hooks::disabled("spare-connections") || self.pool.status().waiting > 0
    }

    /// Whether Postgres answers.
    pub async fn reachable(&self) -> bool {
        self.query(PING, &[]).await.is_ok()
    }

    /// One query outside a transaction.
    pub async fn query(&self, sql: &'static str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        let client = self.client().await?;
        query(&client, sql, parameters).await
    }

    pub async fn query_opt(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>> {
        Ok(self.query(sql, parameters).await?.into_iter().next())
    }
}

/// One query on a connection of its caller's, outside a transaction.
pub async fn query(
    client: &Client,
    sql: &'static str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>> {
    hooks::statement(sql);
    Ok(Prepared::new(client, sql).await?.query(parameters).await?)
}

/// The connection settings of the serving role.
pub fn connection_config(
    url: &str,
    authorities: Option<&Authorities>,
) -> std::result::Result<tokio_postgres::Config, &'static str> {
    let mut config = tls::postgres(url, authorities)?;
    config.options(SESSION).application_name("optimist-origin").connect_timeout(Duration::from_secs(1));
    // A peer that vanished is noticed within seconds, not hours.
    config.keepalives_idle(Duration::from_secs(10)).tcp_user_timeout(Duration::from_secs(5));
    Ok(config)
}
