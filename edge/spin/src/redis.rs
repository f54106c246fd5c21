//! Redis through Spin's interface: one connection per instance, which pipelines the commands of concurrent requests.
//!
//! A connection that failed, or was silent for too long, is dropped; the next request opens another. One that is only slow is
//! kept: Spin discards the reply that nobody waits for any more.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::future::maybe_done;
use optimist_edge_core::host::{Command, RedisUnavailable, Reply, SILENT_DEADLINES, Value, is_reply};
use spin_sdk::redis::{Connection, Error, RedisParameter, RedisResult};

use crate::host::within;

thread_local! {
    static LINK: RefCell<Option<Rc<Link>>> = const { RefCell::new(None) };
}

/// A connection, and what is known of its health.
struct Link {
    connection: Connection,
    /// Trips under way.
    owed: Cell<usize>,
    /// When the last reply came, or the first trip began that is still under way.
    heard: Cell<Instant>,
}

/// A trip under way.
struct Owed<'a>(&'a Link);

impl<'a> Owed<'a> {
    fn by(link: &'a Link) -> Owed<'a> {
        if link.owed.get() == 0 {
            link.heard.set(Instant::now());
        }
        link.owed.update(|owed| owed + 1);
        Owed(link)
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        self.0.owed.update(|owed| owed - 1);
    }
}

/// Sends commands together, in order.
pub async fn send(
    url: &str,
    commands: Vec<Command>,
    deadline_ms: u32,
) -> Result<Vec<Reply>, RedisUnavailable> {
    let silent = || RedisUnavailable::Lost(format!("no connection within {SILENT_DEADLINES} deadlines"));
    let connected = within(SILENT_DEADLINES * deadline_ms, connect(url)).await;
    let link = connected.unwrap_or_else(|| Err(silent()))?;
    let result = ask(&link, commands, deadline_ms).await;
    if matches!(result, Err(RedisUnavailable::Lost(_))) {
        forget(&link);
    }
    result
}

/// Waits for the replies as [`optimist_edge_core::host::Host::redis`] says.
async fn ask(link: &Link, commands: Vec<Command>, deadline_ms: u32) -> Result<Vec<Reply>, RedisUnavailable> {
    let _owed = Owed::by(link);
    let mut trip = pin!(attempt(link, commands));
    if let Some(result) = within(deadline_ms, trip.as_mut()).await {
        return result;
    }
    let deadline = Duration::from_millis(u64::from(deadline_ms));
    let silent = link.heard.get().elapsed();
    if silent < deadline {
        return Err(RedisUnavailable::Late);
    }
    let rest = (SILENT_DEADLINES * deadline).saturating_sub(silent);
    let rest_ms = u32::try_from(rest.as_millis()).unwrap_or(deadline_ms);
    if let Some(result) = within(rest_ms + 1, trip.as_mut()).await {
        return result;
    }
    if link.heard.get().elapsed() < SILENT_DEADLINES * deadline {
        return Err(RedisUnavailable::Late);
    }
    Err(RedisUnavailable::Lost(format!("no byte within {SILENT_DEADLINES} deadlines")))
}

async fn attempt(link: &Link, commands: Vec<Command>) -> Result<Vec<Reply>, RedisUnavailable> {
    // `join_all` is built for many futures: polling a handful of commands in turn is cheaper and smaller.
    let mut trips: Vec<_> =
        commands.into_iter().map(|command| Box::pin(maybe_done(execute(link, command)))).collect();
    poll_fn(|context| {
        let mut is_done = true;
        for trip in &mut trips {
            is_done &= trip.as_mut().poll(context).is_ready();
        }
        if is_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    let missing = || RedisUnavailable::Lost("an answer is missing".to_owned());
    trips.iter_mut().map(|trip| trip.as_mut().take_output().ok_or_else(missing)?).collect()
}

/// Concurrent requests without a connection open one each, and the last is kept: waiting for another request would
/// trap.
async fn connect(url: &str) -> Result<Rc<Link>, RedisUnavailable> {
    if let Some(link) = LINK.with_borrow(Clone::clone) {
        return Ok(link);
    }
    let opened = Connection::open(url).await.map_err(|error| RedisUnavailable::Lost(error.to_string()))?;
    let link = Rc::new(Link { connection: opened, owed: Cell::new(0), heard: Cell::new(Instant::now()) });
    LINK.set(Some(link.clone()));
    Ok(link)
}

/// Drops a connection, unless another request has replaced it already.
fn forget(link: &Rc<Link>) {
    LINK.with_borrow_mut(|kept| {
        if kept.as_ref().is_some_and(|kept| Rc::ptr_eq(kept, link)) {
            *kept = None;
        }
    });
}

async fn execute(link: &Link, Command(words): Command) -> Result<Reply, RedisUnavailable> {
    let mut words = words.into_iter();
    let name = words.next().map(String::from_utf8).and_then(Result::ok).unwrap_or_default();
    let replied = link.connection.execute(name, words.map(RedisParameter::Binary)).await;
    link.heard.set(Instant::now());
    match replied {
        Ok(results) => Ok(Ok(results.into_iter().map(value).collect())),
        Err(Error::Other(text)) if is_reply(&text) => Ok(Err(text)),
        Err(error) => Err(RedisUnavailable::Lost(error.to_string())),
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
