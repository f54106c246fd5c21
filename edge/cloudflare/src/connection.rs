//! An object's connection to Redis. Commands of many requests go out in the order of their arrival, and replies come back in it.
//!
//! A request that waits past its deadline is given up, while its replies keep their place: they are discarded when they come. A
//! connection that breaks, or is silent for too long, is dropped together with all requests that wait on it; the next request
//! opens another. One timer serves all requests of a connection: a timer each would be a tenth of the object's work.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_channel::oneshot;
use futures_util::future::select;
use optimist_edge_core::host::{RedisUnavailable, SILENT_DEADLINES};
use optimist_edge_resp::{Address, Batch, First, first};
use worker::Delay;
use worker::wasm_bindgen_futures::spawn_local;

use crate::host::now_ms;
use crate::socket::{self, Reader, Writer};

/// The current connection, and the address for the next one.
pub struct Connections {
    /// `None` if the URL is not one of Redis's.
    address: Option<Address>,
    current: RefCell<Option<Rc<Connection>>>,
}

/// Replies that Redis owes.
struct Owed {
    replies: usize,
    /// When the request gives up, in Unix milliseconds, and whom to tell; `None` once nobody waits.
    waits: Option<Waits>,
}

struct Waits {
    deadline_ms: u64,
    until_ms: u64,
    answer: oneshot::Sender<Result<Bytes, RedisUnavailable>>,
}

/// A connection, from its opening to its failure.
struct Connection {
    writer: Writer,
    /// Bytes to send once the greeting has been answered; `None` from then on.
    held: RefCell<Option<Vec<u8>>>,
    owed: RefCell<VecDeque<Owed>>,
    /// Unix milliseconds of the last byte from Redis, or of the first request that then waited.
    heard_ms: Cell<u64>,
    is_watched: Cell<bool>,
    failure: RefCell<Option<String>>,
    /// Dropping it ends the connection's task, even one that hangs on a vanished peer.
    end: RefCell<Option<oneshot::Sender<()>>>,
}

impl Connections {
    pub fn new(url: &str) -> Connections {
        Connections { address: Address::parse(url), current: RefCell::new(None) }
    }

    /// Sends commands, encoded, and waits for their replies as [`optimist_edge_core::host::Host::redis`] says.
    pub async fn ask(
        &self,
        commands: &[u8],
        replies: usize,
        deadline_ms: u32,
    ) -> Result<Bytes, RedisUnavailable> {
        let connection = self.current().map_err(RedisUnavailable::Lost)?;
        let (answer, answered) = oneshot::channel();
        let deadline_ms = u64::from(deadline_ms);
        let waits = Waits { deadline_ms, until_ms: now_ms() + deadline_ms, answer };
        connection.send(commands, replies, Some(waits));
        answered.await.unwrap_or_else(|_| Err(RedisUnavailable::Lost(connection.why())))
    }

    /// Sends commands whose replies nobody reads.
    pub fn tell(&self, commands: &[u8], replies: usize) {
        if let Ok(connection) = self.current() {
            connection.send(commands, replies, None);
        }
    }

    /// The current connection, or a new one.
    fn current(&self) -> Result<Rc<Connection>, String> {
        let current = self.current.borrow().clone();
        if let Some(connection) = current.filter(|connection| connection.failure.borrow().is_none()) {
            return Ok(connection);
        }
        let address = self.address.clone().ok_or("OPTIMIST_REDIS_URL is not a redis:// or rediss:// URL")?;
        let (reader, writer) = socket::connect(&address.host, address.port, address.tls)?;
        let (end, ended) = oneshot::channel();
        let connection = Rc::new(Connection {
            writer,
            held: RefCell::new(Some(Vec::new())),
            owed: RefCell::default(),
            heard_ms: Cell::new(now_ms()),
            is_watched: Cell::new(false),
            failure: RefCell::default(),
            end: RefCell::new(Some(end)),
        });
        let task = connection.clone();
        spawn_local(async move {
            let work = pin!(task.run(reader, &address));
            select(work, ended).await;
        });
        *self.current.borrow_mut() = Some(connection.clone());
        Ok(connection)
    }
}

impl Connection {
    fn why(&self) -> String {
        self.failure.borrow().clone().unwrap_or_else(|| "the connection ended".to_owned())
    }

    /// Ends the connection; all waiting requests fail.
    fn fail(&self, why: &str) {
        self.failure.borrow_mut().get_or_insert_with(|| why.to_owned());
        self.owed.borrow_mut().clear();
        drop(self.end.borrow_mut().take());
    }

