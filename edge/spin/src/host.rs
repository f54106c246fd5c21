//! Spin's clock, randomness, log and client address, for the pipeline.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::{Either, select};
use http::HeaderValue;
use http::request::Parts;
use optimist_edge_core::headers::combined;
use optimist_edge_core::host::{Body, Command, Host, RedisUnavailable, Reply, Request};
use spin_sdk::wasip3;
use spin_sdk::wasip3::clocks::monotonic_clock;

use crate::redis;

pub struct SpinHost<'a> {
    pub redis_url: &'a str,
}

impl Host for SpinHost<'_> {
    /// Each instance has one connection, so the spread is ignored.
    async fn redis(
        &self,
        _: &str,
        commands: Vec<Command>,
        deadline_ms: u32,
    ) -> Result<Vec<Reply>, RedisUnavailable> {
        redis::send(self.redis_url, commands, deadline_ms).await
    }

    fn redis_after_response(&self, _: &str, commands: Vec<Command>) {
        /// In milliseconds. Nobody waits for these commands, but they must end.
        const DEADLINE_MS: u32 = 1_000;
        let url = self.redis_url.to_owned();
        wasip3::spawn(async move {
            // These commands are hints only, see the trait.
            let _ = redis::send(&url, commands, DEADLINE_MS).await;
        });
    }

    fn now_ms(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn random(&self, bytes: &mut [u8]) {
        let random = wasip3::random::random::get_random_bytes(bytes.len() as u64);
        bytes.copy_from_slice(&random);
    }

    fn log(&self, line: &str) {
        eprintln!("{line}");
    }
}

/// The head of a request.
pub struct Incoming<'a> {
    parts: &'a Parts,
    target: &'a str,
    pub body: Option<Body>,
}

impl<'a> Incoming<'a> {
    pub fn new(parts: &'a Parts) -> Incoming<'a> {
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        Incoming { parts, target, body: None }
    }
}

impl Request for Incoming<'_> {
    fn method(&self) -> &str {
        self.parts.method.as_str()
    }

    fn target(&self) -> &str {
        self.target
    }

    fn header(&self, name: &str) -> Option<String> {
        combined(self.parts.headers.get_all(name).iter().map(HeaderValue::as_bytes))
    }

    /// Spin appends its own header after one that a client may have sent: the last is the true one.
    fn client_address(&self) -> Option<IpAddr> {
        let text = self.parts.headers.get_all("spin-client-addr").iter().next_back()?.to_str().ok()?;
        text.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| text.parse()).ok()
    }

    fn body(&self) -> Option<&Body> {
        self.body.as_ref()
    }
}

/// The output of `work`, or `None` once the deadline passes.
pub async fn within<T>(deadline_ms: u32, work: impl Future<Output = T>) -> Option<T> {
    let alarm = pin!(monotonic_clock::wait_for(u64::from(deadline_ms) * 1_000_000));
    match select(pin!(work), alarm).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}
