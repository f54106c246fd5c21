//! Answers in which something is hidden from their reader: whatever a route's handler has made is looked through here.
//!
//! What is hidden of it, the registry's guard says.

use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use optimist_shared::blocks::Blocked;
use optimist_shared::error::ErrorCode;
use optimist_shared::etag::none_match_hits;

use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::hash::digest;
use crate::hooks;
use crate::http::body::not_modified;
use crate::request::Caller;

/// Bytes that no answer of such a route exceeds: the largest list, with its overlays.
const MOST: usize = 1024 * 1024;

/// Hides from the caller what is of those whom they have blocked.
pub async fn veil(State(ctx): State<Ctx>, mut request: Request, next: Next) -> Response {
    let Some(user) = request.extensions().get::<Caller>().map(|caller| caller.user) else {
        return next.run(request).await;
    };
    // The tag that the client has is compared with that of what remains.
    let known = request.headers_mut().remove("if-none-match");
    let (blocked, response) = tokio::join!((ctx.registry.guard.blocked)(&ctx, user), next.run(request));
    if !response.status().is_success() {
        return response;
    }
    let answer = async {
        let blocked = blocked?;
        let response = match Blocked::parse(&blocked).unwrap_or_default() {
            blocked if blocked.is_empty() || hooks::disabled("veil") => response,
            blocked => hide(&ctx, blocked, response).await?,
        };
        Ok(revalidated(known.as_ref(), response))
    };
    answer.await.unwrap_or_else(|error: Error| error.into_response())
}

async fn hide(ctx: &Ctx, blocked: Blocked<'_>, response: Response) -> Result<Response> {
    let internal = |why: &dyn std::fmt::Display| Error::internal("veil", why);
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, MOST).await.map_err(|why| internal(&why))?;
    if !blocked.are_named(&bytes) {
        return Ok(Response::from_parts(parts, bytes.into()));
    }
    let value = serde_json::from_slice(&bytes).map_err(|why| internal(&why))?;
    let remains = (ctx.registry.guard.veil)(blocked, value).ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    let json: Bytes = serde_json::to_vec(&remains).map_err(|why| internal(&why))?.into();
    parts.headers.remove("content-length");
    if let Some(tag) = parts.headers.get_mut("etag") {
        *tag = of_remains(tag, &json)?;
    }
    Ok(Response::from_parts(parts, json.into()))
}

/// The entity tag of what remains of the answer with this tag.
fn of_remains(tag: &HeaderValue, json: &[u8]) -> Result<HeaderValue> {
    let text = tag.to_str().unwrap_or_default().trim_end_matches('"');
    let text = format!("{text}-{}\"", &digest(&[json])[..8]);
    HeaderValue::from_str(&text).map_err(|why| Error::internal("veil", &why))
}

/// 304 if the client has the answer.
fn revalidated(known: Option<&HeaderValue>, response: Response) -> Response {
    let known = known.and_then(|known| known.to_str().ok());
    let tag = response.headers().get("etag").and_then(|tag| tag.to_str().ok());
    match (known, tag) {
        (Some(known), Some(tag)) if none_match_hits(known, tag) => not_modified(tag),
        _ => response,
    }
}
