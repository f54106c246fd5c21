//! The origin's access to Redis: one multiplexed connection, a deadline, a breaker, and the shared scripts.
//!
//! Vouching has a connection of its own, to know which Redis process answers.

use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, Cmd, ConnectionInfo, Pipeline, Value};
use optimist_shared::scripts::{Call, Scalars, is_about_the_call, is_unknown_script};
use tokio::sync::Mutex;

use crate::breaker::Breaker;
use crate::config::Config;
use crate::tls;

/// Redis did not answer in time, or answered with an error. Logged where it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedisDown;

pub struct Redis {
    client: Client,
    authorities: Option<tls::Authorities>,
    connection: Mutex<Option<MultiplexedConnection>>,
    deadline: Duration,
    breaker: Breaker,
}

/// A script's call as a command: by its digest, or whole.
pub fn command(call: &Call<'_>, whole: bool) -> Cmd {
    let mut command = Cmd::new();
    call.words(whole, |word| {
        command.arg(word);
    });
    command
}

impl Redis {
    pub fn new(config: &Config) -> Result<Redis, ::redis::RedisError> {
        Ok(Redis {
            client: tls::redis(config.redis_url.as_str(), config.redis_ca.as_ref())?,
            authorities: config.redis_ca.clone(),
            connection: Mutex::new(None),
            deadline: Duration::from_millis(config.redis_deadline_ms),
            breaker: Breaker::new("redis"),
        })
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A client of the same server, with the same authorities, whose connections are other ones.
    pub fn client_with(&self, info: ConnectionInfo) -> Result<Client, ::redis::RedisError> {
        tls::redis(info, self.authorities.as_ref())
    }

    /// Calls a script.
    pub async fn call_one(&self, call: &Call<'_>) -> Result<Items, RedisDown> {
        let replies = self.call(std::slice::from_ref(call)).await?;
        Ok(replies.into_iter().next().unwrap_or_else(|| Items::new(Value::Nil)))
    }

    /// Calls scripts in one trip, and those that Redis has forgotten again by EVAL. Returns a reply for each.
    pub async fn call(&self, calls: &[Call<'_>]) -> Result<Vec<Items>, RedisDown> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let mut values = self.send(calls.iter().map(|call| command(call, false))).await?;
        let forgotten = |value: &Value| matches!(value, Value::ServerError(error) if is_unknown_script(&error.to_string()));
        let again: Vec<usize> = (0..values.len()).filter(|index| forgotten(&values[*index])).collect();
        if !again.is_empty() {
            let whole = self.send(again.iter().map(|index| command(&calls[*index], true))).await?;
            for (index, value) in again.into_iter().zip(whole) {
                values[index] = value;
            }
        }
        match values.iter().find_map(|value| match value {
            Value::ServerError(error) => Some(error.to_string()),
            _ => None,
        }) {
            None => Ok(values.into_iter().map(Items::new).collect()),
            Some(error) => {
                if is_about_the_call(&error) {
                    let scripts: Vec<&str> = calls.iter().map(|call| call.script.name).collect();
                    tracing::error!(?scripts, error, "a script failed");
                } else {
                    // Loading, out of memory, read-only: a Redis that cannot work counts as down.
                    self.breaker.failed(Duration::ZERO, &error);
                }
                Err(RedisDown)
            }
        }
    }

    /// Sends commands in one trip.
    pub async fn send(&self, commands: impl IntoIterator<Item = Cmd>) -> Result<Vec<Value>, RedisDown> {
        if !self.breaker.admits() {
            return Err(RedisDown);
        }
        let mut pipeline = Pipeline::new();
        commands.into_iter().for_each(|command| {
            pipeline.add_command(command);
        });
        self.send_now(&pipeline).await
    }

    /// Sends commands regardless of the breaker.
    async fn send_now(&self, commands: &Pipeline) -> Result<Vec<Value>, RedisDown> {
        let began = Instant::now();
        match tokio::time::timeout(self.deadline, self.attempt(commands)).await {
            Ok(Ok(values)) => {
                self.breaker.succeeded();
                Ok(values)
            }
            outcome => {
                let why = match outcome {
                    Ok(Err(error)) => error.to_string(),
                    _ => "no answer within the deadline".to_owned(),
                };
                // A late reply may still arrive on this connection: it is not used again.
                *self.connection.lock().await = None;
                self.breaker.failed(began.elapsed(), &why);
                Err(RedisDown)
            }
        }
    }

    async fn attempt(&self, commands: &Pipeline) -> ::redis::RedisResult<Vec<Value>> {
        self.connected().await?.send_packed_commands(commands, 0, commands.len()).await
    }

    async fn connected(&self) -> ::redis::RedisResult<MultiplexedConnection> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = slot.as_ref() {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.deadline))
            .set_response_timeout(Some(self.deadline * 4));
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        *slot = Some(connection.clone());
        Ok(connection)
    }

    /// Whether Redis answers, regardless of the breaker.
    pub async fn reachable(&self) -> bool {
        let mut ping = Pipeline::new();
        ping.cmd("PING");
        self.send_now(&ping).await.is_ok()
    }
}

/// A position in a stream, displayed as an entry's id: milliseconds or a transaction, and a number that orders equal ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub i64, pub i64);

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl Position {
    pub fn parse(text: &str) -> Option<Position> {
        let (first, second) = text.split_once('-')?;
        Some(Position(first.parse().ok()?, second.parse().ok()?))
    }
}

/// A reply's items from front to back. An item that is missing or of another type reads as empty or 0.
pub struct Items(std::vec::IntoIter<Value>);

impl Items {
    pub fn new(value: Value) -> Items {
        Items(match value {
            Value::Array(items) => items.into_iter(),
            scalar => vec![scalar].into_iter(),
        })
    }
}

impl Scalars for Items {
    fn bytes(&mut self) -> Vec<u8> {
        match self.0.next() {
            Some(Value::BulkString(bytes)) => bytes,
            Some(Value::SimpleString(text)) => text.into_bytes(),
            Some(Value::Int(number)) => number.to_string().into_bytes(),
            _ => Vec::new(),
        }
    }

    fn int(&mut self) -> i64 {
        match self.0.next() {
            Some(Value::Int(number)) => number,
            Some(Value::BulkString(bytes)) => {
                std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
            }
            _ => 0,
        }
    }
}
