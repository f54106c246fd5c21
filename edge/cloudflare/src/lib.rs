//! The edge as a Cloudflare Worker: I/O for the pipeline in `optimist-edge-core`, and no policy.

mod connection;
mod forward;
mod host;
mod redis;
mod socket;

use std::cell::RefCell;
use std::rc::Rc;

use futures_util::FutureExt as _;
use optimist_edge_core::host::{Decision, Response as Answer};
use optimist_edge_core::{Config, Edge};
use wasm_bindgen::{JsCast as _, JsValue};
use worker::js_sys::{Reflect, Uint8Array};
use worker::web_sys::{Headers, Request, Response, ResponseInit};
use worker::{Context, Env, console_error, event};

use host::{Incoming, WorkerHost};

thread_local! {
    /// Built by an isolate's first request and kept for the isolate's life. It holds no I/O, since I/O belongs to one
    /// request.
    static EDGE: RefCell<Option<Rc<Edge>>> = const { RefCell::new(None) };
}

#[event(fetch)]
async fn fetch(request: Request, env: Env, context: Context) -> worker::Result<Response> {
    let edge = match edge(&env) {
        Ok(edge) => edge,
        Err(error) => {
            let variable = error.variable.to_ascii_uppercase();
            console_error!("the edge is not configured: OPTIMIST_{variable}: {}", error.reason);
            return Ok(respond(Answer { status: 500, headers: Vec::new(), body: Vec::new() })?);
        }
    };
    let host = WorkerHost { config: edge.config(), env: &env, context: &context };
    let incoming = Incoming::new(&request, variable(&env, "client_address"));
    let response = match edge.handle(&host, &incoming).await {
        Decision::Respond(answer) => respond(answer)?,
        Decision::Forward(forward) => {
            forward::send(&edge, &host, &request, &incoming, *forward).boxed_local().await?
        }
    };
    Ok(response)
}

/// This isolate's pipeline.
fn edge(env: &Env) -> Result<Rc<Edge>, optimist_edge_core::ConfigError> {
    if let Some(edge) = EDGE.with_borrow(Clone::clone) {
        return Ok(edge);
    }
    let edge = Rc::new(Edge::new(Config::from_lookup(|name| variable(env, name))?));
    EDGE.set(Some(edge.clone()));
    Ok(edge)
}

/// Reads a variable or secret: `OPTIMIST_` and the setting's name in upper case.
fn variable(env: &Env, name: &str) -> Option<String> {
    let name = format!("OPTIMIST_{}", name.to_ascii_uppercase());
    Reflect::get(env, &JsValue::from_str(&name)).ok()?.as_string()
}

/// Converts the pipeline's answer into a response.
fn respond(answer: Answer) -> Result<Response, JsValue> {
    let headers = Headers::new()?;
    for (name, value) in &answer.headers {
        // The pipeline writes visible ASCII; any other value is dropped rather than sent malformed.
        let _ = headers.append(name, value);
    }
    let init = ResponseInit::new();
    init.set_status(answer.status);
    init.set_headers(headers.unchecked_ref());
    if answer.body.is_empty() {
        return Response::new_with_opt_str_and_init(None, &init);
    }
    Response::new_with_opt_js_u8_array_and_init(Some(&Uint8Array::from(answer.body.as_slice())), &init)
}
