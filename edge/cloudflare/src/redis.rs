//! Redis through Durable Objects, each of which keeps one connection: a Worker's own socket would live only as long as
//! one request.
//!
//! The Worker encodes the commands and decodes the replies; the object only passes bytes on (see
//! [`crate::connection`]).

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use optimist_edge_core::Config;
use optimist_edge_core::host::{Command, RedisUnavailable, Reply};
use optimist_edge_resp::{decode, encode};
use wasm_bindgen::JsCast as _;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::js_sys::{Promise, Uint8Array};
use worker::wasm_bindgen_futures::JsFuture;
use worker::web_sys::{RequestInit, Response};
use worker::{Delay, Env};

/// Sends commands together, through the object that `spread` selects.
pub async fn send(
    env: &Env,
    config: &Config,
    spread: &str,
    commands: &[Command],
    deadline_ms: u32,
) -> Result<Vec<Reply>, RedisUnavailable> {
    let name = format!("{}-{}", config.region, hash(spread) % u64::from(config.redis_objects));
    let work = pin!(ask(env, &name, config.redis_location.as_deref(), commands, deadline_ms));
    let alarm = pin!(Delay::from(Duration::from_millis(u64::from(deadline_ms))));
    let bytes = match select(work, alarm).await {
        Either::Left((Ok(bytes), _)) => bytes,
        Either::Left((Err(error), _)) => return Err(RedisUnavailable(error.to_string())),
        Either::Right(_) => return Err(RedisUnavailable("no answer within the deadline".to_owned())),
    };
    decode(Bytes::from(bytes), commands.len())
        .ok_or_else(|| RedisUnavailable("the connection's object answered nonsense".to_owned()))
}

async fn ask(
    env: &Env,
    name: &str,
    location: Option<&str>,
    commands: &[Command],
    deadline_ms: u32,
) -> worker::Result<Vec<u8>> {
    let objects = env.durable_object("REDIS")?;
    let object: Object = match location {
        Some(location) => objects.get_by_name_with_location_hint(name, location)?,
        None => objects.get_by_name(name)?,
    }
    .into_rpc();
    let init = RequestInit::new();
    init.set_method("POST");
    init.set_body(&Uint8Array::from(encode(commands).as_slice()));
    // The host name is arbitrary: the stub addresses the object.
    let url = format!("https://redis/{}/{deadline_ms}", commands.len());
    let response: Response = JsFuture::from(object.fetch(&url, &init)).await?.unchecked_into();
    // Read in one piece: the `worker` crate would read the body as a stream.
    let bytes = Uint8Array::new(&JsFuture::from(response.array_buffer()?).await?).to_vec();
    match response.status() {
        200 => Ok(bytes),
        _ => Err(worker::Error::RustError(String::from_utf8_lossy(&bytes).into_owned())),
    }
}

#[wasm_bindgen]
extern "C" {
    /// A Durable Object's stub.
    type Object;
    #[wasm_bindgen(method)]
    fn fetch(this: &Object, url: &str, init: &RequestInit) -> Promise;
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
