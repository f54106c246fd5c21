//! Connects to Postgres, and counts the warnings that its connections get.
//!
//! Postgres sends a warning before the answer of the statement that it is about. So if the count is the same before and after
//! an answer, there was none. The count is of a whole pool: a warning elsewhere at that moment counts too, which is rare.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use deadpool_postgres::Connect;
use futures_util::future::poll_fn;
use tokio::task::JoinHandle;
use tokio_postgres::error::Severity;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{AsyncMessage, Client, Config, Error, Socket};

/// How many warnings a pool's connections have had.
#[derive(Clone, Debug, Default)]
pub(super) struct Warnings(Arc<AtomicU64>);

impl Warnings {
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Connects for a pool.
pub(super) struct Connecting<T> {
    pub tls: T,
    pub warnings: Warnings,
}

type Connected = Result<(Client, JoinHandle<()>), Error>;

impl<T> Connect for Connecting<T>
where
    T: MakeTlsConnect<Socket> + Clone + Sync + Send + 'static,
    T::Stream: Sync + Send,
    T::TlsConnect: Sync + Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    fn connect(&self, config: &Config) -> Pin<Box<dyn Future<Output = Connected> + Send + '_>> {
        let (tls, warnings, config) = (self.tls.clone(), self.warnings.clone(), config.clone());
        Box::pin(async move {
            let (client, mut connection) = config.connect(tls).await?;
            let driver = tokio::spawn(async move {
                while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                    match message {
                        Ok(AsyncMessage::Notice(notice))
                            if notice.parsed_severity() == Some(Severity::Warning) =>
                        {
                            warnings.0.fetch_add(1, Ordering::SeqCst);
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
            Ok((client, driver))
        })
    }
}