    fn send(self: &Rc<Self>, commands: &[u8], replies: usize, waits: Option<Waits>) {
        let now_ms = now_ms();
        let mut owed = self.owed.borrow_mut();
        if owed.is_empty() {
            self.heard_ms.set(now_ms);
        }
        if let Some(waits) = waits.as_ref().filter(|_| !self.is_watched.replace(true)) {
            spawn_local(self.clone().watch(waits.deadline_ms));
        }
        owed.push_back(Owed { replies, waits });
        drop(owed);
        match &mut *self.held.borrow_mut() {
            Some(held) => held.extend_from_slice(commands),
            None => self.writer.write(commands),
        }
    }

    /// Gives up what is late, until nothing waits or the connection has failed.
    async fn watch(self: Rc<Self>, first_ms: u64) {
        let mut pause_ms = first_ms;
        loop {
            Delay::from(Duration::from_millis(pause_ms + 1)).await;
            match self.give_up(now_ms()) {
                Some(next_ms) => pause_ms = next_ms,
                None => break self.is_watched.set(false),
            }
        }
    }

    /// Gives up requests whose deadline has passed, or the connection. Returns milliseconds until the next deadline; `None` if nothing
    /// waits.
    fn give_up(&self, now_ms: u64) -> Option<u64> {
        let silent_ms = now_ms.saturating_sub(self.heard_ms.get());
        let mut next: Option<u64> = None;
        for owed in &mut *self.owed.borrow_mut() {
            let Some(waits) = &mut owed.waits else { continue };
            let silence_ms = u64::from(SILENT_DEADLINES) * waits.deadline_ms;
            if waits.until_ms <= now_ms {
                if silent_ms >= silence_ms {
                    next = Some(0);
                    break;
                }
                if silent_ms < waits.deadline_ms {
                    let late = owed.waits.take().map(|waits| waits.answer);
                    // The receiver is gone if its request was.
                    let _ = late.map(|answer| answer.send(Err(RedisUnavailable::Late)));
                    continue;
                }
                waits.until_ms = now_ms + silence_ms - silent_ms;
            }
            next = Some(next.map_or(waits.until_ms, |next| next.min(waits.until_ms)));
        }
        if next == Some(0) {
            self.fail(&format!("no byte within {SILENT_DEADLINES} deadlines"));
            return None;
        }
        next.map(|at| at - now_ms)
    }

    async fn run(&self, mut reader: Reader, address: &Address) {
        let mut buffer = BytesMut::with_capacity(64 * 1024);
        // The greeting goes first, and alone: Redis drops commands pipelined behind a wrong or missing greeting.
        if let Some(greeting) = address.greeting()
            && let Err(why) = greet(&mut reader, &self.writer, &mut buffer, greeting).await
        {
            return self.fail(&why);
        }
        let held = self.held.borrow_mut().take().unwrap_or_default();
        if !held.is_empty() {
            self.writer.write(&held);
        }
        let why = self.read(reader, buffer).await;
        self.fail(&why);
    }

    /// Hands out replies until the connection fails; returns the reason.
    async fn read(&self, mut reader: Reader, mut buffer: BytesMut) -> String {
        let mut batch = Batch::default();
        loop {
            while !buffer.is_empty() {
                let wanted = self.owed.borrow().front().map(|first| first.replies);
                let Some(wanted) = wanted else { return "Redis answered what was not asked".to_owned() };
                match batch.whole(&buffer, wanted) {
                    Ok(Some(length)) => {
                        let bytes = buffer.split_to(length).freeze();
                        let first = self.owed.borrow_mut().pop_front();
                        if let Some(waits) = first.and_then(|first| first.waits) {
                            // The receiver is gone if its request was.
                            let _ = waits.answer.send(Ok(bytes));
                        }
                    }
                    Ok(None) => break,
                    Err(why) => return why,
                }
            }
            match reader.read(&mut buffer).await {
                Ok(true) => self.heard_ms.set(now_ms()),
                Ok(false) => return "Redis closed the connection".to_owned(),
                Err(why) => return why,
            }
        }
    }
}

async fn greet(
    reader: &mut Reader,
    writer: &Writer,
    buffer: &mut BytesMut,
    (bytes, replies): (Vec<u8>, usize),
) -> Result<(), String> {
    writer.write(&bytes);
    for _ in 0..replies {
        loop {
            match first(buffer)? {
                Some(First { error: Some(why), .. }) => return Err(why),
                Some(First { length, .. }) => {
                    drop(buffer.split_to(length));
                    break;
                }
                None => {}
            }
            if !reader.read(buffer).await? {
                return Err("Redis closed the connection".to_owned());
            }
        }
    }
    Ok(())
}
