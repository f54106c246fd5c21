//! Servers do not outlive the process that started them, however that one ends.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, also in its helpers")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A shell that starts a server as xtask does, and the server's process id.
fn parent_and_server(signal: &str, server: &str) -> (Child, String) {
    let script =
        format!("{} __with-parent $$ {signal} - {server} & echo $!; wait", env!("CARGO_BIN_EXE_xtask"));
    let mut shell = Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pid = line.trim().to_owned();
    // The shell's child has this id from the start; wait until the server has taken it over.
    let program = server.split(' ').next().unwrap().to_owned();
    wait_until("the server runs", || command_of(&pid).is_some_and(|command| command == program));
    (shell, pid)
}

fn command_of(pid: &str) -> Option<String> {
    let name = std::fs::read_to_string(Path::new("/proc").join(pid).join("comm")).ok()?;
    Some(name.trim().to_owned())
}

fn is_gone(pid: &str) -> bool {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
    // A process that nobody has reaped yet has ended all the same.
    status.map_or(true, |status| status.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "not in 10 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_server_dies_with_a_parent_that_is_killed() {
    for signal in ["SIGKILL", "SIGTERM"] {
        let (mut shell, server) = parent_and_server(signal, "sleep 1000");
        shell.kill().unwrap();
        shell.wait().unwrap();
        wait_until("the server is gone", || is_gone(&server));
    }
}

#[test]
fn a_stopped_server_dies_too() {
    let (mut shell, server) = parent_and_server("SIGKILL", "sleep 1000");
    assert!(Command::new("kill").args(["-STOP", &server]).status().unwrap().success());
    shell.kill().unwrap();
    shell.wait().unwrap();
    wait_until("the server is gone", || is_gone(&server));
}

#[test]
fn a_server_whose_parent_is_gone_already_does_not_start() {
    let xtask = env!("CARGO_BIN_EXE_xtask");
    // No process has the id 0, so our parent cannot have it.
    let output =
        Command::new(xtask).args(["__with-parent", "0", "SIGKILL", "-", "echo", "started"]).output().unwrap();
    assert!(!output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
}
