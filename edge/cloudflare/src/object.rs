//! The Durable Object beside Redis: it runs the pipeline for the requests of many Workers, over one connection.
//!
//! It gets heads; and whole bodies only where the pipeline reads them by itself: a slow client never occupies it. It hands over what
//! must be forwarded, so a slow origin occupies it no more. It has the breaker and the counters. Nothing is stored.

use std::cell::OnceCell;
use std::rc::Rc;

use optimist_edge_core::host::{Body, Decision, Request as _};
use optimist_edge_core::{ConfigError, Edge};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::Env;
use worker::js_sys::{Promise, Uint8Array};
use worker::wasm_bindgen_futures::{JsFuture, spawn_local};
use worker::web_sys::Request;

use crate::connection::Connections;
use crate::glue::{self, Later};
use crate::head::Head;
use crate::host::{PipelineHost, Redis};
use crate::{give, outer};

#[wasm_bindgen]
pub struct RedisConnection {
    env: Env,
    inner: OnceCell<Rc<Inner>>,
}

struct Inner {
    edge: Edge,
    connections: Connections,
}

#[wasm_bindgen]
impl RedisConnection {
    #[wasm_bindgen(constructor)]
    pub fn new(_state: &JsValue, env: Env) -> RedisConnection {
        RedisConnection { env, inner: OnceCell::new() }
    }

    /// A request with a head is answered, or handed over. `POST /<replies>/<deadline in milliseconds>` sends the body, commands, to
    /// Redis, and answers with the replies as Redis sent them.
    pub fn fetch(&self, request: Request) -> Promise {
        let inner = match self.inner() {
            Ok(inner) => inner,
            Err(error) => return Promise::resolve(&JsValue::from(outer::misconfigured(&error))),
        };
        let later = Later::new();
        let promise = later.promise();
        spawn_local(async move {
            match glue::asked(&request) {
                Some(head) => inner.answer(&request, &head, &later).await,
                None => match inner.pass_on(&request).await {
                    Ok(replies) => later.give(200, "", &replies, None),
                    Err(why) => later.give(503, "", why.as_bytes(), None),
                },
            }
        });
        promise
    }
}

impl RedisConnection {
    fn inner(&self) -> Result<Rc<Inner>, ConfigError> {
        if let Some(inner) = self.inner.get() {
            return Ok(inner.clone());
        }
        let config = outer::config(&self.env)?;
        let connections = Connections::new(&config.redis_url);
        let inner = Rc::new(Inner { edge: Edge::new(config), connections });
        Ok(self.inner.get_or_init(|| inner).clone())
    }
}

impl Inner {
    async fn answer(&self, request: &Request, head: &str, later: &Later) {
        let Some(mut head) = Head::parse(head) else { return later.give(400, "", &[], None) };
        if Edge::collects(head.method(), head.target()).is_some() {
            // Without it the pipeline hands the request over.
            head.body = bytes_of(request).await.ok().map(Body::Whole);
        }
        let host = PipelineHost { redis: Redis::Here(&self.connections) };
        match self.edge.handle(&host, &head).await {
            Decision::Respond(answer) => give(later, answer, None),
            Decision::Forward(forward) => match forward.hand_over() {
                (text, Some(kept)) => give(later, kept, Some(&text)),
                (text, None) => later.give(204, "", &[], Some(&text)),
            },
        }
    }

    async fn pass_on(&self, request: &Request) -> Result<Vec<u8>, String> {
        let url = request.url();
        let mut path = url.rsplit('/');
        let mut number = || path.next().and_then(|text| text.parse::<u32>().ok());
        let (Some(deadline_ms), Some(replies)) = (number(), number()) else {
            return Err("no such request".to_owned());
        };
        let bytes = bytes_of(request).await.map_err(|error| format!("{error:?}"))?;
        let asked = self.connections.ask(&bytes, replies as usize, deadline_ms).await;
        asked.map(|replies| replies.to_vec()).map_err(|error| format!("{error:?}"))
    }
}

async fn bytes_of(request: &Request) -> Result<Vec<u8>, JsValue> {
    Ok(Uint8Array::new(&JsFuture::from(request.array_buffer()?).await?).to_vec())
}
