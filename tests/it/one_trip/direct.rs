//! The edge's pipeline in this process: a host on a real Redis, a request, and what it leaves in Redis.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;

use optimist_edge_core::host::{Command, Host, RedisUnavailable, Reply, Request, Value};
use optimist_edge_core::{Config, Edge};
use optimist_shared::scripts::{ALL, Call};
use redis::Cmd;
use redis::aio::MultiplexedConnection;

use super::{NOW, TOKEN};

/// A host in this process, which counts its trips.
pub struct Direct {
    redis: MultiplexedConnection,
    pub trips: Cell<u32>,
    pub after_response: RefCell<Vec<Vec<Vec<u8>>>>,
}

impl Direct {
    pub fn new(redis: &MultiplexedConnection) -> Direct {
        Direct { redis: redis.clone(), trips: Cell::new(0), after_response: RefCell::default() }
    }
}

impl Host for Direct {
    async fn redis(
        &self,
        _spread: &str,
        commands: Vec<Command>,
        _deadline_ms: u32,
    ) -> Result<Vec<Reply>, RedisUnavailable> {
        self.trips.set(self.trips.get() + 1);
        let mut replies = Vec::new();
        for Command(words) in commands {
            let mut command = Cmd::new();
            for word in words {
                command.arg(word);
            }
            let reply: redis::RedisResult<redis::Value> = command.query_async(&mut self.redis.clone()).await;
            replies.push(reply.map(flat).map_err(|error| error.to_string()));
        }
        Ok(replies)
    }

    fn redis_after_response(&self, _spread: &str, commands: Vec<Command>) {
        self.after_response.borrow_mut().extend(commands.into_iter().map(|Command(words)| words));
    }

    fn now_ms(&self) -> u64 {
        NOW
    }

    fn random(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }

    fn log(&self, _line: &str) {}
}

pub fn flat(reply: redis::Value) -> Vec<Value> {
    match reply {
        redis::Value::Array(items) => items.into_iter().flat_map(flat).collect(),
        redis::Value::BulkString(bytes) => vec![Value::Bytes(bytes)],
        redis::Value::SimpleString(text) => vec![Value::Bytes(text.into())],
        redis::Value::Okay => vec![Value::Bytes(b"OK".to_vec())],
        redis::Value::Int(number) => vec![Value::Int(number)],
        redis::Value::Nil => vec![Value::Nil],
        other => panic!("a reply of another kind: {other:?}"),
    }
}

/// A request to react, or to take a reaction back.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub method: &'static str,
    pub is_conditional: bool,
}

impl Request for Asked {
    fn method(&self) -> &str {
        self.method
    }

    fn target(&self) -> &str {
        "/v1/circles/00000000-0000-0000-0000-000000000003/messages/00000000-0000-0000-0000-000000000004/reactions/hug"
    }

    fn header(&self, name: &str) -> Option<String> {
        match name {
            "authorization" => Some(format!("Bearer {}", TOKEN.render())),
            "if-match" => self.is_conditional.then(|| "\"1\"".to_owned()),
            _ => None,
        }
    }

    fn client_address(&self) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, 1]))
    }
}

pub fn edge(is_cluster: bool) -> Edge {
    let config = Config::from_lookup(|name| {
        Some(match name {
            "region" => "test".to_owned(),
            "origin_url" => "http://127.0.0.1:1".to_owned(),
            "redis_url" => "redis://127.0.0.1:1".to_owned(),
            "signing_keys" => format!("k1:{}A=", "A".repeat(42)),
            "redis_cluster" => is_cluster.to_string(),
            _ => return None,
        })
    });
    Edge::new(config.unwrap())
}

/// So that a trip is one.
pub async fn load_scripts(redis: &MultiplexedConnection) {
    let mut pipeline = redis::pipe();
    for script in ALL {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(script.source()).ignore();
    }
    pipeline.query_async::<()>(&mut redis.clone()).await.unwrap();
}

/// The texts of a script's reply.
pub async fn run(redis: &MultiplexedConnection, call: &Call<'_>) -> Vec<String> {
    let mut command = Cmd::new();
    call.words(true, |word| {
        command.arg(word);
    });
    let reply: redis::Value = command.query_async(&mut redis.clone()).await.unwrap();
    texts(reply)
}

fn texts(reply: redis::Value) -> Vec<String> {
    let text = |value| match value {
        Value::Bytes(bytes) => bytes.escape_ascii().to_string(),
        Value::Int(number) => number.to_string(),
        Value::Nil => String::new(),
    };
    flat(reply).into_iter().map(text).collect()
}

/// Everything in Redis, but for the times of limits' entries and the ids of a stream's.
pub async fn held(redis: &MultiplexedConnection) -> Vec<String> {
    let mut redis = redis.clone();
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await.unwrap();
    keys.sort();
    let mut kinds = redis::pipe();
    for key in &keys {
        kinds.cmd("TYPE").arg(key);
    }
    let kinds: Vec<String> = kinds.query_async(&mut redis).await.unwrap();
    let mut values = redis::pipe();
    for (key, kind) in keys.iter().zip(&kinds) {
        match &kind[..] {
            "string" => values.cmd("GET").arg(key),
            "zset" => values.cmd("ZRANGE").arg(key).arg(0).arg(-1),
            "hash" => values.cmd("HGETALL").arg(key),
            "stream" => values.cmd("XRANGE").arg(key).arg("-").arg("+"),
            other => panic!("{key} is a {other}"),
        };
        values.cmd("PTTL").arg(key);
    }
    let values: Vec<redis::Value> = values.query_async(&mut redis).await.unwrap();
    let described = keys.iter().zip(&kinds).zip(values.chunks(2)).map(|((key, kind), value)| {
        let expires = value[1] != redis::Value::Int(-1);
        let mut texts = texts(value[0].clone());
        match &kind[..] {
            // Id, field and value of each entry.
            "stream" => texts = texts.chunks(3).map(|entry| entry[1..].join(" ")).collect(),
            _ => texts.sort(),
        }
        format!("{key} {expires} {}", texts.join(" "))
    });
    described.collect()
}
