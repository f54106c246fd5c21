//! The edge under test, on each of its hosts.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::processes::{Launch, Process, free_port, program};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The Spin component in our own native host.
    Embedded,
    /// The same, with Spin's bounds, refusals and sockets.
    LikeSpin,
    /// The Worker in workerd.
    Cloudflare,
    /// The Spin component in the `spin` on the PATH.
    Spin,
}

impl Kind {
    /// The available hosts: only `spin` may be absent.
    pub fn all() -> Vec<Kind> {
        let mut kinds = vec![Kind::Embedded, Kind::LikeSpin, Kind::Cloudflare];
        if Command::new("spin").arg("--version").output().is_ok_and(|output| output.status.success()) {
            kinds.push(Kind::Spin);
        }
        kinds
    }

    /// Whether it refuses what Spin refuses before the component sees it.
    pub fn refuses_as_spin(self) -> bool {
        matches!(self, Kind::LikeSpin | Kind::Spin)
    }
}

pub struct Edge {
    pub process: Process,
    pub url: String,
}

impl Edge {
    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Starts an edge; `settings` use the names of the edge's configuration.
    pub fn start(kind: Kind, settings: &[(String, String)], folder: &Path) -> Edge {
        match kind {
            Kind::Embedded => Edge::embedded(settings, folder, &[]),
            Kind::LikeSpin => Edge::embedded(settings, folder, &["--like-spin"]),
            Kind::Cloudflare => Edge::cloudflare(settings, folder, &|template| template),
            Kind::Spin => Edge::spin(settings, folder),
        }
    }

    /// The embedded host, whose requests to the origin fail as their queries ask: `?fail=ConnectionTerminated`.
    pub fn failing_by_query(settings: &[(String, String)], folder: &Path) -> Edge {
        Edge::embedded(settings, folder, &["--fail-by-query"])
    }

    fn embedded(settings: &[(String, String)], folder: &Path, flags: &[&str]) -> Edge {
        let component = component();
        let compiled = component.with_file_name("compiled").display().to_string();
        let component = component.display().to_string();
        let mut arguments: Vec<String> =
            ["--component", &component, "--compiled", &compiled, "--listen", "127.0.0.1:0"]
                .map(str::to_owned)
                .to_vec();
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        for (name, value) in settings {
            arguments.extend(["--variable".to_owned(), format!("{name}={value}")]);
        }
        let host = program("OPTIMIST_HOST_BIN", "target/debug/optimist-edge-host");
        let mut process = Process::start(&Launch {
            program: &host,
            arguments,
            environment: Vec::new(),
            log: folder.join("edge.log"),
            user: None,
        });
        let line = process.wait_for_line("listening");
        Edge { url: line.replace("listening ", ""), process }
    }

    /// The Worker in workerd, trusting this certificate (PEM) as well.
    pub fn cloudflare_trusting(settings: &[(String, String)], folder: &Path, certificate: &str) -> Edge {
        Edge::cloudflare(settings, folder, &|template| trusting(&template, certificate))
    }

    /// The Worker with objects that fail when a request's header `X-Fault` says so: see `faults.js`.
    pub fn cloudflare_with_faults(settings: &[(String, String)], folder: &Path) -> Edge {
        std::fs::write(folder.join("faults.js"), include_str!("faults.js")).expect("a module");
        const MODULES: &str = "modules = [";
        let main = format!("{MODULES}\n    (name = \"faults.js\", esModule = embed \"faults.js\"),");
        Edge::cloudflare(settings, folder, &|template| template.replacen(MODULES, &main, 1))
    }

    fn cloudflare(settings: &[(String, String)], folder: &Path, edit: &dyn Fn(String) -> String) -> Edge {
        let workerd = program("OPTIMIST_WORKERD_BIN", "node_modules/workerd/bin/workerd");
        let built = program("OPTIMIST_WORKER_DIR", "edge/cloudflare/build");
        let port = free_port();
        let template = crate::processes::workspace().join("edge/cloudflare/workerd.capnp");
        let template = std::fs::read_to_string(template).expect("a template");
        let bindings: Vec<String> = settings
            .iter()
            .map(|(name, value)| (format!("OPTIMIST_{}", name.to_uppercase()), value.clone()))
            .chain([("OPTIMIST_CLIENT_ADDRESS".to_owned(), "127.0.0.1".to_owned())])
            .map(|(name, value)| format!("(name = {name:?}, text = {value:?})"))
            .collect();
        let config = edit(template)
            .replace("@LISTEN@", &format!("127.0.0.1:{port}"))
            .replace("@BINDINGS@", &bindings.join(",\n    "));
        let file = folder.join("workerd.capnp");
        std::fs::write(&file, config).expect("a configuration");
        for module in ["index.js", "index_bg.wasm"] {
            std::fs::copy(built.join(module), folder.join(module)).expect("the built Worker");
        }
        let process = Process::start(&Launch {
            program: &workerd,
            arguments: vec!["serve".to_owned(), file.display().to_string()],
            environment: Vec::new(),
            log: folder.join("edge.log"),
            user: None,
        });
        wait_for_port(port, &process);
        Edge { url: format!("http://127.0.0.1:{port}"), process }
    }

    fn spin(settings: &[(String, String)], folder: &Path) -> Edge {
        let port = free_port();
        let manifest = crate::processes::workspace().join("spin.toml");
        let environment = settings
            .iter()
            .map(|(name, value)| (format!("SPIN_VARIABLE_{}", name.to_uppercase()), value.clone()))
            .chain(settings.iter().filter(|(name, _)| name == "redis_url").map(|(_, url)| {
                ("SPIN_VARIABLE_REDIS_HOST".to_owned(), url.trim_start_matches("redis://").to_owned())
            }))
            .collect();
        let (listen, logs) = (format!("127.0.0.1:{port}"), folder.display().to_string());
        let manifest = manifest.display().to_string();
        let arguments = ["up", "--quiet", "--listen", &listen, "--log-dir", &logs, "--from", &manifest];
        let process = Process::start(&Launch {
            program: Path::new("spin"),
            arguments: arguments.map(str::to_owned).to_vec(),
            environment,
            log: folder.join("edge.log"),
            user: None,
        });
        wait_for_port(port, &process);
        Edge { url: format!("http://127.0.0.1:{port}"), process }
    }
}

/// A configuration of workerd whose network trusts this certificate as well.
pub fn trusting(configuration: &str, certificate: &str) -> String {
    const ALLOWED: &str = "network = (allow = [\"public\", \"private\"]";
    assert!(configuration.contains(ALLOWED), "the configuration has no network to edit");
    configuration
        .replace(ALLOWED, &format!("{ALLOWED}, tlsOptions = (trustedCertificates = [{certificate:?}])"))
}

fn component() -> PathBuf {
    program("OPTIMIST_COMPONENT", "target/wasm32-wasip2/wasm/optimist_edge_spin.wasm")
}

fn wait_for_port(port: u16, process: &Process) {
    let deadline = crate::patience();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        let log = || std::fs::read_to_string(&process.log).unwrap_or_default();
        assert!(Instant::now() < deadline, "the edge did not start: {}", log());
        std::thread::sleep(Duration::from_millis(1));
    }
}
