//! The headers of every answer, whether the edge gives it or passes it on: request id, CORS, timing, limits.

use optimist_shared::error::{ErrorCode, PROBLEM_JSON, Problem};
use optimist_shared::limits::{LimitRow, LimitState, given_back, policy_header, state_header};

use crate::config::Config;
use crate::host::{HeaderChange, Request, Response};

/// The facts of a request that its answer's headers need.
pub struct Exchange {
    pub request_id: String,
    pub started_ms: u64,
    pub redis_ms: u64,
    /// The origin of the calling page, if it may call us.
    pub cors_origin: Option<String>,
    /// Some pages may call us, so that answers differ by the calling page's origin: also those without one.
    pub varies_by_origin: bool,
    /// Answers differ by caller.
    pub private: bool,
    pub is_head: bool,
    /// The limits that were charged, and their state.
    pub limits: Option<(Vec<&'static LimitRow>, Vec<LimitState>)>,
}

/// The headers of answers that a page may read, besides those that every page may.
const EXPOSED: &str = "Age, Allow, Cache-Status, ETag, Location, RateLimit, RateLimit-Policy, Retry-After, Server-Timing, \
                       Warning, WWW-Authenticate, X-Request-Id";

impl Exchange {
    pub fn new(config: &Config, request: &impl Request, request_id: String, now_ms: u64) -> Exchange {
        Exchange {
            request_id,
            started_ms: now_ms,
            redis_ms: 0,
            cors_origin: allowed_origin(config, request),
            varies_by_origin: !config.cors_origins.is_empty(),
            private: false,
            is_head: request.method() == "HEAD",
            limits: None,
        }
    }

    /// Shows an attempt that was given back as not used.
    pub fn give_back(&mut self, rows: &[&LimitRow]) {
        if let Some((_, states)) = &mut self.limits {
            given_back(states, rows);
        }
    }

    pub fn problem(&self, problem: &Problem) -> Response {
        self.respond(problem.status, vec![("content-type", PROBLEM_JSON.to_owned())], problem.to_json())
    }

    pub fn error(&self, code: ErrorCode) -> Response {
        self.problem(&Problem::new(code, &self.request_id))
    }

    /// 401, with advice for the client.
    pub fn unauthenticated(&self, detail: &str) -> Response {
        let problem = Problem::new(ErrorCode::Unauthenticated, &self.request_id).detail(detail);
        let mut response = self.problem(&problem);
        response.headers.push(("www-authenticate", "Bearer".to_owned()));
        response
    }

    pub fn respond(&self, status: u16, mut headers: Vec<(&'static str, String)>, body: Vec<u8>) -> Response {
        headers.extend(self.common());
        if status >= 400 {
            headers.push(("cache-control", "no-store".to_owned()));
        } else if self.private {
            headers.push(("cache-control", "private, no-cache".to_owned()));
        }
        Response { status, headers, body: if self.is_head { Vec::new() } else { body } }
    }

    /// The changes to an answer from the origin.
    pub fn pass(&self, cache_status: &str, origin_ms: u64) -> Vec<HeaderChange> {
        let mut changes: Vec<HeaderChange> =
            self.common().map(|(name, value)| HeaderChange { name, value, append: name == "vary" }).collect();
        changes.push(HeaderChange { name: "cache-status", value: cache_status.to_owned(), append: false });
        let timing = format!("redis;dur={}, origin;dur={origin_ms}", self.redis_ms);
        changes.push(HeaderChange { name: "server-timing", value: timing, append: true });
        changes
    }

    fn common(&self) -> impl Iterator<Item = (&'static str, String)> {
        let cors = self.cors_origin.iter().flat_map(|origin| {
            [
                ("access-control-allow-origin", origin.clone()),
                ("access-control-expose-headers", EXPOSED.to_owned()),
            ]
        });
        let vary = self.varies_by_origin.then(|| ("vary", "Origin".to_owned()));
        let limits = self.limits.iter().flat_map(|(rows, states)| {
            [("ratelimit-policy", policy_header(rows)), ("ratelimit", state_header(states))]
        });
        [("x-request-id", self.request_id.clone()), ("x-content-type-options", "nosniff".to_owned())]
            .into_iter()
            .chain(cors)
            .chain(vary)
            .chain(limits)
    }
}

fn allowed_origin(config: &Config, request: &impl Request) -> Option<String> {
    let origin = request.header("origin")?;
    config.cors_origins.iter().any(|allowed| allowed == "*" || *allowed == origin).then_some(origin)
}

/// Whether a browser asks if a page may send a request.
pub fn is_preflight(request: &impl Request) -> bool {
    request.method() == "OPTIONS" && request.header("access-control-request-method").is_some()
}

/// The answer to a browser's CORS preflight. Always 204: a foreign page gets no permission headers.
pub fn preflight(exchange: &Exchange, methods: &str) -> Response {
    let mut headers = Vec::new();
    if exchange.cors_origin.is_some() {
        headers.extend([
            ("access-control-allow-methods", methods.to_owned()),
            (
                "access-control-allow-headers",
                "authorization, content-type, idempotency-key, if-match, if-none-match, traceparent"
                    .to_owned(),
            ),
            // Two hours: the most that Chromium honours.
            ("access-control-max-age", "7200".to_owned()),
        ]);
    }
    exchange.respond(204, headers, Vec::new())
}
