//! Admission: every request of the API listener passes here first, and its answer gets its common headers here.
//!
//! The origin trusts what the edge signed: a checked session, the role it read, limits it charged. It checks from Postgres
//! here whatever the edge could not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::routes::{self, Matched};
use optimist_shared::session::Token;
use optimist_shared::signature::{
    CONTENT_DIGEST_HEADER, CONTEXT_HEADER, Charged as AtEdge, Context, Identity, Refusal, SIGNATURE_HEADER,
    SIGNATURE_INPUT_HEADER, Signed, verify,
};
use tracing::Instrument as _;

use crate::clock::now_ms;
use crate::ctx::Ctx;
use crate::error::{Error, REQUEST_ID, Result};
use crate::limits::charge::{charge_route, checking_token, settle};
use crate::limits::charged::Charged;
use crate::request::{Caller, RequestContext};

/// What stands for an edge's signature where this process makes a request itself. No request that comes by a connection has it.
#[derive(Clone)]
pub struct Inside(pub Context);

/// The middleware of the API listener.
pub async fn admit(State(ctx): State<Ctx>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let verified = match request.extensions_mut().remove::<Inside>() {
        Some(Inside(context)) => Ok(context),
        None => verify_signature(&ctx, &request),
    };
    let request_id = match &verified {
        Ok(context) => context.request_id.clone(),
        Err(_) => Uuid::now_v7().to_string(),
    };
    let span =
        tracing::info_span!("request", request_id, method = %request.method(), path = request.uri().path());
    let asked = verified.and_then(|context| read_head(&request, context));
    let answer = async {
        let asked = match asked {
            Ok(asked) => asked,
            Err(error) => return ("none", error.into_response()),
        };
        let route = asked.known.route.name;
        let (caller, charged) = match identify(&ctx, &asked).await {
            Ok(found) => found,
            Err(error) => return (route, error.into_response()),
        };
        request.extensions_mut().insert(asked.known);
        caller.map(|caller| request.extensions_mut().insert(caller));
        let mut response = next.run(request).await;
        if let Some(charged) = charged {
            let status = response.status().as_u16();
            settle(&ctx, &charged, status).await;
            charged.add_headers(response.headers_mut(), status);
        }
        (route, response)
    };
    let (route, mut response) = REQUEST_ID.scope(request_id.clone(), answer).instrument(span.clone()).await;
    let elapsed = started.elapsed();
    let status = response.status().as_u16();
    metrics::histogram!("optimist_request_seconds", "route" => route, "status" => status.to_string())
        .record(elapsed.as_secs_f64());
    span.in_scope(|| log(route, status, elapsed));
    let headers = response.headers_mut();
    set(headers, "x-request-id", &request_id);
    set(headers, "server-timing", &format!("total;dur={:.1}", elapsed.as_secs_f64() * 1000.0));
    response
}

/// The first of so many requests that succeed in time is logged.
const LOGGED_ONE_IN: u64 = 16;
/// A request that takes longer is logged.
const SLOW: Duration = Duration::from_millis(100);

/// Logs failures, slow requests, and a sample of the others, each with how many it stands for. The level `debug` shows all of
/// them.
fn log(route: &str, status: u16, elapsed: Duration) {
    static FAST: AtomicU64 = AtomicU64::new(0);
    let microseconds = elapsed.as_micros() as u64;
    let is_notable = status >= 400 || elapsed >= SLOW;
    if is_notable || FAST.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOGGED_ONE_IN) {
        let stands_for = if is_notable { 1 } else { LOGGED_ONE_IN };
        tracing::info!(route, status, microseconds, stands_for, "answered");
    } else {
        tracing::debug!(route, status, microseconds, "answered");
    }
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

