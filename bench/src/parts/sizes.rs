//! The sizes of the shipped artefacts: the Worker as wrangler uploads it, compressed, and the Spin component.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use optimist_tests::processes::program;

use crate::Settings;
use crate::report::{Figure, Outcome, Target};

pub async fn run(_: Arc<Settings>) -> Outcome {
    let worker = program("OPTIMIST_WORKER_DIR", "edge/cloudflare/build");
    let worker: usize = ["index.js", "index_bg.wasm"]
        .map(|module| compressed(&std::fs::read(worker.join(module)).expect("a module")))
        .iter()
        .sum();
    let component = program("OPTIMIST_COMPONENT", "target/wasm32-wasip2/wasm/optimist_edge_spin.wasm");
    let component = component.metadata().expect("a component").len();
    let figure = |what: &str, bytes: f64, bound| {
        Figure::plain(what, "KiB", [(bytes / 1024.0 * 10.0).round() / 10.0], Target::AtMost(bound))
    };
    Outcome {
        figures: vec![
            figure("size: the Worker, gzipped", worker as f64, 150.0),
            figure("size: the Spin component", component as f64, 520.0),
        ],
        plots: Vec::new(),
    }
}

/// Size in bytes after gzip.
fn compressed(bytes: &[u8]) -> usize {
    let mut gzip = Command::new("gzip");
    gzip.args(["-9", "-c"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut gzip = gzip.spawn().expect("gzip");
    let (mut input, bytes) = (gzip.stdin.take().expect("its input is piped"), bytes.to_vec());
    let writer = std::thread::spawn(move || input.write_all(&bytes));
    let output = gzip.wait_with_output().expect("gzip");
    writer.join().expect("a thread").expect("gzip reads");
    assert!(output.status.success(), "gzip failed");
    output.stdout.len()
}
