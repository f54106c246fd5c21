//! Redis through Durable Objects, each of which keeps one connection: a socket of the Worker's own would live as long as
//! one request.
//!
//! The Worker writes the commands and reads the replies; the object only passes bytes on (see [`crate::connection`]).

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use optimist_edge_core::Config;
use optimist_edge_core::host::{Command, RedisUnavailable, Reply, Value};
use redis_protocol::resp2::decode::decode_bytes;
use redis_protocol::resp2::types::BytesFrame;
use wasm_bindgen::JsCast as _;
use worker::js_sys::Uint8Array;
use worker::web_sys::{Request, RequestInit};
use worker::{Delay, Env};

/// Milliseconds beyond the deadline that the object itself keeps: time for its own error to arrive.
const MARGIN_MS: u32 = 50;

/// Sends commands together, through the object that `spread` leads to.
pub async fn send(
    env: &Env,
    config: &Config,
    spread: &str,
    commands: &[Command],
    deadline_ms: u32,
) -> Result<Vec<Reply>, RedisUnavailable> {
    let name = format!("{}-{}", config.region, hash(spread) % u64::from(config.redis_objects));
    let work = pin!(ask(env, &name, commands, deadline_ms));
    let alarm = pin!(Delay::from(Duration::from_millis(u64::from(deadline_ms + MARGIN_MS))));
    let bytes = match select(work, alarm).await {
        Either::Left((Ok(bytes), _)) => bytes,
        Either::Left((Err(error), _)) => return Err(RedisUnavailable(error.to_string())),
        Either::Right(_) => return Err(RedisUnavailable("no answer within the deadline".to_owned())),
    };
    decode(Bytes::from(bytes), commands.len())
        .ok_or_else(|| RedisUnavailable("the connection's object answered nonsense".to_owned()))
}

async fn ask(env: &Env, name: &str, commands: &[Command], deadline_ms: u32) -> worker::Result<Vec<u8>> {
    let object = env.durable_object("REDIS")?.get_by_name(name)?;
    let init = RequestInit::new();
    init.set_method("POST");
    init.set_body(&Uint8Array::from(encode(commands).as_slice()));
    // The host is anyone's: the object is addressed by the stub.
    let url = format!("https://redis/{}/{deadline_ms}", commands.len());
    let request = Request::new_with_str_and_init(&url, &init)?;
    let mut response = object.fetch_with_request(request.unchecked_into::<Request>().into()).await?;
    if response.status_code() != 200 {
        return Err(worker::Error::RustError(response.text().await?));
    }
    response.bytes().await
}

/// Commands as Redis reads them: arrays of bulk strings.
fn encode(commands: &[Command]) -> Vec<u8> {
    let words = commands.iter().flat_map(|command| &command.0);
    let mut bytes = Vec::with_capacity(words.map(|word| word.len() + 16).sum());
    for Command(words) in commands {
        bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
    }
    bytes
}

fn decode(mut bytes: Bytes, expected: usize) -> Option<Vec<Reply>> {
    let mut replies = Vec::with_capacity(expected);
    while replies.len() < expected {
        let (frame, length) = decode_bytes(&bytes).ok()??;
        replies.push(reply(frame));
        bytes = bytes.slice(length..);
    }
    Some(replies)
}

fn reply(frame: BytesFrame) -> Reply {
    if let BytesFrame::Error(text) = &frame {
        return Err(text.to_string());
    }
    let mut values = Vec::new();
    flatten(frame, &mut values);
    Ok(values)
}

/// As Spin's interface does: nested arrays become part of the outer one, and empty ones vanish.
fn flatten(frame: BytesFrame, values: &mut Vec<Value>) {
    match frame {
        BytesFrame::Null => values.push(Value::Nil),
        BytesFrame::Integer(number) => values.push(Value::Int(number)),
        BytesFrame::SimpleString(bytes) | BytesFrame::BulkString(bytes) => {
            values.push(Value::Bytes(bytes.to_vec()));
        }
        BytesFrame::Error(text) => values.push(Value::Bytes(text.as_bytes().to_vec())),
        BytesFrame::Array(frames) => frames.into_iter().for_each(|frame| flatten(frame, values)),
    }
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
