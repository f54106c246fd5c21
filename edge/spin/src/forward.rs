//! Forwards a request to the origin, and passes its answer back.

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use optimist_edge_core::Edge;
use optimist_edge_core::headers::is_sent_on;
use optimist_edge_core::host::{Body, Ending, Finish, Forward, HOP_BY_HOP};
use optimist_shared::live::{EVENTS, STREAMS_HEADER};
use spin_sdk::http::{BoxBody, box_body};
use spin_sdk::wasip3::http::types::ErrorCode;
use spin_sdk::wasip3::http_compat::{IncomingRequestBody, IncomingResponseBody};

use crate::host::{Incoming, SpinHost, within};
use crate::respond;

/// Forwards the request, and answers as the pipeline decides from the outcome.
pub async fn send(
    edge: &Edge,
    host: &SpinHost<'_>,
    parts: &Parts,
    incoming: &Incoming<'_>,
    mut body: IncomingRequestBody,
    mut forward: Forward,
) -> anyhow::Result<Response<BoxBody>> {
    let collected = match &incoming.body {
        Some(Body::Whole(bytes)) => Ok(Bytes::copy_from_slice(bytes)),
        _ => collect_within(&mut body, forward.body_limit, forward.body_deadline_ms).await,
    };
    let (outcome, response) = match collected {
        Ok(body) => {
            let signed = forward.sign(edge, host, incoming, &body);
            attempt(edge, parts, body, &forward, &signed).await
        }
        Err(outcome) => (outcome, None),
    };
    let finish = forward.pending.finish(edge, host, outcome).await;
    match (finish, response) {
        (Finish::Pass { headers }, Some(response)) => {
            let mut response = response.map(box_body);
            let kept = response.headers_mut();
            HOP_BY_HOP.iter().for_each(|name| drop(kept.remove(*name)));
            for change in headers {
                let name = HeaderName::from_static(change.name);
                if let Ok(value) = HeaderValue::from_str(&change.value) {
                    if change.append {
                        kept.append(name, value)
                    } else {
                        kept.insert(name, value).is_some()
                    };
                }
            }
            Ok(response)
        }
        (Finish::Replace(answer), _) => Ok(respond(answer)),
        // The pipeline returns `Pass` only for an answered request, and `Kept` only where another place handed over.
        (Finish::Pass { .. }, None) | (Finish::Kept, _) => anyhow::bail!("there is no answer to pass on"),
    }
}

/// The whole body, or why there is none.
pub async fn collect_within(
    body: &mut IncomingRequestBody,
    limit: usize,
    deadline_ms: u32,
) -> Result<Bytes, Ending> {
    match within(deadline_ms, collect(body, limit)).await {
        Some(body) => body.ok_or(Ending::BodyTooLarge),
        None => Err(Ending::BodyLate),
    }
}

/// The whole body, or `None` as soon as it is longer than `limit`. Policy keeps bodies small, and a buffered body can
/// be sent again.
async fn collect(body: &mut IncomingRequestBody, limit: usize) -> Option<Bytes> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // A client that disconnects midway has sent no request: the part received will not parse.
        let Ok(frame) = frame else { break };
        if let Ok(data) = frame.into_data() {
            if whole.len() + data.len() > limit {
                return None;
            }
            whole.extend_from_slice(&data);
        }
    }
    Some(whole.freeze())
}

async fn attempt(
    edge: &Edge,
    parts: &Parts,
    body: Bytes,
    forward: &Forward,
    signed: &[(&'static str, String)],
) -> (Ending, Option<Response<IncomingResponseBody>>) {
    let work = async {
        let mut again = forward.retry;
        loop {
            match once(edge, parts, body.clone(), signed).await {
                Err(error) if again && is_unreached(&error) => again = false,
                result => break result,
            }
        }
    };
    match within(forward.deadline_ms, work).await {
        Some(Ok(response)) => (Ending::Answered { status: response.status().as_u16() }, Some(response)),
        Some(Err(error)) if is_unreached(&error) => (Ending::Unreached, None),
        Some(Err(error)) => {
            eprintln!("the origin's answer was lost: {error}");
            (Ending::Lost, None)
        }
        None => (Ending::Lost, None),
    }
}

async fn once(
    edge: &Edge,
    parts: &Parts,
    body: Bytes,
    signed: &[(&'static str, String)],
) -> Result<Response<IncomingResponseBody>, ErrorCode> {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut request = Request::new(Full::new(body.clone()));
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = format!("{}{target}", edge.config().origin_url)
        .parse()
        .map_err(|_| ErrorCode::HttpRequestUriInvalid)?;
    *request.headers_mut() = forwarded_headers(parts, &body, signed);
    if parts.uri.path() == EVENTS {
        let most = HeaderValue::from(edge.config().streams);
        request.headers_mut().insert(HeaderName::from_static(STREAMS_HEADER), most);
    }
    spin_sdk::http::send(request).await
}

fn forwarded_headers(parts: &Parts, body: &Bytes, signed: &[(&'static str, String)]) -> HeaderMap {
    let headers = &parts.headers;
    let mut kept = HeaderMap::with_capacity(headers.len() + signed.len());
    for name in headers.keys().filter(|name| is_sent_on(name.as_str())) {
        // One line, as a Worker's runtime makes of several: the origin's readers look at the first.
        let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(value) = HeaderValue::from_bytes(&lines.join(&b", "[..])) {
            kept.insert(name.clone(), value);
        }
    }
    // A write without a body says so: the runtime would send chunks, of which the last is a segment of its own, and Spin's
    // connections hold that back until the origin has acknowledged the head.
    if !body.is_empty() || !parts.method.is_safe() {
        kept.insert("content-length", HeaderValue::from(body.len()));
    }
    for (name, value) in signed {
        if let Ok(value) = HeaderValue::from_str(value) {
            kept.insert(HeaderName::from_static(name), value);
        }
    }
    kept
}

/// Whether a request with this error certainly never reached the origin: nothing of it was sent, so that it may be sent
/// again, and its charges are given back. The codes are those of RFC 9209, 2.3.
fn is_unreached(error: &ErrorCode) -> bool {
    match error {
        // There was no address to connect to, or a rule of the host's forbids it.
        ErrorCode::DnsTimeout
        | ErrorCode::DnsError(_)
        | ErrorCode::DestinationNotFound
        | ErrorCode::DestinationUnavailable
        | ErrorCode::DestinationIpProhibited
        | ErrorCode::DestinationIpUnroutable
        | ErrorCode::HttpRequestDenied
        // There was no connection.
        | ErrorCode::ConnectionRefused
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionLimitReached
        // The handshake failed. Spin reports later failures of TLS as errors of HTTP.
        | ErrorCode::TlsProtocolError
        | ErrorCode::TlsCertificateError
        // There was no request to send.
        | ErrorCode::HttpRequestUriInvalid => true,
        // An alert can also come after the request: a server that wants a certificate sends it when the client has finished
        // its handshake, and perhaps begun.
        _ => false,
    }
}
