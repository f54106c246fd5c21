//! Closed-loop load with `wrk`: one thread, 32 connections, each sending its next request as soon as it has the answer
//! to its last.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Deserialize;

use crate::http1::{Answer, Connection, Request};
use crate::plot::Line;
use crate::processor::{Meter, Processor, Worker};
use crate::report::Side;
use crate::samples::Samples;

pub const CONNECTIONS: usize = 32;

/// A server, and the requests sent to it.
#[derive(Clone)]
pub struct Subject {
    pub name: String,
    /// `http://host:port`.
    pub url: String,
    /// The processes that take part, whose processor time is reported as well: first the server's.
    pub workers: Vec<Worker>,
    /// Sent in turn.
    pub requests: Vec<Request>,
    /// Whether an answer is the expected one.
    pub is_right: fn(&Answer) -> bool,
}

/// The result of one `wrk` run.
#[derive(Clone, Debug, Deserialize)]
pub struct Run {
    requests: f64,
    microseconds: f64,
    failed: u64,
    refused: u64,
    /// Pairs of percentile and milliseconds.
    pub latency_ms: Vec<(f64, f64)>,
    #[serde(skip)]
    pub processor: Processor,
}

impl Run {
    pub fn requests(&self) -> f64 {
        self.requests
    }

    pub fn requests_per_second(&self) -> f64 {
        self.requests / self.microseconds * 1e6
    }

    /// Milliseconds.
    pub fn percentile(&self, wanted: f64) -> f64 {
        self.latency_ms.iter().find(|(percentile, _)| *percentile == wanted).map_or(f64::NAN, |(_, ms)| *ms)
    }
}

impl Subject {
    /// Sends some of the requests once and panics unless every answer is right.
    pub fn check(&self) {
        let mut connection = Connection::open(&self.url).expect("the server accepts a connection");
        for request in self.requests.iter().take(CONNECTIONS) {
            let answer = connection.send(request).expect("an answer");
            let body = String::from_utf8_lossy(&answer.body);
            assert!((self.is_right)(&answer), "{}: {} {:?} {body}", self.name, answer.status, answer.headers);
        }
    }

    /// One run. Panics on answers of 400 and above, unless they are what is measured, and on requests without an
    /// answer.
    pub async fn run(&self, seconds: u64) -> Run {
        self.check();
        let expects_errors = self.status() >= 400;
        let meter = Meter::start(&self.workers);
        let mut run = self.wrk(seconds).await;
        run.processor = meter.per_request(run.requests);
        assert_eq!(run.failed, 0, "{}: requests without an answer", self.name);
        let right = if expects_errors { run.requests as u64 } else { 0 };
        assert_eq!(run.refused, right, "{}: answers of 400 and above", self.name);
        self.check();
        println!(
            "  {:<44} {:>9.0} req/s   p50 {:>7.2} ms   p99 {:>7.2} ms   {}",
            self.name,
            run.requests_per_second(),
            run.percentile(50.0),
            run.percentile(99.0),
            run.processor.line()
        );
        run
    }

    fn status(&self) -> u16 {
        let mut connection = Connection::open(&self.url).expect("the server accepts a connection");
        connection.send(&self.requests[0]).expect("an answer").status
    }

    async fn wrk(&self, seconds: u64) -> Run {
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        let folder = tempfile::tempdir().expect("a folder");
        // Each run starts with a different request, so that short runs do not load the same users.
        let first = RUNS.fetch_add(7, Ordering::Relaxed) % self.requests.len();
        let (script, requests) = self.files(folder.path(), first);
        let work = tokio::process::Command::new("wrk")
            .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s"), "--timeout", "10s", "-s"])
            .args([script.as_os_str(), self.url.as_ref(), "--".as_ref(), requests.as_os_str()])
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(seconds + 60), work).await.expect("wrk ends");
        let output = output.expect("wrk is installed");
        let text = String::from_utf8_lossy(&output.stdout);
        let result = text.lines().find_map(|line| line.strip_prefix("RESULT "));
        let result =
            result.unwrap_or_else(|| panic!("wrk: {text}{}", String::from_utf8_lossy(&output.stderr)));
        serde_json::from_str(result).expect("what the script prints")
    }

    /// Writes the files that `wrk` reads: its script, and the requests starting with the `first`.
    pub fn files(&self, folder: &Path, first: usize) -> (PathBuf, PathBuf) {
        let (script, requests) = (folder.join("wrk.lua"), folder.join("requests"));
        std::fs::write(&script, include_str!("wrk.lua")).expect("a script");
        let mut bytes = Vec::new();
        for Request(request) in self.requests[first..].iter().chain(&self.requests[..first]) {
            bytes.extend_from_slice(format!("{}\n", request.len()).as_bytes());
            bytes.extend_from_slice(request);
        }
        std::fs::write(&requests, bytes).expect("a file");
        (script, requests)
    }
}

/// Runs both alternately, `one` first, and returns the runs of each.
pub async fn by_turns(one: &Subject, other: &Subject, turns: usize, seconds: u64) -> (Vec<Run>, Vec<Run>) {
    let (mut ones, mut others) = (Vec::new(), Vec::new());
    // Unmeasured runs warm up compilers, caches and pools.
    one.wrk(1).await;
    other.wrk(1).await;
    for _ in 0..turns {
        ones.push(one.run(seconds).await);
        others.push(other.run(seconds).await);
    }
    (ones, others)
}

pub fn rates(runs: &[Run]) -> Vec<f64> {
    runs.iter().map(Run::requests_per_second).collect()
}

pub fn percentiles(runs: &[Run], percentile: f64) -> Vec<f64> {
    runs.iter().map(|run| run.percentile(percentile)).collect()
}

/// Microseconds a request that one worker took, by run.
pub fn processor(runs: &[Run], worker: &str) -> Vec<f64> {
    runs.iter().map(|run| run.processor.of(worker)).collect()
}

/// The rates of a subject's runs, and below them what each of its workers took.
pub fn sides(subject: &str, runs: &[Run]) -> Vec<Side> {
    let rates = Side::new(subject, "req/s", rates(runs));
    let workers = crate::processor::sides(subject, runs.iter().map(|run| &run.processor));
    std::iter::once(rates).chain(workers).collect()
}

/// The latency distribution: the median over the runs at each percentile.
pub fn line(name: &str, runs: &[Run]) -> Line {
    let of = |percentile: f64| percentiles(runs, percentile).into_iter().collect::<Samples>().median();
    let points =
        runs.first().map(|run| run.latency_ms.iter().map(|(percentile, _)| (*percentile, of(*percentile))));
    Line { name: name.to_owned(), points: points.into_iter().flatten().collect() }
}
