//! The API's description, as the origin serves it.
//!
//! The plane makes it, from the routes table and from the domains' own words for their endpoints; nothing is described here.

use std::sync::OnceLock;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::http::body::tagged;
use optimist_plane::http::served::{Served, on};
use optimist_plane::openapi::Document;
use serde_json::{Map, Value};

pub fn routes() -> Vec<Served> {
    vec![on("openapi", serve).says("This document.").answers::<Map<String, Value>>(200).tagged()]
}

async fn serve(State(ctx): State<Ctx>, headers: HeaderMap) -> Result<Response> {
    /// Made once: neither the tables nor the domains change while the process runs.
    static DOCUMENT: OnceLock<Document> = OnceLock::new();
    let Document { json, version } = DOCUMENT.get_or_init(|| Document::of(ctx.registry));
    let mut response = tagged(&headers, version, "", json.clone());
    // The document is the same for everyone, until the next release.
    response.headers_mut().insert("cache-control", HeaderValue::from_static("public, max-age=300"));
    Ok(response)
}
