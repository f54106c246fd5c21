//! The harness: private stores, origins and edges for each test, and a client for them.
//!
//! ```ignore
//! let system = System::start().await;            // Postgres, Redis, one origin, the embedded edge
//! let ada = system.register("Ada").await;        // a client with a session
//! let answer = ada.get("/v1/me").await;          // status, headers, JSON
//! ```
//!
//! Nothing is mocked, and nothing is skipped: a server that cannot start fails the test. Everything that a test started
//! ends with it, however it ends.

pub mod aged;
pub mod authority;
pub mod bucket;
pub mod client;
pub mod crowd;
pub mod disk;
pub mod edges;
pub mod events;
pub mod live;
pub mod wandering;
pub mod load;
pub mod mailbox;
pub mod origin;
pub mod processes;
pub mod proxy;
pub mod receiver;
mod redis_server;
pub mod registers;
pub mod sql;
pub mod stores;
pub mod system;
pub mod unlimited;
mod waiting;

pub use client::{Answer, Client, PASSWORD};
pub use crowd::Crowd;
pub use edges::{Edge, Kind};
pub use load::Load;
pub use mailbox::Mailbox;
pub use origin::Origin;
pub use processes::{program, workspace};
pub use system::{Options, System};
pub use waiting::{patience, until};

/// A number that an environment variable may raise: tests are short, full counts are not.
pub fn scale(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |text| text.parse().expect("a number"))
}
