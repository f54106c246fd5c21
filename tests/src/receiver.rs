//! A server for what the origin sends out: a push service and a webhook, each on a loopback address of its own, as providers are
//! hosts of their own.
//!
//! The first part of a path says how it answers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, Response};
use axum::serve::ListenerExt as _;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};

/// Requests that a receiver leaves without an answer, before it gets well.
const BROKEN: usize = 10;

/// A request that came in whole.
#[derive(Clone, Debug)]
pub struct Received {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The word that a new webhook is asked to repeat. All do, but deaf ones.
    pub fn challenge(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        let word = body["data"]["challenge"].as_str().filter(|_| body["type"] == "challenge");
        word.map(str::to_owned)
    }

    /// By which receivers know a delivery.
    pub fn id(&self) -> &str {
        let id = self.header("webhook-id");
        if id.is_empty() { self.header("topic") } else { id }
    }
}

#[derive(Default)]
struct Log {
    received: Vec<Received>,
    connections: u64,
    /// Requests that are no challenges.
    deliveries: usize,
    /// How often a delivery came to a path.
    times: HashMap<(String, String), u32>,
}

#[derive(Clone)]
pub struct Receiver {
    pub url: String,
    address: SocketAddr,
    log: Arc<Mutex<Log>>,
    /// A runtime of its own, whose end closes every connection, as a process's does.
    alive: Arc<Mutex<Option<Runtime>>>,
}

impl Receiver {
    /// On an address of 127.0.0.0/8.
    pub async fn start(address: &str) -> Receiver {
        let listener = std::net::TcpListener::bind((address, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let url = format!("http://{address}");
        let receiver = Receiver { url, address, log: Arc::default(), alive: Arc::default() };
        receiver.serve(listener);
        receiver
    }

    /// Breaks all connections, and takes no others.
    pub fn kill(&self) {
        if let Some(runtime) = self.alive.lock().expect("the runtime").take() {
            runtime.shutdown_background();
        }
    }

    /// It is there again, at its address.
    pub async fn launch(&self) {
        // The runtime that ends may still hold the port.
        for _ in 0..200 {
            if let Ok(listener) = TcpListener::bind(self.address).await {
                return self.serve(listener.into_std().expect("a listener"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{} is not free again", self.address);
    }

    fn serve(&self, listener: std::net::TcpListener) {
        listener.set_nonblocking(true).expect("a listener");
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let router =
            Router::new().route("/{how}/{*rest}", axum::routing::any(answer)).with_state(self.clone());
        let log = self.log.clone();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            let counted = listener.tap_io(move |_| log.lock().expect("the log").connections += 1);
            axum::serve(counted, router).await
        });
        *self.alive.lock().expect("the runtime") = Some(runtime);
    }

    /// How often somebody has connected, whatever they said.
    pub fn connections(&self) -> u64 {
        self.log.lock().expect("the log").connections
    }

    /// What came to paths that begin so, in its order.
    pub fn received(&self, prefix: &str) -> Vec<Received> {
        let log = self.log.lock().expect("the log");
        log.received.iter().filter(|one| one.path.starts_with(prefix)).cloned().collect()
    }

    pub fn forget(&self) {
        *self.log.lock().expect("the log") = Log::default();
    }
}

async fn answer(
    State(receiver): State<Receiver>,
    Path((how, rest)): Path<(String, String)>,
    RawQuery(to): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let received = Received { path: format!("/{how}/{rest}"), headers, body };
    let challenge = received.challenge();
    let (times, broken) = {
        let mut log = receiver.log.lock().expect("the log");
        let times = log.times.entry((received.path.clone(), received.id().to_owned())).or_default();
        *times += 1;
        let times = *times;
        log.received.push(received.clone());
        log.deliveries += usize::from(challenge.is_none());
        (times, log.deliveries <= BROKEN)
    };
    let status = |status: u16| Response::builder().status(status);
    if let Some(word) = challenge.filter(|_| how != "deaf") {
        return status(200).body(Body::from(word)).expect("an answer");
    }
    let answer = match how.as_str() {
        "flaky" if times < 3 => status(500),
        "busy" if times < 2 => status(429).header("retry-after", "1"),
        // The first few never get an answer.
        "stalling" if broken => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            status(200)
        }
        "silent" => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            status(200)
        }
        "brief" => {
            tokio::time::sleep(Duration::from_millis(50)).await;
            status(200)
        }
        "slow" => {
            tokio::time::sleep(Duration::from_secs(3)).await;
            status(200)
        }
        "redirect" => {
            status(302).header("location", to.unwrap_or_else(|| format!("{}/ok/redirected", receiver.url)))
        }
        "gone" => status(410),
        "large" => status(413),
        // It asks for something smaller.
        "narrow" if times < 2 => status(413),
        "refused" => status(403),
        // The connection breaks: the server is away for a while.
        "dead" if broken => panic!("this connection is to break"),
        _ => status(201),
    };
    answer.body(Body::empty()).expect("an answer")
}
