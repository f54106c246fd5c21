//! The edge as a Spin component: I/O for the pipeline in `optimist-edge-core`, and no policy.

mod forward;
mod host;
mod redis;

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response};
use optimist_edge_core::host::{
    Body, Collect, Decision, Ending, Host as _, Request as _, Response as Answer,
};
use optimist_edge_core::{Config, ConfigError, Edge};
use spin_sdk::http::{BoxBody, FullBody, Request, box_body};
use spin_sdk::http_service;

use host::{Incoming, SpinHost};

/// The variables that the component reads: those of [`Config::from_lookup`] that the manifest declares.
const VARIABLES: &[&str] = &[
    "region",
    "origin_url",
    "redis_url",
    "signing_keys",
    "cors_origins",
    "trusted_proxies",
    "redis_deadline_ms",
    "origin_deadline_ms",
    "redis_cluster",
    "presence_lease_s",
    "streams",
    #[cfg(feature = "test-hooks")]
    "disabled",
];

thread_local! {
    /// Built by an instance's first request and kept for the instance's life.
    static EDGE: RefCell<Option<Rc<Edge>>> = const { RefCell::new(None) };
}

#[http_service]
async fn handle(request: Request) -> anyhow::Result<Response<BoxBody>> {
    let edge = match edge().await {
        Ok(edge) => edge,
        Err(error) => {
            eprintln!("the edge is not configured: variable {}: {}", error.variable, error.reason);
            let host = SpinHost { redis_url: "" };
            let mut random = [0; 10];
            host.random(&mut random);
            return Ok(respond(optimist_edge_core::unconfigured(host.now_ms(), &random)));
        }
    };
    let host = SpinHost { redis_url: &edge.config().redis_url };
    let (parts, mut body) = request.into_parts();
    let mut incoming = Incoming::new(&parts);
    if let Some(Collect { limit, deadline_ms }) = Edge::collects(incoming.method(), incoming.target()) {
        let collected = forward::collect_within(&mut body, limit, deadline_ms).await;
        incoming.body = Some(match collected {
            Ok(bytes) => Body::Whole(bytes.into()),
            Err(Ending::BodyLate) => Body::Late,
            Err(_) => Body::TooLarge,
        });
    }
    match edge.handle(&host, &incoming).await {
        Decision::Respond(answer) => Ok(respond(answer)),
        Decision::Forward(forward) => forward::send(&edge, &host, &parts, &incoming, body, *forward).await,
    }
}

/// This instance's pipeline.
async fn edge() -> Result<Rc<Edge>, ConfigError> {
    if let Some(edge) = EDGE.with_borrow(Clone::clone) {
        return Ok(edge);
    }
    let mut values = Vec::with_capacity(VARIABLES.len());
    for name in VARIABLES.iter().copied() {
        // An undefined variable is absent; the configuration knows which are required.
        values.push((name, spin_sdk::variables::get(name).await.ok()));
    }
    let lookup = |name| values.iter().find(|(known, _)| *known == name).and_then(|(_, value)| value.clone());
    let edge = Rc::new(Edge::new(Config::from_lookup(lookup)?));
    EDGE.set(Some(edge.clone()));
    Ok(edge)
}

/// Converts the pipeline's answer into a response.
fn respond(answer: Answer) -> Response<BoxBody> {
    let length = answer.body.len();
    let mut response = Response::new(box_body(FullBody::new(Bytes::from(answer.body))));
    // Without it the runtime sends chunks: it does not look at a body's length.
    if length > 0 {
        response.headers_mut().insert("content-length", HeaderValue::from(length));
    }
    *response.status_mut() = http::StatusCode::from_u16(answer.status).unwrap_or_default();
    for (name, value) in answer.headers {
        // The pipeline writes visible ASCII; any other value is dropped rather than sent malformed.
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().append(HeaderName::from_static(name), value);
        }
    }
    response
}
