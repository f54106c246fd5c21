//! The Durable Object that keeps a connection to Redis: it pipelines the requests of many Workers in the order of their
//! arrival. It knows no command; it only counts replies.
//!
//! A failed connection is dropped together with all requests that wait on it. If an answer is overdue when the next
//! request comes, that connection is dropped as well, and the request opens a new one. The object sets no timers: the
//! Workers do, since they wait for it anyway, and one timer per request would be a tenth of the object's work. Nothing
//! is stored.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;

use bytes::BytesMut;
use futures_channel::oneshot;
use futures_util::future::select;
use optimist_edge_resp::{Address, Batch, First, first};
use worker::js_sys::Date;
use worker::wasm_bindgen_futures::spawn_local;
use worker::{DurableObject, Env, Request, Response, Result, State, durable_object};

use crate::socket::{self, Reader, Writer};

#[durable_object]
pub struct RedisConnection {
    env: Env,
    current: RefCell<Option<Rc<Pipeline>>>,
}

/// A request that waits for its replies, and the channel for them.
struct Waiting {
    replies: usize,
    /// Unix milliseconds after which the Worker no longer waits.
    until_ms: f64,
    answer: oneshot::Sender<Vec<u8>>,
}

/// A connection, from its opening to its failure.
struct Pipeline {
    writer: Writer,
    /// Bytes to send once the greeting has been answered; `None` from then on.
    held: RefCell<Option<Vec<u8>>>,
    waiting: RefCell<VecDeque<Waiting>>,
    failure: RefCell<Option<String>>,
    /// Dropping it ends the connection's task, even one that hangs on a vanished peer.
    end: RefCell<Option<oneshot::Sender<()>>>,
}

impl DurableObject for RedisConnection {
    fn new(_: State, env: Env) -> Self {
        RedisConnection { env, current: RefCell::new(None) }
    }

    /// `POST /<replies>/<deadline in milliseconds>`: sends the body, and answers with the replies as Redis sent them.
    async fn fetch(&self, mut request: Request) -> Result<Response> {
        let url = request.inner().url();
        let mut path = url.rsplit('/');
        let mut number = || path.next().and_then(|text| text.parse::<u32>().ok());
        let (Some(deadline_ms), Some(replies)) = (number(), number()) else {
            return Response::error("no such request", 400);
        };
        let bytes = request.bytes().await?;
        match self.ask(&bytes, replies as usize, deadline_ms).await {
            Ok(bytes) => Response::from_bytes(bytes),
            Err(why) => Response::error(why, 503),
        }
    }
}

impl RedisConnection {
    async fn ask(
        &self,
        bytes: &[u8],
        replies: usize,
        deadline_ms: u32,
    ) -> std::result::Result<Vec<u8>, String> {
        let now_ms = Date::now();
        let pipeline = self.pipeline(now_ms)?;
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { replies, until_ms: now_ms + f64::from(deadline_ms), answer };
        pipeline.waiting.borrow_mut().push_back(waiting);
        pipeline.send(bytes);
        answered.await.map_err(|_| pipeline.why())
    }

    /// The current connection, or a new one.
    fn pipeline(&self, now_ms: f64) -> std::result::Result<Rc<Pipeline>, String> {
        let current = self.current.borrow().clone();
        if let Some(pipeline) = current {
            if pipeline.is_overdue(now_ms) {
                pipeline.fail("no answer within the deadline");
            }
            if pipeline.failure.borrow().is_none() {
                return Ok(pipeline);
            }
        }
        let url = self.env.var("OPTIMIST_REDIS_URL").map_err(|error| error.to_string())?.to_string();
        let address = Address::parse(&url).ok_or("OPTIMIST_REDIS_URL is not a redis:// or rediss:// URL")?;
        let (reader, writer) = socket::connect(&address.host, address.port, address.tls)?;
        let (end, ended) = oneshot::channel();
        let pipeline = Rc::new(Pipeline {
            writer,
            held: RefCell::new(Some(Vec::new())),
            waiting: RefCell::default(),
            failure: RefCell::default(),
            end: RefCell::new(Some(end)),
        });
        let connection = pipeline.clone();
        spawn_local(async move {
            let work = pin!(connection.run(reader, &address));
            select(work, ended).await;
        });
        *self.current.borrow_mut() = Some(pipeline.clone());
        Ok(pipeline)
    }
}

impl Pipeline {
    fn why(&self) -> String {
        self.failure.borrow().clone().unwrap_or_else(|| "the connection ended".to_owned())
    }

    /// Whether the oldest waiting request has passed its deadline.
    fn is_overdue(&self, now_ms: f64) -> bool {
        self.waiting.borrow().front().is_some_and(|first| first.until_ms < now_ms)
    }

    /// Ends the connection; all waiting requests fail.
    fn fail(&self, why: &str) {
        self.failure.borrow_mut().get_or_insert_with(|| why.to_owned());
        self.waiting.borrow_mut().clear();
        drop(self.end.borrow_mut().take());
    }

    fn send(&self, bytes: &[u8]) {
        match &mut *self.held.borrow_mut() {
            Some(held) => held.extend_from_slice(bytes),
            // A failed write shows in the next read.
            None => drop(self.writer.write(bytes)),
        }
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
            drop(self.writer.write(&held));
        }
        let why = self.read(reader, buffer).await;
        self.fail(&why);
    }

    /// Hands out replies until the connection fails; returns the reason.
    async fn read(&self, mut reader: Reader, mut buffer: BytesMut) -> String {
        let mut batch = Batch::default();
        loop {
            while !buffer.is_empty() {
                let wanted = self.waiting.borrow().front().map(|first| first.replies);
                let Some(wanted) = wanted else { return "Redis answered what was not asked".to_owned() };
                match batch.whole(&buffer, wanted) {
                    Ok(Some(length)) => {
                        let bytes = buffer.split_to(length).to_vec();
                        if let Some(first) = self.waiting.borrow_mut().pop_front() {
                            // The receiver is gone if its request was given up.
                            let _ = first.answer.send(bytes);
                        }
                    }
                    Ok(None) => break,
                    Err(why) => return why,
                }
            }
            match reader.read(&mut buffer).await {
                Ok(true) => {}
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
) -> std::result::Result<(), String> {
    drop(writer.write(&bytes));
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
