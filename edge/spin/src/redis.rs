//! Redis through Spin's interface: one connection per instance, which pipelines the commands of concurrent requests.
//!
//! A connection that failed, or has an overdue answer, is dropped; the next request opens another.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use futures_util::future::maybe_done;
use optimist_edge_core::host::{Command, RedisUnavailable, Reply, Value, is_reply};
use spin_sdk::redis::{Connection, Error, RedisParameter, RedisResult};

use crate::host::within;

thread_local! {
    static CONNECTION: RefCell<Option<Rc<Connection>>> = const { RefCell::new(None) };
}

/// Sends commands together, in order.
pub async fn send(
    url: &str,
    commands: Vec<Command>,
    deadline_ms: u32,
) -> Result<Vec<Reply>, RedisUnavailable> {
    let result = within(deadline_ms, attempt(url, commands))
        .await
        .unwrap_or_else(|| Err(RedisUnavailable("no answer within the deadline".to_owned())));
    if result.is_err() {
        CONNECTION.set(None);
    }
    result
}

async fn attempt(url: &str, commands: Vec<Command>) -> Result<Vec<Reply>, RedisUnavailable> {
    let connection = connect(url).await?;
    // `join_all` is built for many futures: polling a handful of commands in turn is cheaper and smaller.
    let mut trips: Vec<_> =
        commands.into_iter().map(|command| Box::pin(maybe_done(execute(&connection, command)))).collect();
    poll_fn(|context| {
        let mut is_done = true;
        for trip in &mut trips {
            is_done &= trip.as_mut().poll(context).is_ready();
        }
        if is_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    let overdue = || RedisUnavailable("an answer is missing".to_owned());
    trips.iter_mut().map(|trip| trip.as_mut().take_output().ok_or_else(overdue)?).collect()
}

/// Concurrent requests without a connection open one each, and the last is kept: waiting for another request would
/// trap.
async fn connect(url: &str) -> Result<Rc<Connection>, RedisUnavailable> {
    if let Some(connection) = CONNECTION.with_borrow(Clone::clone) {
        return Ok(connection);
    }
    let opened = Connection::open(url).await.map_err(|error| RedisUnavailable(error.to_string()))?;
    let connection = Rc::new(opened);
    CONNECTION.set(Some(connection.clone()));
    Ok(connection)
}

async fn execute(connection: &Connection, Command(words): Command) -> Result<Reply, RedisUnavailable> {
    let mut words = words.into_iter();
    let name = words.next().map(String::from_utf8).and_then(Result::ok).unwrap_or_default();
    match connection.execute(name, words.map(RedisParameter::Binary)).await {
        Ok(results) => Ok(Ok(results.into_iter().map(value).collect())),
        Err(Error::Other(text)) if is_reply(&text) => Ok(Err(text)),
        Err(error) => Err(RedisUnavailable(error.to_string())),
    }
}

fn value(result: RedisResult) -> Value {
    match result {
        RedisResult::Nil => Value::Nil,
        RedisResult::Int64(number) => Value::Int(number),
        RedisResult::Status(text) => Value::Bytes(text.into_bytes()),
        RedisResult::Binary(bytes) => Value::Bytes(bytes),
    }
}
