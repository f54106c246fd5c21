//! Overload: the right answers a second while far more clients ask than can be served, beside the best that the same edge
//! does for fewer. Clients wait as long as `Retry-After` says; what they get instead of an answer does not count.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use optimist_tests::{Kind, Options};

use crate::Settings;
use crate::closed_loop::Subject;
use crate::http1::Connection;
use crate::parts::warm::{MEMBERS, SERVER};
use crate::processor::{self, Meter, Processor};
use crate::region::Region;
use crate::report::{Figure, Outcome, Side, Target};

/// Connections that an edge should serve well, and those that are too many.
const FEW: [usize; 3] = [16, 32, 64];
const MANY: usize = 256;
/// As deployed. Tests have a longer one.
const REDIS_DEADLINE_MS: u32 = 100;

pub async fn run(settings: Arc<Settings>) -> Outcome {
    let options = Options { redis_deadline_ms: REDIS_DEADLINE_MS, ..Options::default() };
    let region = Region::with(options).await;
    let mut figures = Vec::new();
    for (kind, host) in
        [(Kind::Embedded, "embedded host"), (Kind::Cloudflare, "workerd"), (Kind::Spin, "Spin")]
    {
        if !Kind::all().contains(&kind) {
            println!("  there is no {host} here");
            continue;
        }
        let edge = region.edge(kind);
        let circle = region.circle(&edge.url, MEMBERS).await;
        let reads = Subject {
            is_right: |answer| answer.status == 200,
            ..circle.reads(host, &edge.url, region.workers(SERVER, &edge.process))
        };
        let (mut few, mut many) = (FEW.map(|_| Vec::new()), Vec::new());
        for _ in 0..settings.turns {
            for (connections, runs) in FEW.into_iter().zip(&mut few) {
                runs.push(ask(&reads, connections, settings.seconds));
            }
            many.push(ask(&reads, MANY, settings.seconds));
        }
        figures.push(figure(host, &few, &many));
    }
    Outcome { figures, plots: Vec::new() }
}

/// The result of one run.
struct Run {
    /// Right answers a second.
    goodput: f64,
    processor: Processor,
}

/// Asks over this many connections, each from a thread of its own.
fn ask(subject: &Subject, connections: usize, seconds: u64) -> Run {
    let (right, asked, is_over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let meter = Meter::start(&subject.workers);
    let began = Instant::now();
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            for number in 0..connections {
                let (right, asked, is_over) = (&right, &asked, &is_over);
                let first = number * subject.requests.len() / connections;
                // Small stacks: there are many.
                let thread = std::thread::Builder::new().stack_size(256 * 1024);
                let client = move || converse(subject, first, right, asked, is_over);
                thread.spawn_scoped(scope, client).expect("a thread");
            }
            std::thread::sleep(Duration::from_secs(seconds));
            is_over.store(true, Ordering::Relaxed);
        });
    });
    let (right, asked) = (right.into_inner() as f64, asked.into_inner() as f64);
    let goodput = right / began.elapsed().as_secs_f64();
    let processor = meter.per_request(right);
    println!(
        "  {}, {connections} connections: {goodput:.0} right answers/s of {asked:.0}   {}",
        subject.name,
        processor.line()
    );
    Run { goodput, processor }
}

/// One client: asks, counts, and waits where it is told to.
fn converse(subject: &Subject, first: usize, right: &AtomicU64, asked: &AtomicU64, is_over: &AtomicBool) {
    /// After a connection that broke.
    const PAUSE: Duration = Duration::from_millis(100);
    let mut connection = None;
    for request in subject.requests.iter().cycle().skip(first) {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        asked.fetch_add(1, Ordering::Relaxed);
        let open = match connection.take() {
            Some(open) => Ok(open),
            None => Connection::open(&subject.url),
        };
        let answer = open.and_then(|mut open: Connection| Ok((open.send(request)?, open)));
        match answer {
            Ok((answer, open)) => {
                connection = Some(open);
                if (subject.is_right)(&answer) {
                    right.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                let seconds: f64 = answer.header("retry-after").parse().unwrap_or(0.0);
                wait(Duration::from_secs_f64(seconds), is_over);
            }
            Err(_) => wait(PAUSE, is_over),
        }
    }
}

/// In steps, so that the end of a run need not wait for all of it.
fn wait(duration: Duration, is_over: &AtomicBool) {
    let until = Instant::now() + duration;
    while Instant::now() < until && !is_over.load(Ordering::Relaxed) {
        std::thread::sleep(until.saturating_duration_since(Instant::now()).min(Duration::from_millis(50)));
    }
}

/// The best of the few connections is chosen by its median.
fn figure(host: &str, few: &[Vec<Run>; 3], many: &[Run]) -> Figure {
    let side = |connections: usize, runs: &[Run]| {
        let name = format!("{host}, {connections} connections");
        Side::new(&name, "right answers/s", runs.iter().map(|run| run.goodput))
    };
    let mut sides: Vec<Side> =
        FEW.into_iter().zip(few).map(|(connections, runs)| side(connections, runs)).collect();
    sides.sort_by(|one, other| other.samples.median().total_cmp(&one.samples.median()));
    let best = sides.remove(0);
    let what = format!("overload, {host}: right answers with {MANY} connections");
    let workers =
        processor::sides(&format!("{host}, {MANY} connections"), many.iter().map(|run| &run.processor));
    Figure::percent(&what, side(MANY, many), best, Target::AtLeast(80.0)).beside(sides).beside(workers)
}
