//! The whole system on one machine: Postgres, Redis, the origin and one or more edges, started in that order and ended
//! in the reverse one. `dev` and `demo` use it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::edges::{self, Edge, Origin};
use crate::http;
use crate::processes::{Launch, Process};
use crate::provision;
use crate::state::State;
use crate::stores::{Postgres, Redis, remove_cluster};
use crate::terminal::{Colour, heading, line, paint, say};
use crate::workspace;

/// The region of every edge and origin in a local system.
pub const REGION: &str = "local";
/// How long a server may take to end in good order before it is killed.
const GRACE: Duration = Duration::from_secs(10);
/// How long the origin and the edges may take to start, on a machine that is busy compiling.
const START: Duration = Duration::from_secs(60);

/// The programs of a system: found, installed or built.
pub struct Programs {
    postgres: PathBuf,
    redis: PathBuf,
    origin: PathBuf,
    edges: Vec<(Edge, edges::Program)>,
}

impl Programs {
    /// Provisions and builds what a system with these edges needs.
    pub fn prepare(root: &Path, edges: &[Edge]) -> Result<Programs> {
        let postgres = provision::postgres()?;
        let redis = provision::redis()?;
        edges.iter().try_for_each(|edge| edge.provision(root))?;
        say("building the origin and the edge");
        let mut packages = vec!["--package=optimist-origin"];
        packages.extend(edges.iter().filter_map(Edge::native_package));
        let built = workspace::build(root, &packages)?;
        let origin = built.executable("optimist-origin")?;
        let edges =
            edges.iter().map(|edge| Ok((*edge, edge.build(root, &built)?))).collect::<Result<Vec<_>>>()?;
        Ok(Programs { postgres, redis, origin, edges })
    }
}

/// One server of a system, in starting order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Postgres,
    Redis,
    Origin,
    Edge(Edge),
}

impl Part {
    pub fn name(self) -> &'static str {
        match self {
            Part::Postgres => "postgres",
            Part::Redis => "redis",
            Part::Origin => "origin",
            Part::Edge(edge) => edge.name(),
        }
    }
}

pub struct System {
    root: PathBuf,
    logs: PathBuf,
    state: State,
    programs: Programs,
    postgres: Postgres,
    redis: Redis,
    running: BTreeMap<Part, Process>,
}

impl System {
    /// A system whose data, logs and state are in `folder`. Starts nothing yet.
    pub fn new(root: &Path, folder: &Path, programs: Programs) -> Result<System> {
        fs::create_dir_all(folder)?;
        let logs = folder.join("logs");
        let state = State::load(&folder.join("state.json"))?;
        let postgres = Postgres::new(
            programs.postgres.clone(),
            &folder.join("postgres"),
            &logs,
            state.ports.postgres,
            state.passwords.clone(),
        )?;
        let redis = Redis::new(programs.redis.clone(), &folder.join("redis"), &logs, state.ports.redis)?;
        let running = BTreeMap::new();
        Ok(System { root: root.to_owned(), logs, state, programs, postgres, redis, running })
    }

    /// Removes all files of a system in `folder`.
    pub fn forget(folder: &Path) -> Result<()> {
        remove_cluster(&folder.join("postgres"))?;
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        Ok(())
    }

    /// Starts everything; returns once the origin is ready and each edge answers.
    pub fn start_all(&mut self) -> Result<()> {
        say("starting Postgres and Redis");
        self.start(Part::Postgres)?;
        self.start(Part::Redis)?;
        say("migrating");
        self.migrate()?;
        say("starting the origin");
        self.start(Part::Origin)?;
        for edge in self.edges() {
            say(format_args!("starting the edge ({})", edge.title()));
            self.start(Part::Edge(edge))?;
        }
        Ok(())
    }

    pub fn start(&mut self, part: Part) -> Result<()> {
        let process = match part {
            Part::Postgres => self.postgres.start()?,
            Part::Redis => self.redis.start()?,
            Part::Origin => self.start_origin()?,
            Part::Edge(edge) => self.start_edge(edge)?,
        };
        self.running.insert(part, process);
        Ok(())
    }

    /// SIGKILL, as an out-of-memory killer would send it.
    pub fn kill(&mut self, part: Part) -> Result<()> {
        if let Some(mut process) = self.running.remove(&part) {
            process.kill()?;
        }
        Ok(())
    }

    /// The parts that have ended since they were started, and how. They no longer count as running.
    pub fn ended(&mut self) -> Result<Vec<(Part, String)>> {
        let mut ended = Vec::new();
        for (part, process) in &mut self.running {
            if let Some(status) = process.exited()? {
                ended.push((*part, crate::processes::describe(status)));
            }
        }
        for (part, _) in &ended {
            self.running.remove(part);
        }
        Ok(ended)
    }

    /// Ends everything, the edges first.
    pub fn stop_all(&mut self) -> Result<()> {
        while let Some((_, mut process)) = self.running.pop_last() {
            process.stop(GRACE)?;
        }
        Ok(())
    }

    fn migrate(&self) -> Result<()> {
        let mut process = self
            .origin_launch("migrate")
            .arguments(["migrate"])
            .environment("OPTIMIST_MIGRATE_DATABASE_URL", self.postgres.migrate_url())
            .spawn()?;
        process.finish(START)
    }

    /// The origin's standard output, where it prints mails.
    pub fn origin_output(&self) -> PathBuf {
        self.logs.join("origin.out")
    }

    fn start_origin(&self) -> Result<Process> {
        let mut process = self.origin_launch("origin").arguments(["serve"]).spawn()?;
        process.announcement("listening ", START)?;
        let ready = format!("{}/readyz", self.origin_internal_url());
        process.until("is not ready", START, || {
            Ok(http::get(&ready).ok().filter(|answer| answer.status == 200).map(drop))
        })?;
        Ok(process)
    }

