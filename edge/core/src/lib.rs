//! The edge's request pipeline: everything that is the same on every Wasm host, without I/O.
//!
//! The routes table routes a request and one script in its user's slot admits it. The edge then answers from Redis or hands
//! the request to the origin, signed. It never asks the origin for what a vouched Redis knows, and trusts Redis only while
//! the relay vouches for it. Nothing here knows about Postgres.

pub mod headers;
pub mod host;

mod config;
mod proxies;
mod passage;
mod admit;
mod limit;
mod ask;
mod answer;
mod copy;
mod cache;
mod behind;
mod redis_only;
mod origin;
mod respond;
mod sent;
mod count;
mod handover;
mod trip;
mod redis;

pub use config::{Config, ConfigError};
pub use origin::Pending;

use std::cell::Cell;

use optimist_shared::error::{ErrorCode, PROBLEM_JSON, Problem};
use optimist_shared::routes::{self, Audience, Matched, Method, Path, Pattern, Route};

use cache::Wanted;
use count::Counts;
use host::{Body, Collect, Decision, Host, Request, Response};
use passage::{Passage, apart};
use redis::Breaker;
use respond::Exchange;

/// The pipeline of one instance: its configuration, and its memory between requests.
pub struct Edge {
    config: Config,
    breaker: Breaker,
    counts: Counts,
    /// Whether Redis takes scripts with keys of two slots: until it has refused one, unless it is configured as a cluster.
    spans_slots: Cell<bool>,
}

impl Edge {
    pub fn new(config: Config) -> Edge {
        let never_opens = config.is_disabled("edge-breaker");
        Edge::with_breaker(config, Breaker::new(never_opens))
    }

    /// The pipeline where another one asks Redis, and has the breaker: see [`Forward::take_over`](host::Forward::take_over).
    pub fn beside(config: Config) -> Edge {
        Edge::with_breaker(config, Breaker::new(true))
    }

