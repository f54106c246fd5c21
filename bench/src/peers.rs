//! The peers: what a team would write instead. Their code is in `bench/peers`; its README describes them.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use optimist_tests::edges::trusting;
use optimist_tests::processes::{Launch, Process, free_port, program, workspace};

use crate::region::Region;

pub struct Peer {
    pub process: Process,
    pub url: String,
}

/// Starts the Fastify peer, which serves the same reads from the same stores.
pub fn fastify(region: &Region) -> Peer {
    node(region, "fastify", "fastify")
}

/// Starts a process of the Socket.IO peer, which tells the same messages through the same stores. `name` is unique.
pub fn socketio(region: &Region, name: &str) -> Peer {
    node(region, "socketio", name)
}

/// Starts a program in JavaScript, from its folder, before the region's stores.
fn node(region: &Region, folder: &str, name: &str) -> Peer {
    let node = program("OPTIMIST_NODE_BIN", "node_modules/node/bin/node");
    let server = workspace().join("bench/peers").join(folder).join("server.js");
    let environment = [("REDIS_URL", region.redis.url()), ("DATABASE_URL", region.database_url())];
    let environment = environment.into_iter().chain([("NODE_ENV", "production".to_owned())]);
    let mut process = Process::start(&Launch {
        program: &node,
        arguments: vec![server.display().to_string()],
        environment: environment.map(|(name, value)| (name.to_owned(), value)).collect(),
        log: region.folder.path().join(format!("{name}.log")),
        user: None,
    });
    let url = process.wait_for_line("listening").replace("listening ", "");
    Peer { process, url }
}

/// Starts the JavaScript Worker, which serves the same warm reads. With a certificate it speaks TLS to Redis, and
/// trusts that one.
pub fn worker(redis_port: u16, certificate: Option<&str>, folder: &Path) -> Peer {
    let workerd = program("OPTIMIST_WORKERD_BIN", "node_modules/workerd/bin/workerd");
    let sources = workspace().join("bench/peers/worker");
    let template = std::fs::read_to_string(sources.join("workerd.capnp")).expect("a template");
    let port = free_port();
    let (host, tls) = if certificate.is_some() { ("localhost", "on") } else { ("127.0.0.1", "off") };
    let config = template
        .replace("@LISTEN@", &format!("127.0.0.1:{port}"))
        .replace("@REDIS_HOST@", host)
        .replace("@REDIS_PORT@", &redis_port.to_string())
        .replace("@REDIS_TLS@", tls);
    let config = certificate.map_or(config.clone(), |certificate| trusting(&config, certificate));
    let folder = folder.join(format!("peer-{tls}"));
    std::fs::create_dir_all(&folder).expect("a folder");
    for module in ["worker.js", "resp.js"] {
        std::fs::copy(sources.join(module), folder.join(module)).expect("the peer's source");
    }
    let file = folder.join("workerd.capnp");
    std::fs::write(&file, config).expect("a configuration");
    let process = Process::start(&Launch {
        program: &workerd,
        arguments: vec!["serve".to_owned(), file.display().to_string()],
        environment: Vec::new(),
        log: folder.join("worker.log"),
        user: None,
    });
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        let log = std::fs::read_to_string(&process.log).unwrap_or_default();
        assert!(!log.contains("rror"), "the peer's workerd did not start: {log}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Peer { process, url: format!("http://127.0.0.1:{port}") }
}

/// Starts the embedded host with a component that answers every request with nothing.
pub fn empty_component(folder: &Path) -> Peer {
    let component =
        program("OPTIMIST_BENCH_EMPTY", "target/bench-empty/wasm32-wasip2/release/optimist_bench_empty.wasm");
    let arguments = ["--component", &component.display().to_string(), "--listen", "127.0.0.1:0"];
    let mut process = Process::start(&Launch {
        program: &program("OPTIMIST_HOST_BIN", "target/release/optimist-edge-host"),
        arguments: arguments.map(str::to_owned).to_vec(),
        environment: Vec::new(),
        log: folder.join("empty.log"),
        user: None,
    });
    let url = process.wait_for_line("listening").replace("listening ", "");
    Peer { process, url }
}

/// Starts workerd with a Worker that answers every request with nothing.
pub fn empty_worker(folder: &Path) -> Peer {
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
    // As often as the harness looks for our Worker, whose start is compared with this one.
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Peer { process, url: format!("http://127.0.0.1:{port}") }
}

/// An index of messages in Tantivy, and a process that searches it.
pub struct Tantivy {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Tantivy {
    pub fn start() -> Tantivy {
        let program =
            program("OPTIMIST_BENCH_TANTIVY", "target/bench-tantivy/release/optimist-bench-tantivy");
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the peer starts");
        let (input, output) =
            (child.stdin.take().expect("its input"), child.stdout.take().expect("its output"));
        Tantivy { child, input, output: BufReader::new(output).lines() }
    }

    /// Takes lines of messages: see the peer's source.
    pub fn take(&mut self, lines: &[u8]) {
        self.input.write_all(lines).expect("the peer reads");
    }

    /// After the messages: waits for the index to be complete, and returns its bytes. `circles` are the searcher's own.
    pub fn complete(&mut self, circles: &[String]) -> u64 {
        self.take(format!(".\n{}\n", circles.join("\t")).as_bytes());
        let line = self.answer();
        line.strip_prefix("ready ").and_then(|bytes| bytes.parse().ok()).expect("its bytes")
    }

    /// How many results a query has, at most a page, and the milliseconds that it took.
    pub fn search(&mut self, query: &str) -> (usize, f64) {
        self.take(format!("{query}\n").as_bytes());
        let line = self.answer();
        let (found, nanoseconds) = line.split_once(' ').expect("two numbers");
        (found.parse().expect("a number"), nanoseconds.parse::<f64>().expect("a number") / 1e6)
    }

    fn answer(&mut self) -> String {
        self.output.next().expect("the peer answers").expect("a line")
    }
}

impl Drop for Tantivy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
