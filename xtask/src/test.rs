//! `cargo xtask test`: everything CI runs, stage after stage, each with a budget of seconds. A failed stage does not
//! hide the next ones; a stage that cannot run counts as failed. The tests are in the packages and in `tests`.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::cloudflare;
use crate::edges::{self, Edge};
use crate::provision;
use crate::soak;
use crate::suite::{MODEL, NATIVE, Results, Suite};
use crate::terminal::{self, Colour, heading, paint};
use crate::tidy;
use crate::workspace;

struct Stage {
    name: &'static str,
    what: &'static str,
    /// Budgets in seconds with nothing built, and (below) with everything built, on two cores.
    from_nothing: u64,
    when_built: u64,
    run: fn(&mut Run) -> Result<()>,
}

/// 47 minutes from nothing and 22 when built, divided among the stages.
#[rustfmt::skip] // One line per row.
const STAGES: [Stage; 10] = [
    Stage { name: "format", what: "rustfmt", from_nothing: 10, when_built: 5, run: format },
    Stage { name: "build", what: "the origin, the Wasm, its hosts", from_nothing: 850, when_built: 25, run: build },
    Stage { name: "tidy", what: "headers, sizes, links, documents", from_nothing: 10, when_built: 5, run: check_tidy },
    Stage { name: "lint", what: "clippy, native and Wasm", from_nothing: 320, when_built: 50, run: lint },
    Stage { name: "unit", what: "tests beside the code", from_nothing: 200, when_built: 40, run: unit },
    Stage { name: "integration", what: "the API on real stores", from_nothing: 720, when_built: 700, run: integration },
    Stage { name: "growth", what: "each statement in two months and one shard", from_nothing: 60, when_built: 60, run: growth },
    Stage { name: "parity", what: "the API on every edge", from_nothing: 130, when_built: 100, run: parity },
    Stage { name: "contract", what: "the API by its description", from_nothing: 200, when_built: 90, run: contract },
    Stage { name: "faults", what: "all that can fail, failing", from_nothing: 300, when_built: 260, run: faults },
];

/// Only where there is a Postgres with Citus, so its seconds are beside the others'.
const SHARDS: Stage = Stage {
    name: "shards",
    what: "the API over a Citus cluster",
    from_nothing: 240,
    when_built: 240,
    run: shards,
};

