//! The data that edge and origin must agree on: the three policy tables, the formats that both read and write, and the
//! Redis scripts. It does no I/O, reads no clock and builds for WebAssembly.

pub mod routes;
pub mod joins;
pub mod keys;
pub mod limits;
pub mod quotas;
pub mod live;
pub mod growth;
pub mod scripts;

pub mod blocks;
pub mod envelope;
pub mod error;
pub mod etag;
pub mod ids;
pub mod presence;
pub mod reactions;
pub mod recent;
pub mod session;
pub mod signature;
pub mod vouching;
pub mod wake;
