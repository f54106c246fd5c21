//! The context of every part of the origin: the stores, and the state that outlives a request.
//!
//! State only. The functions that act on it are in modules of their own and take a [`Ctx`].

use std::sync::Arc;

use crate::cache::waiting::Waiting;
use crate::config::Config;
use crate::domain::Registry;
use crate::http::nonces::Nonces;
use crate::limits::checks::Checks;
use crate::limits::memory::Memory;
use crate::live::hub::Live;
use crate::outgoing::state::Outgoing;
use crate::partitions::Ahead;
use crate::postgres::pool::Postgres;
use crate::postgres::replicas::{Reader, Replicas};
use crate::redis::Redis;
use crate::region::trust::Trust;

/// The stores, and this process's state between requests.
pub struct Plane {
    pub config: Config,
    pub db: Postgres,
    /// The server from which the relay reads the outbox, if not the primary.
    pub relay_replica: Option<Postgres>,
    /// The servers that answer history and reports.
    pub replicas: Replicas,
    pub redis: Redis,
    /// Callers that wait for the same query.
    pub waiting: Waiting,
    pub region: Trust,
    /// Limits in memory, for when Redis cannot be asked.
    pub limits: Memory,
    pub checks: Checks,
    pub nonces: Nonces,
    pub partitions: Ahead,
    pub outgoing: Outgoing,
    /// The gateway: who is connected, and what they may receive.
    pub live: Live,
    /// The connection on which it reads streams: much at once, which nobody else waits behind.
    pub live_redis: Redis,
    /// Notified after each commit of this process.
    pub relay_wake: tokio::sync::Notify,
    /// The rows of all domains.
    pub registry: &'static Registry,
}

pub type Ctx = Arc<Plane>;

impl Plane {
    /// Builds the context without connecting to anything.
    pub fn build(config: Config, registry: &'static Registry) -> Result<Ctx, Box<dyn std::error::Error>> {
        Ok(Arc::new(Plane {
            db: Postgres::new(
                "postgres",
                &config.database_url,
                config.database_ca.as_ref(),
                config.database_pool,
            )?,
            relay_replica: config
                .relay_replica_url
                .as_deref()
                .map(|url| Postgres::new("relay's replica", url, config.database_ca.as_ref(), 2))
                .transpose()?,
            replicas: Replicas::new(&config)?,
            redis: Redis::new(&config)?,
            waiting: Waiting::default(),
            region: Trust::default(),
            limits: Memory::default(),
            checks: Checks::default(),
            nonces: Nonces::default(),
            partitions: Ahead::default(),
            outgoing: Outgoing::new(&config)?,
            live: Live::default(),
            live_redis: Redis::new(&config)?,
            relay_wake: tokio::sync::Notify::new(),
            registry,
            config,
        }))
    }

    /// Reads for one answer that may be some seconds old.
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(&self.replicas, &self.db)
    }
}
