//! What the edge and the origin must agree on, as data: the three policy tables, the formats that both read and write,
//! and the Redis scripts. No I/O and no clock in here, and nothing that does not build for WebAssembly.

pub mod routes;
pub mod keys;
pub mod limits;
pub mod scripts;

pub mod envelope;
pub mod error;
pub mod etag;
pub mod ids;
pub mod reactions;
pub mod session;
pub mod signature;
pub mod visits; // compat: origin
pub mod vouching;

mod compat; // compat: origin
