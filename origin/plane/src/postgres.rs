//! Postgres: the pool and its queries, replicas, transactions, and the one function that runs a write.
//!
//! No query of a domain lives here; each stands beside its handler.

pub mod pool;
mod connecting;
mod prepared;
pub mod replicas;
pub mod shards;
pub mod transaction;
pub mod write;
pub mod left;
