//! Child processes that end with the test, however it ends, and the programs to start.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// A running program with its children: a process group of its own. Dropping it kills them all.
pub struct Process {
    child: Child,
    is_gone: bool,
    /// Its standard error.
    pub log: PathBuf,
}

/// How to start a program.
pub struct Launch<'a> {
    pub program: &'a Path,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub log: PathBuf,
    /// Another user to run as.
    pub user: Option<&'a str>,
}

impl Process {
    /// Starts a program that dies with this process. `setpriv` requests that from the kernel after it has changed the
    /// user, since the change would undo the request. The kernel sends the signal when the spawning thread ends, so one
    /// dedicated thread spawns everything.
    pub fn start(launch: &Launch<'_>) -> Process {
        let log = std::fs::File::options().create(true).append(true).open(&launch.log).expect("a log file");
        let mut command = Command::new("setpriv");
        if let Some(user) = launch.user {
            command.args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()]);
        }
        command.args(["--pdeathsig", if launch.user.is_some() { "INT" } else { "KILL" }]);
        command.arg(launch.program).args(&launch.arguments);
        command.envs(launch.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).process_group(0);
        let child = spawn_for_good(command);
        Process { child, is_gone: false, log: launch.log.clone() }
    }

    /// Waits for the line by which a program announces that it is ready.
    pub fn wait_for_line(&mut self, marker: &'static str) -> String {
        let output = self.child.stdout.take().expect("its output is piped");
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if line.contains(marker) && sender.send(line).is_err() {
                    break;
                }
            }
        });
        receiver.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            panic!("it never said {marker:?}; its log: {log}")
        })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name to the program and its children: `STOP`, `CONT`, `TERM`.
    pub fn signal(&self, name: &str) {
        assert!(self.send(name), "no process to send {name}");
    }

    /// `kill -9` for the program and its children (`spin up` has one, which does the work). Waits until the program is gone.
    pub fn kill(&mut self) {
        if std::mem::replace(&mut self.is_gone, true) {
            return; // Its number may be another's by now.
        }
        // It may have ended by itself; its children may not.
        self.send("KILL");
        let _ = self.child.wait();
    }

    /// Whether there was a process to send a signal to.
    fn send(&self, name: &str) -> bool {
        let group = format!("-{}", self.id());
        let output = Command::new("kill").args(["-s", name, "--", &group]).output().expect("kill");
        output.status.success()
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether it has ended, though nobody has waited for it.
    pub fn has_ended(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
        status.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with(['Z', 'X']))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Spawns from a thread that lives as long as this process.
fn spawn_for_good(command: Command) -> Child {
    type Job = (Command, mpsc::Sender<std::io::Result<Child>>);
    static SPAWNER: std::sync::LazyLock<std::sync::Mutex<mpsc::Sender<Job>>> =
        std::sync::LazyLock::new(|| {
            let (sender, receiver) = mpsc::channel::<Job>();
            std::thread::spawn(move || {
                for (mut command, reply) in receiver {
                    let _ = reply.send(command.spawn());
                }
            });
            std::sync::Mutex::new(sender)
        });
    let (sender, receiver) = mpsc::channel();
    SPAWNER.lock().expect("the spawner").send((command, sender)).expect("the spawner");
    receiver.recv().expect("the spawner").expect("a program that starts (setpriv is in util-linux)")
}

/// A program's path: from its environment variable, or where a build puts it.
pub fn program(variable: &str, built: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(|| workspace().join(built), PathBuf::from);
    assert!(path.exists(), "{} is missing: set {variable}, or run `cargo xtask test`", path.display());
    path
}

/// The workspace's root.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}

/// A port that is free now, below the range that the kernel gives to outgoing connections: one of those could take the
/// port of a server that is killed for a while, or connect to itself.
pub fn free_port() -> u16 {
    const LOWEST: u16 = 10_000;
    const COUNT: u128 = 22_000;
    loop {
        let port = LOWEST + (uuid::Uuid::new_v4().as_u128() % COUNT) as u16;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
