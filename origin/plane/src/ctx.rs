//! What every part of the origin works with: the stores, and the state that outlives a request.
//!
//! State only. The functions that act on it stand in modules of their own and take a [`Ctx`].

use std::sync::Arc;

use crate::cache::waiting::Waiting;
use crate::config::Config;
use crate::domain::Registry;
use crate::http::nonces::Nonces;
use crate::limits::memory::Memory;
use crate::postgres::pool::Postgres;
use crate::redis::Redis;
use crate::region::belief::Belief;

/// The stores, and what this process remembers between requests.
pub struct Plane {
    pub config: Config,
    pub db: Postgres,
    /// Where the relay reads the outbox, if not from the primary.
    pub replica: Option<Postgres>,
    pub redis: Redis,
    /// Callers that wait for the same query.
    pub waiting: Waiting,
    pub region: Belief,
    /// Limits while Redis cannot be asked.
    pub limits: Memory,
    pub nonces: Nonces,
    /// Told after each commit of this process.
    pub relay_wake: tokio::sync::Notify,
    /// What the domains have handed over.
    pub registry: &'static Registry,
}

pub type Ctx = Arc<Plane>;

impl Plane {
    /// Connects to nothing yet.
    pub fn build(config: Config, registry: &'static Registry) -> Result<Ctx, Box<dyn std::error::Error>> {
        Ok(Arc::new(Plane {
            db: Postgres::new("postgres", &config.database_url, config.database_pool)?,
            replica: config.replica_url.as_deref().map(|url| Postgres::new("replica", url, 2)).transpose()?,
            redis: Redis::new(&config)?,
            waiting: Waiting::default(),
            region: Belief::default(),
            limits: Memory::default(),
            nonces: Nonces::default(),
            relay_wake: tokio::sync::Notify::new(),
            registry,
            config,
        }))
    }
}
