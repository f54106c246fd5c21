//! The edge's request pipeline: everything that is the same on every Wasm host, and no I/O.

mod config;
pub mod host;

pub use config::{Config, ConfigError};
use host::{Decision, Finish, Host, Outcome, Request};

/// The pipeline of one instance: its configuration, and what it remembers between requests (the breaker).
pub struct Edge {
    #[allow(dead_code)]
    config: Config,
}

impl Edge {
    pub fn new(config: Config) -> Edge {
        Edge { config }
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Decides what becomes of a request.
    pub async fn handle<H: Host, R: Request>(&self, _host: &H, _request: &R) -> Decision {
        Decision::Respond(host::Response { status: 404, headers: Vec::new(), body: Vec::new() })
    }
}

/// A forwarded request whose outcome the pipeline still wants to know.
pub struct Pending {}

impl Pending {
    /// Settles the request: gives charges back, chooses kept values over failures, and names the headers to add.
    pub async fn finish<H: Host>(self, _edge: &Edge, _host: &H, _outcome: Outcome) -> Finish {
        Finish::Pass { headers: Vec::new() }
    }
}
