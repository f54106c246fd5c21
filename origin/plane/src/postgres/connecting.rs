//! The connections of a pool. Each counts the warnings that it gets.
//!
//! Postgres sends a warning before the answer of the statement that it is about. So if a connection's count is the same before and
//! after an answer, there was none.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use deadpool::managed::{self, Metrics, Object, RecycleError, RecycleResult};
use deadpool_postgres::ClientWrapper;
use futures_util::future::poll_fn;
use tokio_postgres::error::Severity;
use tokio_postgres::{AsyncMessage, Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A connection that is lent by a pool.
pub type Client = Object<Connecting>;

/// Connects for a pool.
pub struct Connecting {
    pub(super) config: Config,
    pub(super) tls: MakeRustlsConnect,
}

/// A connection to Postgres, with the statements that it knows.
pub struct Connection {
    client: ClientWrapper,
    warnings: Arc<AtomicU64>,
}

impl Connection {
    /// How many warnings it has had.
    pub(super) fn warnings(&self) -> u64 {
        self.warnings.load(Ordering::SeqCst)
    }
}

impl Deref for Connection {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.client
    }
}

impl managed::Manager for Connecting {
    type Type = Connection;
    type Error = Error;

    async fn create(&self) -> Result<Connection, Error> {
        let (client, mut connection) = self.config.connect(self.tls.clone()).await?;
        let warnings = Arc::new(AtomicU64::new(0));
        let counted = warnings.clone();
        let driver = tokio::spawn(async move {
            while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                match message {
                    Ok(AsyncMessage::Notice(notice))
                        if notice.parsed_severity() == Some(Severity::Warning) =>
                    {
                        counted.fetch_add(1, Ordering::SeqCst);
                        tracing::warn!(
                            code = notice.code().code(),
                            message = notice.message(),
                            "postgres warns"
                        );
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(%error, "a connection to postgres ended");
                        return;
                    }
                }
            }
        });
        Ok(Connection { client: ClientWrapper::new(client, driver), warnings })
    }

    /// Asks nothing: the next statement finds out.
    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<Error> {
        match connection.is_closed() {
            true => Err(RecycleError::message("it is closed")),
            false => Ok(()),
        }
    }
}
