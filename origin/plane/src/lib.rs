//! The origin's data plane: everything that does not depend on what the product is about.
//!
//! It names no domain. Domains hand it rows ([`domain::Domain`]): routes, loaders, consequences of events, stream entries,
//! jobs, audits. Imports run from the domains to the plane and never back; the crate boundary enforces that.

pub mod ctx;
pub mod domain;
pub mod own;

pub mod postgres;
pub mod redis;
pub mod cache;
pub mod region;
pub mod outbox;
pub mod live;
pub mod partitions;
pub mod archive;
pub mod write_behind;
pub mod outgoing;
pub mod limits;
pub mod http;
pub mod request;
pub mod jobs;
pub mod audit;
pub mod openapi;
pub mod operation;

pub mod config;
pub mod key_rings;
pub mod tls;
pub mod error;
pub mod hooks;
pub mod statements;
pub mod telemetry;
pub mod edge_counters;
pub mod breaker;
pub mod clock;
pub mod months;
pub mod hash;
