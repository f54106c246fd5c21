//! The platform's clock, randomness, log and client address, for the pipeline.

use std::net::IpAddr;

use optimist_edge_core::Config;
use optimist_edge_core::headers::combined;
use optimist_edge_core::host::{Command, Host, RedisUnavailable, Reply, Request};
use wasm_bindgen::JsCast as _;
use worker::js_sys::{self, Date};
use worker::web_sys::{self, WorkerGlobalScope};
use worker::{Context, Env, console_error};

use crate::redis;

pub struct WorkerHost<'a> {
    pub config: &'a Config,
    pub env: &'a Env,
    pub context: &'a Context,
}

impl Host for WorkerHost<'_> {
    async fn redis(
        &self,
        spread: &str,
        commands: Vec<Command>,
        deadline_ms: u32,
    ) -> Result<Vec<Reply>, RedisUnavailable> {
        redis::send(self.env, self.config, spread, &commands, deadline_ms).await
    }

    fn redis_after_response(&self, spread: &str, commands: Vec<Command>) {
        /// In milliseconds. Nobody waits for these commands, but they must end.
        const DEADLINE_MS: u32 = 1_000;
        let (env, config, spread) = (self.env.clone(), self.config.clone(), spread.to_owned());
        self.context.wait_until(async move {
            // These commands are hints only, see the trait.
            let _ = redis::send(&env, &config, &spread, &commands, DEADLINE_MS).await;
        });
    }

    fn now_ms(&self) -> u64 {
        // Whole milliseconds since 1970: far below the limits of both types.
        Date::now() as u64
    }

    fn random(&self, bytes: &mut [u8]) {
        if let Err(error) = crypto().and_then(|crypto| crypto.get_random_values_with_u8_array(bytes)) {
            // A request without randomness must fail: it would repeat a nonce.
            wasm_bindgen::throw_val(error);
        }
    }

    fn log(&self, line: &str) {
        console_error!("{line}");
    }
}

fn crypto() -> Result<web_sys::Crypto, wasm_bindgen::JsValue> {
    js_sys::global().unchecked_into::<WorkerGlobalScope>().crypto()
}

/// The head of a request.
pub struct Incoming {
    method: String,
    target: String,
    headers: web_sys::Headers,
    client_address: Option<IpAddr>,
}

impl Incoming {
    /// `local_address` replaces the platform's client address in a workerd on a developer's machine, which has none.
    pub fn new(request: &web_sys::Request, local_address: Option<String>) -> Incoming {
        let headers = request.headers();
        let address = local_address.or_else(|| headers.get("cf-connecting-ip").ok().flatten());
        Incoming {
            method: request.method(),
            target: target(&request.url()).to_owned(),
            client_address: address.and_then(|text| text.parse().ok()),
            headers,
        }
    }
}

/// Path and query of an absolute URL, as sent. (A URL parser would cost a third of the Worker's size.)
fn target(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let target = rest.find('/').map_or("/", |start| &rest[start..]);
    target.split('#').next().unwrap_or(target)
}

impl Request for Incoming {
    fn method(&self) -> &str {
        &self.method
    }

    fn target(&self) -> &str {
        &self.target
    }

    fn header(&self, name: &str) -> Option<String> {
        // The runtime has joined the lines.
        let value = self.headers.get(name).ok().flatten()?;
        combined(std::iter::once(value.as_bytes()))
    }

    fn client_address(&self) -> Option<IpAddr> {
        self.client_address
    }
}
