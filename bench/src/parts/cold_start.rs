//! Cold start: the first answer of a new instance, beside that of an empty handler. The difference is the cost of
//! loading our code, which the first caller pays.
//!
//! On workerd the clock starts with the process, which loads the Worker at its start. On the embedded host an instance
//! is new after a second without requests; the host compiles the component before it listens, once per deployment. The
//! answer is the 401 that needs no Redis.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use optimist_tests::Kind;
use optimist_tests::processes::{Launch, Process, free_port, program, workspace};

use crate::Settings;
use crate::http1::{Connection, Request, authority};
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
    let component =
        program("OPTIMIST_BENCH_EMPTY", "target/bench-empty/wasm32-wasip2/release/optimist_bench_empty.wasm");
    let host = program("OPTIMIST_HOST_BIN", "target/release/optimist-edge-host");
    let arguments = ["--component", &component.display().to_string(), "--listen", "127.0.0.1:0"];
    let mut empty = Process::start(&Launch {
        program: &host,
        arguments: arguments.map(str::to_owned).to_vec(),
        environment: Vec::new(),
        log: region.folder.path().join("empty.log"),
        user: None,
    });
    let empty_url = empty.wait_for_line("listening").replace("listening ", "");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..count {
        std::thread::sleep(IDLE);
        ours.push(first_answer(&edge.url, 401));
        theirs.push(first_answer(&empty_url, 200));
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
        let (empty, url) = empty_worker(region.folder.path());
        first_answer(&url, 200);
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

fn empty_worker(folder: &Path) -> (Process, String) {
    let sources = workspace().join("bench/peers/empty");
    let port = free_port();
    let folder = folder.join("empty");
    std::fs::create_dir_all(&folder).expect("a folder");
    let config = std::fs::read_to_string(sources.join("workerd.capnp")).expect("a configuration");
    let file = folder.join("workerd.capnp");
    std::fs::write(&file, config.replace("@LISTEN@", &format!("127.0.0.1:{port}"))).expect("a configuration");
    std::fs::copy(sources.join("worker.js"), folder.join("worker.js")).expect("its source");
    let process = Process::start(&Launch {
        program: &program("OPTIMIST_WORKERD_BIN", "node_modules/workerd/bin/workerd"),
        arguments: vec!["serve".to_owned(), file.display().to_string()],
        environment: Vec::new(),
        log: folder.join("worker.log"),
        user: None,
    });
    // The harness waits for our Worker in the same way.
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
    (process, format!("http://127.0.0.1:{port}"))
}

fn figure(host: &str, ours: Vec<f64>, theirs: Vec<f64>) -> Figure {
    let more = ours.iter().zip(&theirs).map(|(ours, theirs)| ours - theirs).collect::<Vec<_>>();
    let (ours, theirs) = (Side::new("Optimist", "ms", ours), Side::new("an empty handler", "ms", theirs));
    println!("  {host}: {:.2} ms, empty {:.2} ms", ours.samples.median(), theirs.samples.median());
    let what = format!("cold start, {host}: more than an empty handler");
    let figure = Figure::plain(&what, "ms", more, Target::AtMost(BOUND_MS));
    Figure { against: "an empty handler".to_owned(), sides: vec![ours, theirs], ..figure }
}
