//! `cargo xtask test`: everything CI runs, stage after stage, each against a budget of seconds. A stage that fails does
//! not hide the next ones; a stage that cannot run has failed. What is tested is in the packages and in `tests`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::cloudflare;
use crate::edges::{self, Edge};
use crate::processes::{WITH_PARENT, with_parent};
use crate::provision;
use crate::soak::{self, Soak};
use crate::terminal::{self, Colour, heading, paint};
use crate::tidy;
use crate::workspace::{self, Built};

/// The packages for this machine; the other two are for Wasm alone. Always the same selection, since another one would
/// give some dependencies other features, and build them again.
const NATIVE: [&str; 4] = [
    "--workspace",
    "--exclude=optimist-edge-spin",
    "--exclude=optimist-edge-cloudflare",
    "--features=optimist-origin/test-hooks",
];

struct Stage {
    name: &'static str,
    what: &'static str,
    /// Seconds it may take with nothing built, and with everything built, on two cores.
    from_nothing: u64,
    when_built: u64,
    run: fn(&mut Run) -> Result<()>,
}

/// 40 minutes from nothing and 8 when built, shared out.
#[rustfmt::skip] // One line a row.
const STAGES: [Stage; 8] = [
    Stage { name: "format", what: "rustfmt", from_nothing: 10, when_built: 5, run: format },
    Stage { name: "build", what: "the origin, the Wasm, its hosts", from_nothing: 900, when_built: 25, run: build },
    Stage { name: "tidy", what: "headers, sizes, links, documents", from_nothing: 10, when_built: 5, run: check_tidy },
    Stage { name: "lint", what: "clippy, native and Wasm", from_nothing: 340, when_built: 25, run: lint },
    Stage { name: "unit", what: "tests beside the code", from_nothing: 260, when_built: 25, run: unit },
    Stage { name: "integration", what: "the API on real stores", from_nothing: 400, when_built: 220, run: integration },
    Stage { name: "parity", what: "the API on every edge", from_nothing: 120, when_built: 50, run: parity },
    Stage { name: "faults", what: "all that can fail, failing", from_nothing: 245, when_built: 125, run: faults },
];

pub fn run(names: &[String]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| !STAGES.iter().any(|stage| stage.name == **name)) {
        let known: Vec<&str> = STAGES.iter().map(|stage| stage.name).collect();
        bail!("there is no stage {unknown}; the stages are {}", known.join(", "));
    }
    let root = workspace::root()?;
    let was_built = workspace::target_folder(&root)?.join("debug/optimist-origin").exists();
    let mut run = Run::at(root);
    let mut outcomes = Vec::new();
    for stage in STAGES.iter().filter(|stage| names.is_empty() || names.iter().any(|name| name == stage.name))
    {
        heading(format_args!("{}: {}", stage.name, stage.what));
        let began = Instant::now();
        let result = (stage.run)(&mut run);
        if let Err(error) = &result {
            println!("{} {}: {error:#}", paint(Colour::Red, "✗"), stage.name);
        }
        outcomes.push(Outcome { stage, seconds: began.elapsed().as_secs(), succeeded: result.is_ok() });
    }
    report(&outcomes, was_built);
    println!("{} passed, {} failed", run.passed, run.failed);
    let failed: Vec<&str> =
        outcomes.iter().filter(|outcome| !outcome.succeeded).map(|outcome| outcome.stage.name).collect();
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

struct Outcome {
    stage: &'static Stage,
    seconds: u64,
    succeeded: bool,
}

fn report(outcomes: &[Outcome], was_built: bool) {
    let of = |stage: &Stage| if was_built { stage.when_built } else { stage.from_nothing };
    heading(if was_built { "Seconds, built before" } else { "Seconds, from nothing" });
    println!("  {:<12} {:>7} {:>7}", "stage", "seconds", "budget");
    let line = |name: &str, seconds: u64, budget: u64, note: String| {
        println!("  {name:<12} {seconds:>7} {budget:>7}  {note}");
    };
    for Outcome { stage, seconds, succeeded } in outcomes {
        let note = match (succeeded, *seconds > of(stage)) {
            (false, _) => paint(Colour::Red, "failed"),
            (true, true) => paint(Colour::Yellow, "over budget"),
            (true, false) => String::new(),
        };
        line(stage.name, *seconds, of(stage), note);
    }
    let total = outcomes.iter().map(|outcome| outcome.seconds).sum();
    line("total", total, outcomes.iter().map(|outcome| of(outcome.stage)).sum(), String::new());
}

