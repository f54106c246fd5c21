//! The harness's own promise: what it kills is gone, with its children.

use std::path::Path;
use std::time::{Duration, Instant};

use optimist_tests::processes::{Launch, Process};

/// As `spin up` does its work in a child.
#[test]
fn a_killed_program_takes_its_children_along() {
    let folder = tempfile::tempdir().unwrap();
    let mut parent = Process::start(&Launch {
        program: Path::new("sh"),
        arguments: ["-c", "sleep 600 & echo child $!; wait"].map(str::to_owned).to_vec(),
        environment: Vec::new(),
        log: folder.path().join("log"),
        user: None,
    });
    let child = parent.wait_for_line("child").replace("child ", "");
    let stat = Path::new("/proc").join(child.trim()).join("stat");
    // A process without a parent is a zombie until init has taken note of its end.
    let is_running = || {
        let stat = std::fs::read_to_string(&stat).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
    };
    assert!(is_running());
    parent.kill();
    let deadline = optimist_tests::patience();
    while is_running() {
        assert!(Instant::now() < deadline, "the child outlives its parent");
        std::thread::sleep(Duration::from_millis(10));
    }
}
