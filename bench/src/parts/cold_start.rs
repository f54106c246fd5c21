//! Cold start: the first answer of a new instance, beside that of an empty handler. The difference is the cost of
//! loading our code, which the first caller pays.
//!
//! On workerd the clock starts with the process, which loads the Worker at its start. On the embedded host an instance
//! is new after a second without requests; the host compiles the component before it listens, once per deployment. The
//! answer is the 401 that needs no Redis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use optimist_tests::Kind;

use crate::Settings;
use crate::http1::{Connection, Request, authority};
use crate::peers;
use crate::region::Region;
use crate::report::{Figure, Outcome, Side, Target};

/// In milliseconds, beyond an empty handler.
const BOUND_MS: f64 = 10.0;

/// Longer than the embedded host keeps an idle instance.
const IDLE: Duration = Duration::from_millis(1_300);

pub async fn run(settings: Arc<Settings>) -> Outcome {
    let region = Region::start().await;
    let count = settings.turns * 4;
    Outcome { figures: vec![embedded(&region, count), workerd(&region, count)], plots: Vec::new() }
}

fn embedded(region: &Region, count: usize) -> Figure {
    let edge = region.edge(Kind::Embedded);
    let empty = peers::empty_component(region.folder.path());
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..count {
        std::thread::sleep(IDLE);
        ours.push(first_answer(&edge.url, 401));
        theirs.push(first_answer(&empty.url, 200));
    }
    figure("embedded host", ours, theirs)
}

fn workerd(region: &Region, count: usize) -> Figure {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let begun = Instant::now();
        let edge = region.edge(Kind::Cloudflare);
        first_answer(&edge.url, 401);
        ours.push(begun.elapsed().as_secs_f64() * 1000.0);
        drop(edge);
        let begun = Instant::now();
        let empty = peers::empty_worker(region.folder.path());
        first_answer(&empty.url, 200);
        theirs.push(begun.elapsed().as_secs_f64() * 1000.0);
        drop(empty);
    }
    figure("workerd", ours, theirs)
}

/// Milliseconds until a request is answered on an already open connection.
fn first_answer(url: &str, status: u16) -> f64 {
    let mut connection = Connection::open(url).expect("the server accepts a connection");
    let request = Request::new("GET", authority(url), "/v1/me", &[], b"");
    let begun = Instant::now();
    let answer = connection.send(&request).expect("an answer");
    let ms = begun.elapsed().as_secs_f64() * 1000.0;
    assert_eq!(answer.status, status);
    ms
}

fn figure(host: &str, ours: Vec<f64>, theirs: Vec<f64>) -> Figure {
    let more = ours.iter().zip(&theirs).map(|(ours, theirs)| ours - theirs).collect::<Vec<_>>();
    let (ours, theirs) = (Side::new("Optimist", "ms", ours), Side::new("an empty handler", "ms", theirs));
    println!("  {host}: {:.2} ms, empty {:.2} ms", ours.samples.median(), theirs.samples.median());
    let what = format!("cold start, {host}: more than an empty handler");
    let figure = Figure::plain(&what, "ms", more, Target::AtMost(BOUND_MS));
    Figure { against: "an empty handler".to_owned(), sides: vec![ours, theirs], ..figure }
}