    fn with_breaker(config: Config, breaker: Breaker) -> Edge {
        let spans_slots = Cell::new(!config.redis_cluster);
        Edge { config, breaker, counts: Counts::default(), spans_slots }
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Tells Redis what was counted since the last trip, for an instance that seldom makes one.
    pub async fn tell_counts<H: Host>(&self, host: &H) {
        let hints = self.counts.take();
        if !hints.is_empty() {
            let deadline_ms = self.config.redis_deadline_ms;
            // Counters are hints; the trip has logged why it failed.
            let _ = redis::send(host, &self.breaker, deadline_ms, "", &[], hints).await;
        }
    }

    /// Whether the host must collect the body before [`Edge::handle`]: for routes whose bodies the edge reads by itself.
    pub fn collects(method: &str, target: &str) -> Option<Collect> {
        let path = target.split('?').next().unwrap_or_default();
        // Before the lookup, which costs more than most requests can afford for nothing.
        let may_take = matches!(method, "PUT" | "POST");
        let Matched::Route(route, _) = may_take.then(|| routes::lookup(method, path))? else {
            return None;
        };
        let collect = Collect { limit: route.body, deadline_ms: origin::BODY_DEADLINE_MS };
        route.at_edge.takes_body().then_some(collect)
    }

    /// Decides how a request is answered.
    pub async fn handle<H: Host, R: Request>(&self, host: &H, request: &R) -> Decision {
        let now_ms = host.now_ms();
        let id =
            request.id().map_or_else(|| new_request_id(now_ms, |bytes| host.random(bytes)), str::to_owned);
        let exchange = Exchange::new(&self.config, request, id, now_ms);
        let (path, query) = request.target().split_once('?').unwrap_or((request.target(), ""));
        let (route, path) = match self.route(request, path, &exchange) {
            Ok(found) => found,
            Err(response) => return Decision::Respond(response),
        };
        let wanted = Wanted::of(query);
        let mut passage =
            Passage { edge: self, host, request, route, path, wanted, exchange, is_late: false };
        match route.audience {
            Audience::Public => apart(passage.public()).await,
            _ => {
                // A stream says by itself that nothing may keep or change it.
                passage.exchange.private = passage.route.pattern != Pattern::Live;
                apart(passage.signed_in()).await
            }
        }
    }

    #[inline(never)] // Compiled apart: see [`apart`].
    fn route<R: Request>(
        &self,
        request: &R,
        path: &str,
        exchange: &Exchange,
    ) -> Result<(&'static Route, Path), Response> {
        match routes::lookup(request.method(), path) {
            Matched::Route(route, named) => {
                if let Some(title) = headers::doubled(request) {
                    let problem = Problem::new(ErrorCode::BadRequest, &exchange.request_id);
                    return Err(exchange.problem(&problem.field(title, "must have one value")));
                }
                let length = request.header("content-length").and_then(|text| text.parse::<u64>().ok());
                if length.is_some_and(|length| length > route.body as u64) {
                    let problem = Problem::new(ErrorCode::TooLarge, &exchange.request_id)
                        .detail(format!("At most {} bytes.", route.body));
                    return Err(exchange.problem(&problem));
                }
                match request.body() {
                    Some(Body::TooLarge) => Err(exchange.error(ErrorCode::TooLarge)),
                    Some(Body::Late) => Err(exchange.error(ErrorCode::RequestTimeout)),
                    Some(Body::Whole(_)) | None => Ok((route, named)),
                }
            }
            Matched::MethodNotAllowed(methods) => {
                let allow = allow_header(&methods);
                if request.method() == "OPTIONS" {
                    let mut response = respond::preflight(exchange, &allow);
                    response.headers.push(("allow", allow));
                    return Err(response);
                }
                let mut response = exchange.error(ErrorCode::MethodNotAllowed);
                response.headers.push(("allow", allow));
                Err(response)
            }
            // A page may send the request, and read what is wrong with its path.
            Matched::BadParameter(..) | Matched::NotFound if respond::is_preflight(request) => {
                Err(respond::preflight(exchange, ANY_METHOD))
            }
            Matched::BadParameter(name, reason) => {
                let problem = Problem::new(ErrorCode::BadRequest, &exchange.request_id).field(name, reason);
                Err(exchange.problem(&problem))
            }
            Matched::NotFound => {
                let problem = Problem::new(ErrorCode::NotFound, &exchange.request_id)
                    .detail("There is nothing at this path. GET /v1/openapi.json describes what there is.");
                Err(exchange.problem(&problem))
            }
        }
    }
}

/// The answer of an edge whose configuration is wrong. The host logs the [`ConfigError`], which names the variable: clients
/// need not know it.
pub fn unconfigured(now_ms: u64, random: &[u8; 10]) -> Response {
    let request_id = request_id(now_ms, random);
    let problem = Problem::new(ErrorCode::Internal, &request_id).detail("The edge is not configured.");
    let headers = vec![
        ("content-type", PROBLEM_JSON.to_owned()),
        ("x-request-id", request_id),
        ("x-content-type-options", "nosniff".to_owned()),
        ("cache-control", "no-store".to_owned()),
    ];
    Response { status: problem.status, headers, body: problem.to_json() }
}

/// The methods that a page may try where there is nothing.
const ANY_METHOD: &str = "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS";

fn allow_header(methods: &[Method]) -> String {
    let mut names: Vec<&str> = methods.iter().map(|method| method.as_str()).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.push("OPTIONS");
    names.join(", ")
}

/// An id for a request: a UUIDv7, so that logs sort by time. `random` fills bytes from a cryptographically secure source.
pub fn new_request_id(now_ms: u64, random: impl FnOnce(&mut [u8])) -> String {
    let mut bytes = [0; 10];
    random(&mut bytes);
    request_id(now_ms, &bytes)
}

fn request_id(now_ms: u64, random: &[u8; 10]) -> String {
    uuid::Builder::from_unix_timestamp_millis(now_ms, random).into_uuid().to_string()
}
