//! The Worker that clients reach: it picks an object, returns the object's answer as it is, and forwards what the object hands
//! over. It has no connection to Redis, since a Worker's socket would live only as long as one request.
//!
//! If the object fails, the request is forwarded without Redis; if the object has too much to do, the answer is 503.

use std::cell::RefCell;
use std::rc::Rc;

use optimist_edge_core::host::{Body, Collect, Decision, Forward, RedisUnavailable, SILENT_DEADLINES};
use optimist_edge_core::{Config, ConfigError, Edge, new_request_id};
use optimist_shared::session::Token;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast as _, JsValue};
use worker::Env;
use worker::js_sys::{Promise, Reflect, Uint8Array};
use worker::web_sys::{Request, Response};

use crate::head::Head;
use crate::host::{PipelineHost, Redis};
use crate::{forward, glue, host, respond};

/// What an isolate keeps for its life. It holds no I/O, since I/O belongs to one request.
struct Isolate {
    edge: Edge,
    /// Replaces the platform's client address in a workerd on a developer's machine, which has none.
    local_address: Option<String>,
}

thread_local! {
    static ISOLATE: RefCell<Option<Rc<Isolate>>> = const { RefCell::new(None) };
}

/// This isolate's state.
fn isolate(env: &Env) -> Result<Rc<Isolate>, ConfigError> {
    if let Some(isolate) = ISOLATE.with_borrow(Clone::clone) {
        return Ok(isolate);
    }
    let edge = Edge::beside(config(env)?);
    let isolate = Rc::new(Isolate { edge, local_address: variable(env, "client_address") });
    ISOLATE.set(Some(isolate.clone()));
    Ok(isolate)
}

pub fn config(env: &Env) -> Result<Config, ConfigError> {
    Config::from_lookup(|name| variable(env, name))
}

/// Reads a variable or secret: `OPTIMIST_` and the setting's name in upper case.
fn variable(env: &Env, name: &str) -> Option<String> {
    let name = format!("OPTIMIST_{}", name.to_ascii_uppercase());
    Reflect::get(env, &JsValue::from_str(&name)).ok()?.as_string()
}

/// The Worker's handler of requests.
#[wasm_bindgen]
pub fn fetch(request: &Request, env: &Env, _context: &JsValue) -> Promise {
    let isolate = match isolate(env) {
        Ok(isolate) => isolate,
        Err(error) => return Promise::resolve(&JsValue::from(misconfigured(&error))),
    };
    let config = isolate.edge.config();
    let who = glue::who(request, isolate.local_address.as_deref());
    let collect = collects(&who);
    // Trips that find Redis silent, and the one that loads a script again.
    let deadline_ms = config.redis_deadline_ms * (SILENT_DEADLINES + 2);
    let (name, location) = (object_of(config, &spread(&who)), config.redis_location.as_deref());
    // Here, so that an object that is given up and whoever goes on charge one attempt.
    let id = new_request_id(host::now_ms(), host::random);
    let (limit, patience) = collect.map(|collect| (collect.limit, collect.deadline_ms)).unzip();
    glue::serve(request, env, &name, location, &id, &who, deadline_ms, limit, patience.unwrap_or_default())
}

/// Whether the pipeline reads the body of a request that has one.
fn collects(who: &str) -> Option<Collect> {
    let (method, target) = who.splitn(3, '\n').nth(2)?.split_once(' ')?;
    Edge::collects(method, target)
}

/// The text by which an object is chosen: the id of the user or, without a session, the address of the client.
fn spread(who: &str) -> String {
    let mut lines = who.split('\n');
    let (address, authorization) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    Token::from_authorization(authorization)
        .map_or_else(|| address.to_owned(), |token| token.user.to_string())
}

pub fn misconfigured(error: &ConfigError) -> Response {
    let variable = error.variable.to_ascii_uppercase();
    host::log(&format!("the edge is not configured: OPTIMIST_{variable}: {}", error.reason));
    let mut random = [0; 10];
    host::random(&mut random);
    respond(optimist_edge_core::unconfigured(host::now_ms(), &random), None)
}

/// The name of the object that `spread` chooses.
pub fn object_of(config: &Config, spread: &str) -> String {
    format!("{}-{}", config.region, hash(spread) % u64::from(config.redis_objects))
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Goes on with a request that no object has answered: see `serve` in `glue.js`.
///
/// The head is a value of JavaScript's, not a `String`: wasm-bindgen would write that into the memory of an instance that has
/// ended, before it calls the new one.
#[wasm_bindgen(wasm_bindgen_futures = worker::wasm_bindgen_futures, js_sys = worker::js_sys)]
pub async fn carry_on(
    request: Request,
    env: Env,
    head: JsValue,
    found: JsValue,
    body: JsValue,
) -> Result<Response, JsValue> {
    let isolate = isolate(&env).map_err(|error| JsValue::from_str(&error.to_string()))?;
    let edge = &isolate.edge;
    let mut head = head.as_string().as_deref().and_then(Head::parse).ok_or("a request without a head")?;
    head.body = match body.as_string().as_deref() {
        Some("large") => Some(Body::TooLarge),
        Some(_) => Some(Body::Late),
        None => body.dyn_ref::<Uint8Array>().map(|bytes| Body::Whole(bytes.to_vec())),
    };
    let found = match found.as_string() {
        Some(why) => Err(why),
        None => Ok(found.unchecked_into::<Response>()),
    };
    let handed = found.as_ref().ok().and_then(|response| Forward::take_over(&glue::handed(response)?));
    if let Some(forward) = handed {
        let host = PipelineHost { redis: Redis::Apart { env: &env, config: edge.config() } };
        let answer = forward::send(edge, &host, &request, &head, forward, found.ok()).await;
        edge.tell_counts(&host).await;
        return answer;
    }
    let without = match found.as_ref().map_or_else(String::as_str, |_| "lost") {
        "late" => RedisUnavailable::Late,
        _ => RedisUnavailable::Lost("the object does not answer".to_owned()),
    };
    let host = PipelineHost { redis: Redis::Without(without) };
    match edge.handle(&host, &head).await {
        Decision::Respond(answer) => Ok(respond(answer, None)),
        Decision::Forward(forward) => forward::send(edge, &host, &request, &head, *forward, None).await,
    }
}