    fn origin_launch(&self, name: &'static str) -> Launch {
        let State { ports, signing_key, token_key, journal_key, .. } = &self.state;
        Launch::new(name, &self.programs.origin, &self.logs)
            .environment("OPTIMIST_DATABASE_URL", self.postgres.serve_url())
            .environment("OPTIMIST_REDIS_URL", self.redis.url())
            .environment("OPTIMIST_REGION", REGION)
            .environment("OPTIMIST_SIGNING_KEYS", signing_key)
            .environment("OPTIMIST_TOKEN_KEYS", token_key)
            .environment("OPTIMIST_JOURNAL_KEYS", journal_key)
            .environment("OPTIMIST_UNVERIFIED_ACCOUNTS", "allow")
            .environment("OPTIMIST_SMTP_URL", "print:")
            .environment("OPTIMIST_MAIL_FROM", "Optimist <optimist@example.org>")
            .environment("OPTIMIST_LISTEN", format!("127.0.0.1:{}", ports.origin))
            .environment("OPTIMIST_INTERNAL_LISTEN", format!("127.0.0.1:{}", ports.origin_internal))
    }

    fn start_edge(&self, edge: Edge) -> Result<Process> {
        let (_, program) = self
            .programs
            .edges
            .iter()
            .find(|(built, _)| *built == edge)
            .context("this edge was not built")?;
        let origin = Origin {
            url: self.origin_url(),
            redis_url: self.redis.url(),
            signing_keys: self.state.signing_key.clone(),
            region: REGION,
        };
        let port = self.edge_port(edge);
        let mut process = program.launch(&self.root, &self.logs, port, &origin)?.spawn()?;
        let url = self.edge_url(edge);
        process.until("does not answer", START, || Ok(http::get(&url).ok().map(drop)))?;
        Ok(process)
    }

    /// In the order they were asked for.
    pub fn edges(&self) -> Vec<Edge> {
        self.programs.edges.iter().map(|(edge, _)| *edge).collect()
    }

    fn edge_port(&self, edge: Edge) -> u16 {
        match edge {
            Edge::Embedded => self.state.ports.edge_embedded,
            Edge::Cloudflare => self.state.ports.edge_cloudflare,
            Edge::Spin => self.state.ports.edge_spin,
        }
    }

    pub fn edge_url(&self, edge: Edge) -> String {
        format!("http://127.0.0.1:{}", self.edge_port(edge))
    }

    fn origin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.state.ports.origin)
    }

    /// The URL of the origin's internal listener.
    pub fn origin_internal_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.state.ports.origin_internal)
    }

    /// All addresses, as `NAME=value` lines for scripts. A server that is away has no process id.
    pub fn addresses(&self) -> Result<String> {
        let edges = self.edges();
        let first = *edges.first().context("a system has an edge")?;
        let mut lines = vec![
            ("EDGE_URL", self.edge_url(first)),
            ("ORIGIN_URL", self.origin_url()),
            ("ORIGIN_INTERNAL_URL", self.origin_internal_url()),
            ("REDIS_URL", self.redis.url()),
            ("DATABASE_URL", self.postgres.serve_url()),
        ];
        let mut parts = vec![
            ("EDGE_PID", Part::Edge(first)),
            ("ORIGIN_PID", Part::Origin),
            ("REDIS_PID", Part::Redis),
            ("POSTGRES_PID", Part::Postgres),
        ];
        for (edge, url, pid) in [
            (Edge::Cloudflare, "EDGE_CLOUDFLARE_URL", "EDGE_CLOUDFLARE_PID"),
            (Edge::Spin, "EDGE_SPIN_URL", "EDGE_SPIN_PID"),
        ] {
            if edges.contains(&edge) {
                lines.push((url, self.edge_url(edge)));
                parts.push((pid, Part::Edge(edge)));
            }
        }
        let running = parts.into_iter().filter_map(|(name, part)| Some((name, self.running.get(&part)?)));
        lines.extend(running.map(|(name, process)| (name, process.pid().to_string())));
        Ok(lines.into_iter().map(|(name, value)| format!("{name}={value}\n")).collect())
    }

    /// Prints all addresses for a person.
    pub fn introduce(&self) -> Result<()> {
        heading("Optimist is running");
        let entry = |what: &str, place: &str, note: &str| {
            line(format_args!("  {what:<9} {place}  {}", paint(Colour::Dim, note)))
        };
        for edge in self.edges() {
            entry("edge", &self.edge_url(edge), edge.title());
        }
        entry("origin", &self.origin_internal_url(), "its internal listener: /readyz, /metrics");
        entry("postgres", &self.postgres.serve_url(), "");
        entry("redis", &self.redis.url(), "");
        entry("logs", &self.logs.display().to_string(), "");
        Ok(())
    }

    /// Whether some process accepts connections on this part's port.
    pub fn is_taken(&self, part: Part) -> bool {
        let port = match part {
            Part::Postgres => self.state.ports.postgres,
            Part::Redis => self.state.ports.redis,
            Part::Origin => self.state.ports.origin,
            Part::Edge(edge) => self.edge_port(edge),
        };
        std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).is_ok()
    }
}

/// Checks that no edge is listed twice; an empty list means the embedded host.
pub fn chosen_edges(asked: &[Edge]) -> Result<Vec<Edge>> {
    if asked.is_empty() {
        return Ok(vec![Edge::Embedded]);
    }
    for (position, edge) in asked.iter().enumerate() {
        ensure!(!asked[..position].contains(edge), "--edge {} is given twice", edge.argument());
    }
    Ok(asked.to_vec())
}
