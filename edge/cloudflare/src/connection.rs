//! The Durable Object that keeps a connection to Redis: requests of many Workers are pipelined on it, in the order in
//! which they came. It knows no command; it counts replies.
//!
//! A connection that failed, or on which an answer is overdue, is dropped with all that wait on it; the next request opens
//! another. Nothing is stored.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use futures_channel::{mpsc, oneshot};
use futures_util::StreamExt as _;
use futures_util::future::{Either, join, select};
use optimist_edge_core::host::Command;
use optimist_edge_resp::{Batch, First, encode, first};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use worker::wasm_bindgen_futures::spawn_local;
use worker::{
    Delay, DurableObject, Env, Request, Response, Result, SecureTransport, Socket, State, durable_object,
};

#[durable_object]
pub struct RedisConnection {
    env: Env,
    current: RefCell<Option<Rc<Pipeline>>>,
}

/// What waits for its replies, and where it gets them.
struct Waiting {
    replies: usize,
    answer: oneshot::Sender<Vec<u8>>,
}

/// A connection, from its opening to its failure.
struct Pipeline {
    outgoing: mpsc::UnboundedSender<Vec<u8>>,
    waiting: RefCell<VecDeque<Waiting>>,
    failure: RefCell<Option<String>>,
    /// Dropped to end the connection's task, also one that hangs on a peer that has vanished.
    end: RefCell<Option<oneshot::Sender<()>>>,
}

impl DurableObject for RedisConnection {
    fn new(_: State, env: Env) -> Self {
        RedisConnection { env, current: RefCell::new(None) }
    }

    /// `POST /<replies>/<deadline in milliseconds>`: sends the body, and answers the replies as Redis sent them.
    async fn fetch(&self, mut request: Request) -> Result<Response> {
        let url = request.inner().url();
        let mut path = url.rsplit('/');
        let mut number = || path.next().and_then(|text| text.parse::<u32>().ok());
        let (Some(deadline_ms), Some(replies)) = (number(), number()) else {
            return Response::error("no such request", 400);
        };
        let bytes = request.bytes().await?;
        let work = pin!(self.ask(bytes, replies as usize));
        let alarm = pin!(Delay::from(Duration::from_millis(u64::from(deadline_ms))));
        let (pipeline, outcome) = match select(work, alarm).await {
            Either::Left(((pipeline, outcome), _)) => (pipeline, outcome),
            Either::Right(_) => {
                (self.current.borrow().clone(), Err("no answer within the deadline".to_owned()))
            }
        };
        match outcome {
            Ok(bytes) => Response::from_bytes(bytes),
            Err(why) => {
                if let Some(pipeline) = pipeline {
                    self.drop_connection(&pipeline, &why);
                }
                Response::error(why, 503)
            }
        }
    }
}

impl RedisConnection {
    async fn ask(
        &self,
        bytes: Vec<u8>,
        replies: usize,
    ) -> (Option<Rc<Pipeline>>, std::result::Result<Vec<u8>, String>) {
        let pipeline = match self.pipeline() {
            Ok(pipeline) => pipeline,
            Err(why) => return (None, Err(why)),
        };
        let (answer, answered) = oneshot::channel();
        pipeline.waiting.borrow_mut().push_back(Waiting { replies, answer });
        if pipeline.outgoing.unbounded_send(bytes).is_err() {
            let why = pipeline.why();
            return (Some(pipeline), Err(why));
        }
        let outcome = answered.await.map_err(|_| pipeline.why());
        (Some(pipeline), outcome)
    }

    /// The connection there is, or a new one.
    fn pipeline(&self) -> std::result::Result<Rc<Pipeline>, String> {
        if let Some(pipeline) =
            self.current.borrow().as_ref().filter(|pipeline| pipeline.failure.borrow().is_none())
        {
            return Ok(pipeline.clone());
        }
        let url = self.env.var("OPTIMIST_REDIS_URL").map_err(|error| error.to_string())?.to_string();
        let address = Address::parse(&url).ok_or("OPTIMIST_REDIS_URL is not a redis:// or rediss:// URL")?;
        let transport = if address.tls { SecureTransport::On } else { SecureTransport::Off };
        let socket = Socket::builder()
            .secure_transport(transport)
            .connect(address.host.clone(), address.port)
            .map_err(|error| error.to_string())?;
        let (outgoing, incoming) = mpsc::unbounded();
        let (end, ended) = oneshot::channel();
        let pipeline = Rc::new(Pipeline {
            outgoing,
            waiting: RefCell::default(),
            failure: RefCell::default(),
            end: RefCell::new(Some(end)),
        });
        let connection = pipeline.clone();
        spawn_local(async move {
            let work = pin!(connection.run(socket, address, incoming));
            select(work, ended).await;
        });
        *self.current.borrow_mut() = Some(pipeline.clone());
        Ok(pipeline)
    }