pub struct Run {
    root: PathBuf,
    built: Option<Programs>,
    worker: Option<PathBuf>,
    passed: u64,
    failed: u64,
}

/// What the integration tests run.
struct Programs {
    postgres: PathBuf,
    redis: PathBuf,
    origin: PathBuf,
    host: PathBuf,
    soak: PathBuf,
    component: PathBuf,
}

impl Programs {
    /// Tells a program that starts systems where everything is.
    fn tell(&self, command: &mut Command, edge: Edge) {
        command
            .env("OPTIMIST_POSTGRES_BIN_DIR", &self.postgres)
            .env("OPTIMIST_REDIS_SERVER", &self.redis)
            .env("OPTIMIST_ORIGIN_BIN", &self.origin)
            .env("OPTIMIST_HOST_BIN", &self.host)
            .env("OPTIMIST_COMPONENT", &self.component)
            .env("OPTIMIST_EDGE", edge.argument());
    }
}

fn format(run: &mut Run) -> Result<()> {
    run.cargo(&["fmt", "--all", "--check"])
}

fn build(run: &mut Run) -> Result<()> {
    run.programs()?;
    run.worker().map(drop)
}

fn check_tidy(run: &mut Run) -> Result<()> {
    let origin = run.native()?.executable("optimist-origin")?;
    tidy::check(&run.root, &origin, false)
}

fn lint(run: &mut Run) -> Result<()> {
    let denied = ["--", "--deny=warnings"];
    run.cargo(&[&["clippy"], &NATIVE[..], &["--all-targets"], &denied].concat())?;
    // As it is deployed: without its hooks for tests.
    run.cargo(&[&["clippy", "--package=optimist-origin"], &denied[..]].concat())?;
    for (package, target) in
        [("optimist-edge-spin", "wasm32-wasip2"), ("optimist-edge-cloudflare", "wasm32-unknown-unknown")]
    {
        provision::rust_target(target)?;
        // As they are built: another profile would compile their dependencies twice.
        run.cargo(
            &[&["clippy", "--profile=wasm", "--target", target, "--package", package], &denied[..]].concat(),
        )?;
    }
    Ok(())
}

fn unit(run: &mut Run) -> Result<()> {
    let command = run.command();
    run.tests(command, &["--lib", "--bins", "--test=children"], &[])
}

fn integration(run: &mut Run) -> Result<()> {
    run.system_tests(Edge::Embedded, "--test=it", &[])
}

/// What the integration tests say of the embedded edge, of the others; and the same answers from all.
fn parity(run: &mut Run) -> Result<()> {
    let mut edges = vec![Edge::Cloudflare];
    // The one runtime that may be absent: no registry has it.
    edges.extend(provision::spin().is_ok().then_some(Edge::Spin));
    for edge in edges {
        run.system_tests(edge, "--test=it", &["api::", "misses::five_hundred"])?;
    }
    run.system_tests(Edge::Embedded, "--test=parity", &[])?;
    cloudflare::try_deployment(&run.root)
}

fn faults(run: &mut Run) -> Result<()> {
    run.system_tests(Edge::Embedded, "--test=faults", &[])?;
    run.soak(&soak::SHORT)
}

impl Run {
    pub fn new() -> Result<Run> {
        Ok(Run::at(workspace::root()?))
    }

    fn at(root: PathBuf) -> Run {
        Run { root, built: None, worker: None, passed: 0, failed: 0 }
    }

    pub fn soak(&mut self, soak: &Soak) -> Result<()> {
        let root = self.root.clone();
        let programs = self.programs()?;
        soak::play(&programs.soak, soak, |command| {
            command.current_dir(&root).stdin(Stdio::null());
            programs.tell(command, Edge::Embedded);
        })
    }

    /// Builds the packages for this machine, the origin with its hooks for tests. Only the first call compiles.
    fn native(&self) -> Result<Built> {
        workspace::build(&self.root, &NATIVE)
    }

