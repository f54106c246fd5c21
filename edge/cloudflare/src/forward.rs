//! Forwards a request to the origin, and passes its answer back.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use optimist_edge_core::Edge;
use optimist_edge_core::headers::is_sent_on;
use optimist_edge_core::host::{Body, Ending, Finish, Forward, HOP_BY_HOP, Request as _};
use optimist_shared::live::SOCKET;
use wasm_bindgen::{JsCast as _, JsValue};
use worker::js_sys::{self, Array, Reflect, Uint8Array};
use worker::wasm_bindgen_futures::JsFuture;
use worker::web_sys::{
    AbortController, Headers, ReadableStreamDefaultReader, Request, RequestInit, RequestRedirect, Response,
    ResponseInit, WorkerGlobalScope,
};
use worker::{Delay, console_error};

use crate::head::Head;
use crate::host::PipelineHost;
use crate::{glue, respond};

/// The status of an answer that is a WebSocket.
const SWITCHING: u16 = 101;
/// The headers that open one. The platform makes the others.
const OPENING: [&str; 2] = ["upgrade", "sec-websocket-protocol"];

/// Forwards the request, and answers as the pipeline decides from the outcome. `handed` is the object's response, if the
/// forward came with one.
pub async fn send(
    edge: &Edge,
    host: &PipelineHost<'_>,
    request: &Request,
    head: &Head,
    mut forward: Forward,
    handed: Option<Response>,
) -> Result<Response, JsValue> {
    let collected = if let Some(Body::Whole(bytes)) = &head.body {
        Ok(bytes.clone())
    } else {
        let body = pin!(collect(request, forward.body_limit));
        match select(body, pin!(alarm(forward.body_deadline_ms))).await {
            Either::Left((body, _)) => body?.ok_or(Ending::BodyTooLarge),
            Either::Right(_) => Err(Ending::BodyLate),
        }
    };
    let (outcome, response) = match collected {
        Ok(body) => {
            let signed = forward.sign(edge, host, head, &body);
            attempt(edge, request, head, &body, &forward, &signed).await?
        }
        Err(outcome) => (outcome, None),
    };
    match (forward.pending.finish(edge, host, outcome).await, response) {
        // Built anew, it would lose its socket.
        (Finish::Pass { .. }, Some(response)) if response.status() == SWITCHING => Ok(response),
        (Finish::Pass { headers: changes }, Some(response)) => {
            let headers = Headers::new_with_headers(&response.headers())?;
            for name in HOP_BY_HOP {
                headers.delete(name)?;
            }
            for change in changes {
                // An invalid header value is dropped rather than sent malformed.
                let _ = if change.append {
                    headers.append(change.name, &change.value)
                } else {
                    headers.set(change.name, &change.value)
                };
            }
            let init = ResponseInit::new();
            init.set_status(response.status());
            init.set_headers(headers.unchecked_ref());
            Response::new_with_opt_readable_stream_and_init(response.body().as_ref(), &init)
        }
        (Finish::Replace(answer), _) => Ok(respond(answer, None)),
        (Finish::Kept, _) => {
            handed.map(|response| glue::kept(&response)).ok_or_else(|| "nothing was kept".into())
        }
        // The pipeline returns `Pass` only for an answered request.
        (Finish::Pass { .. }, None) => Err(JsValue::from_str("there is no answer to pass on")),
    }
}

/// The whole body, or `None` as soon as it is longer than `limit`. Policy keeps bodies small, and a buffered body can
/// be sent again.
async fn collect(request: &Request, limit: usize) -> Result<Option<Vec<u8>>, JsValue> {
    let Some(stream) = request.body() else { return Ok(Some(Vec::new())) };
    let reader: ReadableStreamDefaultReader = stream.get_reader().unchecked_into();
    let mut whole = Vec::new();
    loop {
        // A client that disconnects midway has sent no request: the part received will not parse.
        let Ok(result) = JsFuture::from(reader.read()).await else { break };
        if Reflect::get(&result, &"done".into())?.is_truthy() {
            break;
        }
        let piece: Uint8Array = Reflect::get(&result, &"value".into())?.unchecked_into();
        if whole.len() + piece.length() as usize > limit {
            // Do not wait for the rest of the body.
            drop(reader.cancel());
            return Ok(None);
        }
        whole.extend_from_slice(&piece.to_vec());
    }
    Ok(Some(whole))
}

async fn attempt(
    edge: &Edge,
    request: &Request,
    head: &Head,
    body: &[u8],
    forward: &Forward,
    signed: &[(&'static str, String)],
) -> Result<(Ending, Option<Response>), JsValue> {
    let abort = AbortController::new()?;
    let init = RequestInit::new();
    init.set_method(head.method());
    init.set_redirect(RequestRedirect::Manual);
    init.set_signal(Some(&abort.signal()));
    let headers = forwarded_headers(&request.headers(), signed)?;
    if head.target().split('?').next() == Some(SOCKET) {
        for name in OPENING {
            if let Some(value) = request.headers().get(name)? {
                headers.set(name, &value)?;
            }
        }
    }
    init.set_headers(headers.unchecked_ref());
    if !body.is_empty() {
        init.set_body(&Uint8Array::from(body));
    }
    let url = format!("{}{}", edge.config().origin_url, head.target());
    let work = pin!(async {
        match once(&url, &init).await {
            (Ending::Unreached, _) if forward.retry => once(&url, &init).await,
            first => first,
        }
    });
    match select(work, pin!(alarm(forward.deadline_ms))).await {
        Either::Left((outcome, _)) => Ok(outcome),
        Either::Right(_) => {
            abort.abort();
            Ok((Ending::Lost, None))
        }
    }
}

fn alarm(after_ms: u32) -> Delay {
    Delay::from(Duration::from_millis(u64::from(after_ms)))
}

async fn once(url: &str, init: &RequestInit) -> (Ending, Option<Response>) {
    let sent = async {
        let request = Request::new_with_str_and_init(url, init)?;
        let global: WorkerGlobalScope = js_sys::global().unchecked_into();
        JsFuture::from(global.fetch_with_request(&request)).await
    };
    match sent.await.map(|response| response.unchecked_into::<Response>()) {
        Ok(response) => match (response.status(), Ending::of_platform(response.status())) {
            (_, Some(ending)) => (ending, None),
            (status, None) => (Ending::Answered { status }, Some(response)),
        },
        Err(error) => {
            let text =
                error.dyn_ref::<js_sys::Error>().map_or_else(String::new, |error| error.message().into());
            if text.to_ascii_lowercase().contains("refused") {
                return (Ending::Unreached, None);
            }
            console_error!("the origin's answer was lost: {text}");
            (Ending::Lost, None)
        }
    }
}

fn forwarded_headers(headers: &Headers, signed: &[(&'static str, String)]) -> Result<Headers, JsValue> {
    let kept = Headers::new()?;
    for entry in headers.entries() {
        let entry: Array = entry?.unchecked_into();
        let (Some(name), Some(value)) = (entry.get(0).as_string(), entry.get(1).as_string()) else {
            continue;
        };
        if is_sent_on(&name) {
            kept.append(&name, &value)?;
        }
    }
    for (name, value) in signed {
        kept.set(name, value)?;
    }
    Ok(kept)
}