pub fn run(names: &[String]) -> Result<()> {
    let stages = || STAGES.iter().chain([&SHARDS]);
    if let Some(unknown) = names.iter().find(|name| !stages().any(|stage| stage.name == **name)) {
        let known: Vec<&str> = stages().map(|stage| stage.name).collect();
        bail!("there is no stage {unknown}; the stages are {}", known.join(", "));
    }
    let root = workspace::root()?;
    let was_built = workspace::target_folder(&root)?.join("debug/optimist-origin").exists();
    let mut run = Run {
        suite: Suite::new(false)?,
        worker: None,
        passed: 0,
        failed: 0,
        unsteady: Vec::new(),
        said: Vec::new(),
    };
    let mut outcomes = Vec::new();
    for stage in stages().filter(|stage| names.is_empty() || names.iter().any(|name| name == stage.name)) {
        heading(format_args!("{}: {}", stage.name, stage.what));
        let began = Instant::now();
        let result = (stage.run)(&mut run);
        if let Err(error) = &result {
            println!("{} {}: {error:#}", paint(Colour::Red, "✗"), stage.name);
        }
        outcomes.push(Outcome { stage, seconds: began.elapsed().as_secs(), succeeded: result.is_ok() });
    }
    report(&outcomes, was_built);
    run.said.iter().for_each(|line| println!("{line}"));
    for name in &run.unsteady {
        terminal::warn(format_args!("{name} failed beside other tests, and passed alone"));
    }
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

struct Run {
    suite: Suite,
    worker: Option<PathBuf>,
    passed: u64,
    failed: u64,
    /// Tests that failed beside others and passed alone.
    unsteady: Vec<String>,
    /// What failed tests said, which is told again at the end.
    said: Vec<String>,
}

fn format(run: &mut Run) -> Result<()> {
    run.cargo(&["fmt", "--all", "--check"])
}

fn build(run: &mut Run) -> Result<()> {
    run.suite.build()?;
    run.worker().map(drop)
}

fn check_tidy(run: &mut Run) -> Result<()> {
    let origin = run.suite.native()?.executable("optimist-origin")?;
    tidy::check(&run.suite.root, &origin, false)
}

fn lint(run: &mut Run) -> Result<()> {
    let denied = ["--", "--deny=warnings"];
    run.cargo(&[&["clippy"], &NATIVE[..], &["--all-targets"], &denied].concat())?;
    run.cargo(&[&["clippy", MODEL, "--all-targets"], &denied[..]].concat())?;
    // Without its test hooks, as it is deployed.
    run.cargo(&[&["clippy", "--package=optimist-origin"], &denied[..]].concat())?;
    for (package, target) in
        [("optimist-edge-spin", "wasm32-wasip2"), ("optimist-edge-cloudflare", "wasm32-unknown-unknown")]
    {
        provision::rust_target(target)?;
        // In the profile that they are built with: another would compile their dependencies twice.
        run.cargo(
            &[&["clippy", "--profile=wasm", "--target", target, "--package", package], &denied[..]].concat(),
        )?;
    }
    Ok(())
}

fn unit(run: &mut Run) -> Result<()> {
    let command = run.suite.command();
    run.tests(command, &["--lib", "--bins", "--test=children"], &[])?;
    let results = run.suite.model_tests(&arguments(&[]), |line| println!("{line}"))?;
    run.count(&results)
}

/// More tests at once than there are cores: most of them wait.
const AT_ONCE: &str = "--test-threads=3";

/// Failed tests of a stage that are repeated alone.
const REPEATED: usize = 3;

fn integration(run: &mut Run) -> Result<()> {
    let python = [("OPTIMIST_PYTHON_TOOLS", provision::python_packages(&run.suite.root)?)];
    run.system_tests_with(Edge::Embedded, "--test=it", &[AT_ONCE], &python)
}

/// Shows how many statements keep to the shape, and which are listed.
fn growth(run: &mut Run) -> Result<()> {
    let command = run.suite.system_command(Edge::Embedded)?;
    run.tests(command, &["--test=growth"], &["--nocapture"])
}

/// Runs the API tests on the other edges, and compares the answers of all.
fn parity(run: &mut Run) -> Result<()> {
    let mut edges = vec![Edge::Cloudflare];
    // The only runtime that may be absent, since no registry has it.
    match provision::spin() {
        Ok(_) => edges.push(Edge::Spin),
        Err(_) => {
            terminal::warn("there is no `spin` here: its component is tested on the embedded host alone")
        }
    }
    for edge in edges {
        run.system_tests(edge, "--test=it", &["api::", "misses::five_hundred"])?;
    }
    run.system_tests(Edge::Embedded, "--test=parity", &[])?;
    edges::check_component_size(run.suite.component()?)?;
    cloudflare::try_deployment(&run.suite.root)
}

/// Tests the API by its description, with clients that are made from it, and in a browser what reaches one.
fn contract(run: &mut Run) -> Result<()> {
    let python = provision::python_packages(&run.suite.root)?;
    provision::node_packages(&run.suite.root)?;
    provision::node_packages(&run.suite.root.join("examples/typescript"))?;
    let node = run.suite.root.join("node_modules/node/bin/node");
    let chromium = provision::chromium()?;
    let tools = [("OPTIMIST_PYTHON_TOOLS", python), ("OPTIMIST_NODE", node), ("OPTIMIST_CHROMIUM", chromium)];
    run.system_tests_with(Edge::Embedded, "--test=contract", &[], &tools)
}

fn faults(run: &mut Run) -> Result<()> {
    run.system_tests(Edge::Embedded, "--test=faults", &[])?;
    soak::play(&mut run.suite, &soak::SHORT)
}

/// Runs the API's tests, and those of shards themselves, on a coordinator and two workers.
fn shards(run: &mut Run) -> Result<()> {
    let Some(citus) = provision::citus()? else {
        terminal::warn(
            "there is no Postgres with Citus here (OPTIMIST_CITUS_BIN_DIR): nothing is tested on shards",
        );
        return Ok(());
    };
    let citus = [("OPTIMIST_CITUS_BIN_DIR", citus)];
    run.system_tests_with(Edge::Embedded, "--test=shards", &[], &citus)?;
    // Some give people's own tables triggers, which Citus refuses.
    let but = ["--skip=marked_once", "--skip=a_long_event_delays"];
    run.system_tests_with(
        Edge::Embedded,
        "--test=it",
        &[&["api::", "deliveries::"][..], &but].concat(),
        &citus,
    )
}

impl Run {
    fn cargo(&self, arguments: &[&str]) -> Result<()> {
        let status = self.suite.command().args(arguments).status()?;
        ensure!(status.success(), "cargo {} failed", arguments[0]);
        Ok(())
    }

    /// Builds the Worker, once.
    fn worker(&mut self) -> Result<PathBuf> {
        if self.worker.is_none() {
            self.worker = Some(cloudflare::build(&self.suite.root)?);
        }
        self.worker.clone().context("just built")
    }

    /// Runs tests that start stores, origins and edges of any kind.
    fn system_tests(&mut self, edge: Edge, target: &str, filters: &[&str]) -> Result<()> {
        self.system_tests_with(edge, target, filters, &[])
    }

    /// The same, with more programs. The first tests that fail are run once more, alone, which tells who fails beside others only. They
    /// have failed all the same.
    fn system_tests_with(
        &mut self,
        edge: Edge,
        target: &str,
        filters: &[&str],
        more: &[(&str, PathBuf)],
    ) -> Result<()> {
        let results = self.system_tests_once(edge, target, &arguments(filters), more)?;
        let again: Vec<&str> = results.failures.iter().take(REPEATED).map(String::as_str).collect();
        if !again.is_empty() {
            heading(format_args!("again, alone: {}", again.join(", ")));
            let alone = [&arguments(&again), &["--exact", "--test-threads=1"][..]].concat();
            let repeated = self.system_tests_once(edge, target, &alone, more)?;
            let unsteady =
                again.iter().filter(|name| !repeated.failures.iter().any(|failed| failed == *name));
            self.unsteady.extend(unsteady.map(|name| (*name).to_owned()));
        }
        self.count(&results)
    }

    fn system_tests_once(
        &mut self,
        edge: Edge,
        target: &str,
        arguments: &[&str],
        more: &[(&str, PathBuf)],
    ) -> Result<Results> {
        let worker = self.worker()?;
        let mut command = self.suite.system_command(edge)?;
        command
            .env("OPTIMIST_WORKER_DIR", worker)
            .env("OPTIMIST_WORKERD_BIN", cloudflare::workerd(&self.suite.root))
            .envs(more.iter().map(|(name, path)| (name, path)));
        self.suite.tests(command, &[target], arguments, |line| println!("{line}"))
    }

    /// Runs `cargo test` on these targets, for all tests or those that match a filter; counts the results.
    fn tests(&mut self, command: Command, targets: &[&str], filters: &[&str]) -> Result<()> {
        let results = self.suite.tests(command, targets, &arguments(filters), |line| println!("{line}"))?;
        self.count(&results)
    }

    fn count(&mut self, results: &Results) -> Result<()> {
        self.passed += results.passed;
        self.failed += results.failed;
        self.said.extend(results.said.iter().cloned());
        ensure!(results.failed == 0, "{} tests failed", results.failed);
        Ok(())
    }
}

/// Arguments for a test program.
fn arguments<'a>(filters: &[&'a str]) -> Vec<&'a str> {
    let colour = terminal::coloured().then_some("--color=always");
    filters.iter().copied().chain(colour).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budgets_keep_to_the_whole() {
        assert!(STAGES.iter().map(|stage| stage.from_nothing).sum::<u64>() <= 47 * 60);
        assert!(STAGES.iter().map(|stage| stage.when_built).sum::<u64>() <= 23 * 60);
    }
}