    fn drop_connection(&self, pipeline: &Rc<Pipeline>, why: &str) {
        pipeline.fail(why);
        let mut current = self.current.borrow_mut();
        if current.as_ref().is_some_and(|current| Rc::ptr_eq(current, pipeline)) {
            *current = None;
        }
    }
}

impl Pipeline {
    fn why(&self) -> String {
        self.failure.borrow().clone().unwrap_or_else(|| "the connection ended".to_owned())
    }

    /// Ends the connection; all that wait are told.
    fn fail(&self, why: &str) {
        self.failure.borrow_mut().get_or_insert_with(|| why.to_owned());
        self.outgoing.close_channel();
        self.waiting.borrow_mut().clear();
        drop(self.end.borrow_mut().take());
    }

    async fn run(&self, socket: Socket, address: Address, outgoing: mpsc::UnboundedReceiver<Vec<u8>>) {
        let (mut reader, mut writer) = tokio::io::split(socket);
        let mut buffer = BytesMut::with_capacity(16 * 1024);
        // Before anything else, and answered: Redis drops what comes in a burst with a wrong or missing greeting.
        if let Some(greeting) = address.greeting()
            && let Err(why) = greet(&mut reader, &mut writer, &mut buffer, greeting).await
        {
            return self.fail(&why);
        }
        join(self.read(reader, buffer), self.write(writer, outgoing)).await;
    }

    async fn write(&self, mut writer: WriteHalf<Socket>, mut outgoing: mpsc::UnboundedReceiver<Vec<u8>>) {
        while let Some(mut bytes) = outgoing.next().await {
            // What has come meanwhile goes in the same write.
            while let Ok(more) = outgoing.try_recv() {
                bytes.extend_from_slice(&more);
            }
            if let Err(error) = writer.write_all(&bytes).await {
                return self.fail(&error.to_string());
            }
        }
    }

    async fn read(&self, mut reader: ReadHalf<Socket>, mut buffer: BytesMut) {
        let mut batch = Batch::default();
        loop {
            while !buffer.is_empty() {
                let wanted = self.waiting.borrow().front().map(|first| first.replies);
                let Some(wanted) = wanted else { return self.fail("Redis answered what was not asked") };
                match batch.whole(&buffer, wanted) {
                    Ok(Some(length)) => {
                        let bytes = buffer.split_to(length).to_vec();
                        if let Some(first) = self.waiting.borrow_mut().pop_front() {
                            // Nobody is left to hear it when its request was given up.
                            let _ = first.answer.send(bytes);
                        }
                    }
                    Ok(None) => break,
                    Err(why) => return self.fail(&why),
                }
            }
            match reader.read_buf(&mut buffer).await {
                Ok(0) => return self.fail("Redis closed the connection"),
                Ok(_) => {}
                Err(error) => return self.fail(&error.to_string()),
            }
        }
    }
}

async fn greet(
    reader: &mut ReadHalf<Socket>,
    writer: &mut WriteHalf<Socket>,
    buffer: &mut BytesMut,
    (bytes, replies): (Vec<u8>, usize),
) -> std::result::Result<(), String> {
    writer.write_all(&bytes).await.map_err(|error| error.to_string())?;
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
            if reader.read_buf(buffer).await.map_err(|error| error.to_string())? == 0 {
                return Err("Redis closed the connection".to_owned());
            }
        }
    }
    Ok(())
}

/// A Redis URL: `redis[s]://[[user]:password@]host[:port][/database]`.
struct Address {
    tls: bool,
    host: String,
    port: u16,
    user: String,
    password: String,
    database: u32,
}

impl Address {
    fn parse(url: &str) -> Option<Address> {
        let (scheme, rest) = url.split_once("://")?;
        let tls = match scheme {
            "redis" => false,
            "rediss" => true,
            _ => return None,
        };
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (address, 6379),
        };
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        Some(Address {
            tls,
            host: host.to_owned(),
            port,
            user: decode(user),
            password: decode(password),
            database: if database.is_empty() { 0 } else { database.parse().ok()? },
        })
    }

    /// The commands to begin with, and how many replies they have.
    fn greeting(&self) -> Option<(Vec<u8>, usize)> {
        let mut commands = Vec::new();
        let database = self.database.to_string();
        let mut push = |words: &[&str]| {
            commands.push(Command(words.iter().map(|word| word.as_bytes().to_vec()).collect()));
        };
        match (self.user.as_str(), self.password.as_str()) {
            ("", "") => {}
            ("", password) => push(&["AUTH", password]),
            (user, password) => push(&["AUTH", user, password]),
        }
        if self.database != 0 {
            push(&["SELECT", &database]);
        }
        (!commands.is_empty()).then(|| (encode(&commands), commands.len()))
    }
}