fn header<'a>(request: &'a Request, name: &str) -> &'a str {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn verify_signature(ctx: &Ctx, request: &Request) -> Result<Context> {
    let refused = |refusal: Refusal| {
        tracing::warn!(?refusal, "a request that the edge has not signed");
        metrics::counter!("optimist_unsigned_total", "refusal" => refusal.as_str()).increment(1);
        Error::new(ErrorCode::Misdirected).detail("The request is not signed by an edge of this region.")
    };
    let input = header(request, SIGNATURE_INPUT_HEADER);
    if input.is_empty() {
        return Err(refused(Refusal::Unsigned));
    }
    let context = header(request, CONTEXT_HEADER);
    let signed = Signed {
        method: request.method().as_str(),
        target: request.uri().path_and_query().map_or("/", |target| target.as_str()),
        context,
        authorization: header(request, "authorization"),
        idempotency_key: header(request, "idempotency-key"),
        // Compared with the body when that is read.
        content_digest: header(request, CONTENT_DIGEST_HEADER),
    };
    let now = now_ms() / 1000;
    let signature = header(request, SIGNATURE_HEADER);
    let verified = verify(signed, input, signature, |id| ctx.config.signing_keys().get(id), now);
    let verified = verified.map_err(|refusal| match refusal {
        // An edge did sign it: it waited in a queue, or a clock is wrong. The client's session is still good.
        Refusal::Expired => {
            tracing::warn!("a request that the edge signed reached us too late, or too early by our clock");
            Error::late()
        }
        refusal => refused(refusal),
    })?;
    let context = Context::parse(context).ok_or_else(|| refused(Refusal::Malformed))?;
    if context.region != ctx.config.region {
        return Err(refused(Refusal::OtherRegion));
    }
    if !ctx.nonces.is_new(verified.nonce, verified.expires, now) {
        return Err(refused(Refusal::Replayed));
    }
    Ok(context)
}

/// A request for a route of the table, as far as its head tells.
struct Asked {
    context: Context,
    known: RequestContext,
    token: Option<Token>,
    idempotency_key: Option<String>,
}

fn read_head(request: &Request, context: Context) -> Result<Asked> {
    let (route, path) = match routes::lookup(request.method().as_str(), request.uri().path()) {
        Matched::Route(route, path) => (route, path),
        Matched::MethodNotAllowed(_) => return Err(Error::new(ErrorCode::MethodNotAllowed)),
        Matched::BadParameter(name, reason) => {
            return Err(Error::new(ErrorCode::BadRequest).field(name, reason));
        }
        Matched::NotFound => return Err(Error::new(ErrorCode::NotFound)),
    };
    let text = |name: &str| Some(header(request, name).to_owned()).filter(|text| !text.is_empty());
    let known = RequestContext {
        request_id: context.request_id.clone(),
        traceparent: text("traceparent"),
        client: context.client.clone(),
        route,
        path,
        // Its ids may be in upper case: a repetition in the other case is the same request.
        target: request.uri().path().to_ascii_lowercase().into(),
        user_agent: text("user-agent").map(|agent| agent.chars().take(256).collect()),
    };
    let token = text("authorization").as_deref().and_then(Token::from_authorization);
    Ok(Asked { context, known, token, idempotency_key: text("idempotency-key") })
}

/// Identifies the caller, and charges the limits that the edge could not.
async fn identify(ctx: &Ctx, asked: &Asked) -> Result<(Option<Caller>, Option<Charged>)> {
    let Asked { context, known, token, idempotency_key } = asked;
    let identity = match context.identity {
        Identity::Public => None,
        Identity::Session { user, session } => Some((user, session)),
        Identity::Unchecked => {
            let token = token.ok_or_else(|| Error::new(ErrorCode::Unauthenticated))?;
            let check = (ctx.registry.guard.check_token)(ctx, &token);
            match context.charged {
                AtEdge::Nothing => checking_token(ctx, &context.client, check).await?,
                // Redis knows the session and its secret; only its epoch is over.
                AtEdge::Limits => check.await?,
            }
            Some((token.user, token.session))
        }
    };
    if let (routes::Audience::Admin, Some((user, _))) = (known.route.audience, identity) {
        (ctx.registry.guard.require_admin)(ctx, user).await?;
    }
    let charged = if context.charged == AtEdge::Limits {
        None
    } else {
        let user = identity.map(|(user, _)| user);
        Some(charge_route(ctx, known, user, idempotency_key.as_deref()).await?)
    };
    let caller =
        identity.map(|(user, session)| Caller { user, session, role: context.role, request: known.clone() });
    Ok((caller, charged))
}