    /// Builds and finds everything but the Worker, once.
    fn programs(&mut self) -> Result<&Programs> {
        if self.built.is_none() {
            let (postgres, redis) = (provision::postgres()?, provision::redis()?);
            provision::rust_target("wasm32-wasip2")?;
            let native = self.native()?;
            self.built = Some(Programs {
                postgres,
                redis,
                origin: native.executable("optimist-origin")?,
                host: native.executable("optimist-edge-host")?,
                soak: native.executable("optimist-soak")?,
                component: edges::component(&self.root)?,
            });
        }
        self.built.as_ref().context("just built")
    }

    fn worker(&mut self) -> Result<&Path> {
        if self.worker.is_none() {
            self.worker = Some(cloudflare::build(&self.root)?);
        }
        self.worker.as_deref().context("just built")
    }

    /// A cargo that dies with us.
    fn command(&self) -> Command {
        let cargo = workspace::cargo();
        let mut command = with_parent(Path::new(cargo.get_program()), Signal::SIGKILL, None);
        for (name, value) in cargo.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.current_dir(&self.root).stdin(Stdio::null());
        command
    }

    fn cargo(&self, arguments: &[&str]) -> Result<()> {
        let status = self.command().args(arguments).status()?;
        ensure!(status.success(), "cargo {} failed", arguments[0]);
        Ok(())
    }

    /// Tests that start stores, origins and edges: told where the programs are, so that they never build or search.
    fn system_tests(&mut self, edge: Edge, target: &str, filters: &[&str]) -> Result<()> {
        let mut command = self.command();
        self.programs()?.tell(&mut command, edge);
        command
            .env("OPTIMIST_WORKER_DIR", self.worker()?)
            .env("OPTIMIST_WORKERD_BIN", cloudflare::workerd(&self.root));
        self.tests(command, &[target], filters)
    }

    /// `cargo test` of these targets, all tests or those that a filter names; its results counted.
    fn tests(&mut self, mut command: Command, targets: &[&str], filters: &[&str]) -> Result<()> {
        command.arg("test").args(NATIVE).arg("--no-fail-fast").args(targets).arg("--").args(filters);
        if terminal::coloured() {
            command.arg("--color=always");
        }
        // The tests die with cargo, which dies with us. Our file may have been replaced by the build; this name stays.
        command.env(
            format!("CARGO_TARGET_{}_RUNNER", host_triple()?.to_uppercase().replace('-', "_")),
            format!("/proc/{}/exe {WITH_PARENT} - SIGKILL -", std::process::id()),
        );

        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let (mut passed, mut failed) = (0, 0);
        for line in BufReader::new(child.stdout.take().context("its output is not piped")?).lines() {
            let line = line?;
            if let Some((good, bad)) = results(&line) {
                passed += good;
                failed += bad;
            }
            println!("{line}");
        }
        let status = child.wait()?;
        self.passed += passed;
        self.failed += failed;
        ensure!(status.success(), "{failed} tests failed");
        ensure!(passed > 0, "there was no test");
        Ok(())
    }
}

/// Passed and failed of a summary line: `test result: ok. 3 passed; 0 failed; …`.
fn results(line: &str) -> Option<(u64, u64)> {
    let (_, counts) = line.split_once("test result: ")?;
    let count = |what: &str| {
        let (before, _) = counts.split_once(what)?;
        before.rsplit(' ').next()?.parse().ok()
    };
    Some((count(" passed;")?, count(" failed;")?))
}

/// This machine's target, as cargo names it.
fn host_triple() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not name its host")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_counted_with_and_without_colour() {
        let line =
            "test result: ok. 12 passed; 3 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.01s";
        assert_eq!(results(line), Some((12, 3)));
        assert_eq!(results(&line.replace("ok", "\u{1b}[32mok\u{1b}[m")), Some((12, 3)));
        assert_eq!(results("test routes::are_whole ... ok"), None);
    }

    #[test]
    fn the_budgets_keep_to_the_whole() {
        assert!(STAGES.iter().map(|stage| stage.from_nothing).sum::<u64>() <= 40 * 60);
        assert!(STAGES.iter().map(|stage| stage.when_built).sum::<u64>() <= 8 * 60);
    }
}
