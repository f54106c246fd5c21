//! Load whose requests are built one by one: signed as the edge signs, and either valid once only or built on the
//! previous answer.
//!
//! Uses as many threads as the closed loop has connections, each with its own connection and state. The threads block
//! and speak their own HTTP, so that the load generator takes less of the machine than the server under test.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use optimist_shared::ids::Uuid;
use optimist_shared::session::Role;
use optimist_shared::signature::{
    CONTENT_DIGEST_HEADER, CONTEXT_HEADER, Charged, Context, Identity, SIGNATURE_HEADER,
    SIGNATURE_INPUT_HEADER, Signed, content_digest, sign,
};
use optimist_tests::system::{REGION, SIGNING_KEY};

use crate::closed_loop::CONNECTIONS;
use crate::http1::{Answer, Connection, Request, authority};
use crate::open_loop::Latencies;
use crate::processor::{Meter, Processor, Worker};
use crate::report::Side;

/// The result of one run.
pub struct Run {
    pub requests: u64,
    pub seconds: f64,
    pub latencies: Latencies,
    pub processor: Processor,
}

impl Run {
    pub fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }
}

/// The rates of a load's runs, and below them what each of its workers took.
pub fn sides(name: &str, runs: &[Run]) -> Vec<Side> {
    let rates = Side::new(name, "req/s", runs.iter().map(Run::requests_per_second));
    let workers = crate::processor::sides(name, runs.iter().map(|run| &run.processor));
    std::iter::once(rates).chain(workers).collect()
}

/// A server, and the requests to send to it.
pub struct Load<'a, S> {
    pub name: &'a str,
    /// `http://host:port`.
    pub url: &'a str,
    /// The processes that take part.
    pub workers: &'a [Worker],
    /// Makes the state of a connection from its number, counted from 0.
    pub state: &'a (dyn Fn(usize) -> S + Sync),
    /// The next request.
    pub request: &'a (dyn Fn(&mut S) -> Request + Sync),
    /// Records an answer; panics if it is not the expected one.
    pub answered: &'a (dyn Fn(&mut S, &Answer) + Sync),
}

impl<S> Load<'_, S> {
    /// Closed loop: each connection sends its next request as soon as it has the answer to its last.
    pub fn run(&self, seconds: u64) -> Run {
        self.send(None, Duration::from_secs(seconds))
    }

    /// Open loop: `rate` requests a second; latency counts from when a request was due.
    pub fn at_rate(&self, rate: f64, seconds: u64) -> Run {
        self.send(Some(rate), Duration::from_secs(seconds))
    }

    fn send(&self, rate: Option<f64>, duration: Duration) -> Run {
        let next = AtomicU64::new(0);
        let meter = Meter::start(self.workers);
        // Leaves time to open the connections before the first request is due.
        let start = Instant::now() + Duration::from_millis(200);
        let latencies: Vec<f64> = std::thread::scope(|scope| {
            let connection = |number| {
                let (next, load) = (&next, &self);
                move || load.converse(number, rate, start, duration, next)
            };
            let threads: Vec<_> = (0..CONNECTIONS).map(|number| scope.spawn(connection(number))).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("the load")).collect()
        });
        let run = Run {
            requests: latencies.len() as u64,
            seconds: duration.as_secs_f64(),
            processor: meter.per_request(latencies.len() as f64),
            latencies: latencies.into_iter().collect(),
        };
        println!(
            "  {:<44} {:>9.0} req/s   p50 {:>7.2} ms   p99 {:>7.2} ms   {}{}",
            self.name,
            run.requests_per_second(),
            run.latencies.percentile(50.0),
            run.latencies.percentile(99.0),
            run.processor.line(),
            if rate.is_some() { "   (open loop)" } else { "" }
        );
        run
    }

    /// Sends one connection's requests; returns their latencies in milliseconds.
    fn converse(
        &self,
        number: usize,
        rate: Option<f64>,
        start: Instant,
        duration: Duration,
        next: &AtomicU64,
    ) -> Vec<f64> {
        let mut connection = Connection::open(self.url).expect("a connection");
        let mut state = (self.state)(number);
        let mut latencies = Vec::new();
        std::thread::sleep(start.saturating_duration_since(Instant::now()));
        loop {
            let due = match rate {
                Some(rate) => {
                    start + Duration::from_secs_f64(next.fetch_add(1, Ordering::Relaxed) as f64 / rate)
                }
                None => Instant::now(),
            };
            if due >= start + duration {
                return latencies;
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let request = (self.request)(&mut state);
            let answer = connection.send(&request).expect("an answer");
            latencies.push(due.elapsed().as_secs_f64() * 1000.0);
            (self.answered)(&mut state, &answer);
        }
    }
}

/// A request as the edge forwards it, for a caller whose session and limits it has checked: valid once, within 30
/// seconds.
pub fn signed(
    url: &str,
    method: &str,
    path: &str,
    identity: Identity,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Request {
    signed_from("127.0.0.1", url, method, path, identity, headers, body)
}

/// The same, for a caller at an address.
pub fn signed_from(
    client: &str,
    url: &str,
    method: &str,
    path: &str,
    identity: Identity,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Request {
    let context = Context {
        identity,
        role: Some(Role::Member),
        client: client.to_owned(),
        region: REGION.to_owned(),
        request_id: Uuid::now_v7().to_string(),
        charged: Charged::Limits,
    }
    .render();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let key = headers.iter().find(|(name, _)| *name == "idempotency-key").map_or("", |(_, key)| key);
    let content_digest = content_digest(body);
    let signed = Signed {
        method,
        target: path,
        context: &context,
        authorization: "",
        idempotency_key: key,
        content_digest: &content_digest,
    };
    let (input, signature) =
        sign(signed, SIGNING_KEY.1, &SIGNING_KEY.0, &Uuid::new_v4().simple().to_string(), now);
    let own = [
        ("content-type", "application/json"),
        (CONTEXT_HEADER, context.as_str()),
        (CONTENT_DIGEST_HEADER, content_digest.as_str()),
        (SIGNATURE_INPUT_HEADER, input.as_str()),
        (SIGNATURE_HEADER, signature.as_str()),
    ];
    Request::new(method, authority(url), path, &[&own, headers].concat(), body)
}
