//! The pipeline's host, in an object and in the Worker: the platform's clock, randomness and log, and a way to Redis.

use std::cell::RefCell;

use optimist_edge_core::Config;
use optimist_edge_core::host::{Command, Host, RedisUnavailable, Reply};
use optimist_edge_resp::{decode, encode};
use wasm_bindgen::{JsCast as _, JsValue};
use worker::js_sys::{self, Date, Reflect, Uint8Array};
use worker::wasm_bindgen_futures::JsFuture;
use worker::web_sys::WorkerGlobalScope;
use worker::{Env, console_error};

use crate::connection::Connections;
use crate::glue;
use crate::outer::object_of;

/// One type for both places, so that the pipeline is compiled once.
pub struct PipelineHost<'a> {
    pub redis: Redis<'a>,
}

/// The way to Redis.
pub enum Redis<'a> {
    /// An object's own connection. It has one, so the spread is ignored.
    Here(&'a Connections),
    /// Through an object.
    Apart { env: &'a Env, config: &'a Config },
    /// None, since the object was of no use: it is not asked again for the same request.
    Without(RedisUnavailable),
}

impl Host for PipelineHost<'_> {
    async fn redis(
        &self,
        spread: &str,
        commands: Vec<Command>,
        deadline_ms: u32,
    ) -> Result<Vec<Reply>, RedisUnavailable> {
        let (replies, commands) = (commands.len(), encode(&commands));
        let bytes = match &self.redis {
            Redis::Here(connections) => connections.ask(&commands, replies, deadline_ms).await?,
            Redis::Apart { env, config } => {
                let told = tell(env, config, spread, replies, deadline_ms, &commands).await;
                told.map_err(|error| RedisUnavailable::Lost(format!("{error:?}")))?.into()
            }
            Redis::Without(why) => return Err(why.clone()),
        };
        decode(bytes, replies).ok_or_else(|| RedisUnavailable::Lost("Redis answered nonsense".to_owned()))
    }

    /// Only an admitted request has hints, and an object admits.
    fn redis_after_response(&self, _: &str, commands: Vec<Command>) {
        if let Redis::Here(connections) = self.redis {
            connections.tell(&encode(&commands), commands.len());
        }
    }

    fn now_ms(&self) -> u64 {
        now_ms()
    }

    fn random(&self, bytes: &mut [u8]) {
        random(bytes);
    }

    fn log(&self, line: &str) {
        log(line);
    }
}

async fn tell(
    env: &Env,
    config: &Config,
    spread: &str,
    replies: usize,
    deadline_ms: u32,
    commands: &[u8],
) -> Result<Vec<u8>, JsValue> {
    let objects = Reflect::get(env, &"REDIS".into())?;
    let (name, location) = (object_of(config, spread), config.redis_location.as_deref());
    let told = glue::tell(&objects, &name, location, replies, deadline_ms, commands);
    Ok(JsFuture::from(told).await?.unchecked_into::<Uint8Array>().to_vec())
}

pub fn now_ms() -> u64 {
    // Whole milliseconds since 1970: far below the limits of both types.
    Date::now() as u64
}

/// Random bytes that no request has used yet: the platform is asked for many at once.
struct Pool {
    bytes: [u8; 1024],
    used: usize,
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; 1024], used: 1024 }) };
}

/// Fills `bytes` from the platform's secure source. At most 1,024.
pub fn random(bytes: &mut [u8]) {
    POOL.with_borrow_mut(|pool| {
        if pool.bytes.len() - pool.used < bytes.len() {
            let crypto = js_sys::global().unchecked_into::<WorkerGlobalScope>().crypto();
            let filled = crypto.and_then(|crypto| crypto.get_random_values_with_u8_array(&mut pool.bytes));
            if let Err(error) = filled {
                // A request without randomness must fail: it would repeat a nonce.
                wasm_bindgen::throw_val(error);
            }
            pool.used = 0;
        }
        let (from, to) = (pool.used, pool.used + bytes.len());
        bytes.copy_from_slice(&pool.bytes[from..to]);
        pool.bytes[from..to].fill(0);
        pool.used = to;
    });
}

pub fn log(line: &str) {
    console_error!("{line}");
}
