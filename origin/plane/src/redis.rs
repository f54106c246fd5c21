//! The origin's way to Redis: one multiplexed connection, a deadline, a breaker, and the shared scripts.
//!
//! The relay does not use it: it has a connection of its own, to know whom it is talking to.

use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, Value};
use optimist_shared::scripts::{Script, Scripts, is_about_the_call, is_unknown_script};
use tokio::sync::Mutex;

use crate::breaker::Breaker;
use crate::config::Config;

/// Redis did not answer in time, or with an error that says that it cannot work. Logged where it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedisDown;

pub struct Redis {
    client: Client,
    connection: Mutex<Option<MultiplexedConnection>>,
    deadline: Duration,
    breaker: Breaker,
    pub scripts: Scripts,
}

/// A script's call, to be sent with others.
pub struct Call<'a> {
    pub script: &'a Script,
    pub keys: Vec<&'a str>,
    pub arguments: Vec<&'a [u8]>,
}

impl Call<'_> {
    fn command(&self, whole: bool) -> Cmd {
        let mut command = Cmd::new();
        self.script.words(whole, &self.keys, &self.arguments, |word| {
            command.arg(word);
        });
        command
    }
}

impl Redis {
    pub fn new(config: &Config) -> Result<Redis, ::redis::RedisError> {
        Ok(Redis {
            client: Client::open(config.redis_url.as_str())?,
            connection: Mutex::new(None),
            deadline: Duration::from_millis(config.redis_deadline_ms),
            breaker: Breaker::new("redis"),
            scripts: Scripts::new(),
        })
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Calls scripts, all in one trip, and again by EVAL those that Redis had forgotten.
    pub async fn call(&self, calls: &[Call<'_>]) -> Result<Vec<Value>, RedisDown> {
        let mut values = self.send(calls.iter().map(|call| call.command(false))).await?;
        let forgotten = |value: &Value| matches!(value, Value::ServerError(error) if is_unknown_script(&error.to_string()));
        let again: Vec<usize> = (0..values.len()).filter(|index| forgotten(&values[*index])).collect();
        if !again.is_empty() {
            let whole = self.send(again.iter().map(|index| calls[*index].command(true))).await?;
            for (index, value) in again.into_iter().zip(whole) {
                values[index] = value;
            }
        }
        match values.iter().find_map(|value| match value {
            Value::ServerError(error) => Some(error.to_string()),
            _ => None,
        }) {
            None => Ok(values),
            Some(error) => {
                if is_about_the_call(&error) {
                    let scripts: Vec<&str> = calls.iter().map(|call| call.script.name).collect();
                    tracing::error!(?scripts, error, "a script failed");
                } else {
                    // Loading, out of memory, read-only: a Redis that cannot do its work is no Redis.
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

    /// Past the breaker.
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
                // A connection on which an answer may still come is not used again.
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

    /// Whether Redis answers, asked past the breaker.
    pub async fn reachable(&self) -> bool {
        let mut ping = Pipeline::new();
        ping.cmd("PING");
        self.send_now(&ping).await.is_ok()
    }
}

/// A place in a stream, displayed as an entry's id: milliseconds, or a transaction; and a number among those of the same.
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

/// A reply's items from front to back; what is missing or of another type reads as empty or 0.
pub struct Items(std::vec::IntoIter<Value>);

impl Items {
    pub fn new(value: Value) -> Items {
        Items(match value {
            Value::Array(items) => items.into_iter(),
            scalar => vec![scalar].into_iter(),
        })
    }

    pub fn bytes(&mut self) -> Vec<u8> {
        match self.0.next() {
            Some(Value::BulkString(bytes)) => bytes,
            Some(Value::SimpleString(text)) => text.into_bytes(),
            Some(Value::Int(number)) => number.to_string().into_bytes(),
            _ => Vec::new(),
        }
    }

    pub fn text(&mut self) -> String {
        String::from_utf8(self.bytes()).unwrap_or_default()
    }

    pub fn int(&mut self) -> i64 {
        match self.0.next() {
            Some(Value::Int(number)) => number,
            Some(Value::BulkString(bytes)) => {
                std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
            }
            _ => 0,
        }
    }
}
