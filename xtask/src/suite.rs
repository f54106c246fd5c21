//! Builds everything for this machine, and runs tests on it. `test`, `mutants` and `counts` choose the tests and
//! interpret their results.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::edges::{self, Edge};
use crate::processes::{WITH_PARENT, with_parent};
use crate::provision;
use crate::workspace::{self, Built};

/// The packages for this machine; two more are only for Wasm, and the model has [`MODEL`]. The selection is always the
/// same, since another one would give some dependencies other features, and rebuild them.
pub const NATIVE: [&str; 5] = [
    "--workspace",
    "--exclude=optimist-edge-spin",
    "--exclude=optimist-edge-cloudflare",
    "--exclude=optimist-model",
    "--features=optimist-origin/test-hooks",
];

/// The model is built apart, so that deployed packages do not get the features that the model checker asks for.
pub const MODEL: &str = "--package=optimist-model";

pub struct Suite {
    pub root: PathBuf,
    /// Builds as deployed, which is slow; otherwise as developed.
    is_release: bool,
    /// Builds the edge's component.
    component: fn(&Path) -> Result<PathBuf>,
    built: Option<Programs>,
}

/// The programs that the integration tests run.
struct Programs {
    postgres: PathBuf,
    redis: PathBuf,
    origin: PathBuf,
    host: PathBuf,
    component: PathBuf,
}

/// The outcome of tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results {
    pub passed: u64,
    pub failed: u64,
    /// Names of failed tests.
    pub failures: Vec<String>,
    /// The first lines that each failed test said.
    pub said: Vec<String>,
    /// Lines that still belong to these.
    more: usize,
}

/// Lines of a failed test that are told again at the end.
const SAID: usize = 12;

impl Suite {
    pub fn new(is_release: bool) -> Result<Suite> {
        Ok(Suite { root: workspace::root()?, is_release, component: edges::component, built: None })
    }

    /// With an edge whose mechanisms can be switched off, too.
    pub fn with_hooks() -> Result<Suite> {
        Ok(Suite { component: edges::component_with_hooks, ..Suite::new(false)? })
    }

    /// Builds the packages for this machine, the origin with its test hooks. Only the first call compiles.
    pub fn native(&self) -> Result<Built> {
        workspace::build(&self.root, &NATIVE)
    }

    /// Builds the origin, with its test hooks, and the host.
    fn servers(&self) -> Result<(PathBuf, PathBuf)> {
        let (origin, host) = ("optimist-origin", "optimist-edge-host");
        if !self.is_release {
            let native = self.native()?;
            return Ok((native.executable(origin)?, native.executable(host)?));
        }
        // Each alone, with the features that it is deployed with.
        let build = |package, features| {
            workspace::build(&self.root, &["--release", "--package", package, "--features", features])?
                .executable(package)
        };
        Ok((build(origin, "test-hooks")?, build(host, "")?))
    }

    /// Builds and finds everything, once.
    fn programs(&mut self) -> Result<&Programs> {
        if self.built.is_none() {
            let (postgres, redis) = (provision::postgres()?, provision::redis()?);
            provision::rust_target("wasm32-wasip2")?;
            let (origin, host) = self.servers()?;
            let component = (self.component)(&self.root)?;
            self.built = Some(Programs { postgres, redis, origin, host, component });
        }
        self.built.as_ref().context("just built")
    }

    /// The edge's component.
    pub fn component(&mut self) -> Result<&Path> {
        Ok(&self.programs()?.component)
    }

    /// Builds what [`Suite::system_command`] needs.
    pub fn build(&mut self) -> Result<()> {
        self.programs().map(drop)
    }

    /// A cargo command that dies with this process.
    pub fn command(&self) -> Command {
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

    /// A cargo command for tests that start stores, origins and edges; it passes the programs' paths, so that tests
    /// never build or search.
    pub fn system_command(&mut self, edge: Edge) -> Result<Command> {
        let mut command = self.command();
        self.tell(&mut command, edge)?;
        Ok(command)
    }

    /// Passes the paths of all programs to a command that starts systems.
    pub fn tell(&mut self, command: &mut Command, edge: Edge) -> Result<()> {
        let programs = self.programs()?;
        command
            .env("OPTIMIST_POSTGRES_BIN_DIR", &programs.postgres)
            .env("OPTIMIST_REDIS_SERVER", &programs.redis)
            .env("OPTIMIST_ORIGIN_BIN", &programs.origin)
            .env("OPTIMIST_HOST_BIN", &programs.host)
            .env("OPTIMIST_COMPONENT", &programs.component)
            .env("OPTIMIST_EDGE", edge.argument());
        Ok(())
    }

    /// `cargo test` of these targets, with these arguments for the test programs; each line of output goes to `tell`.
    pub fn tests(
        &self,
        command: Command,
        targets: &[&str],
        arguments: &[&str],
        tell: impl FnMut(&str),
    ) -> Result<Results> {
        let selection =
            if self.is_release { &["--release", "--package=optimist-tests"][..] } else { &NATIVE[..] };
        tests(command, &[selection, targets].concat(), arguments, tell)
    }

    /// The model's own tests.
    pub fn model_tests(&self, arguments: &[&str], tell: impl FnMut(&str)) -> Result<Results> {
        tests(self.command(), &[MODEL, "--lib"], arguments, tell)
    }
}

fn tests(
    mut command: Command,
    targets: &[&str],
    arguments: &[&str],
    mut tell: impl FnMut(&str),
) -> Result<Results> {
    command.arg("test").arg("--no-fail-fast").args(targets).arg("--").args(arguments);
    // The tests die with cargo, which dies with us. The build may have replaced our executable's file; this name stays
    // valid.
    command.env(
        format!("CARGO_TARGET_{}_RUNNER", host_triple()?.to_uppercase().replace('-', "_")),
        format!("/proc/{}/exe {WITH_PARENT} - SIGKILL -", std::process::id()),
    );
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut results = Results::default();
    for line in BufReader::new(child.stdout.take().context("its output is not piped")?).lines() {
        let line = line?;
        results.note(&line);
        tell(&line);
    }
    let status = child.wait()?;
    // Not a failed test: compilation failed, or a test program ended early.
    ensure!(status.success() || results.failed > 0, "cargo test did not come to its end");
    ensure!(results.passed + results.failed > 0, "there was no test");
    Ok(results)
}

impl Results {
    /// Takes in a line of a test program's output: `test <name> ... FAILED`, or the summary, `test result: ok. 3
    /// passed; 0 failed; …`.
    fn note(&mut self, line: &str) {
        if let Some((_, counts)) = line.split_once("test result: ") {
            let count = |what: &str| -> Option<u64> {
                let (before, _) = counts.split_once(what)?;
                before.rsplit(' ').next()?.parse().ok()
            };
            self.passed += count(" passed;").unwrap_or(0);
            self.failed += count(" failed;").unwrap_or(0);
        } else if let Some((name, outcome)) =
            line.strip_prefix("test ").and_then(|line| line.split_once(" ... "))
            && outcome.contains("FAILED")
        {
            self.failures.push(name.to_owned());
        } else if line.starts_with("---- ") && line.ends_with(" stdout ----") {
            self.more = SAID;
        } else if self.more > 0 {
            let goes_on = !line.starts_with("stack backtrace");
            self.more = if goes_on { self.more - 1 } else { 0 };
            self.said.extend(goes_on.then(|| line.to_owned()));
        }
    }
}

/// This machine's target, in cargo's terms.
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
    fn results_are_read_with_and_without_colour() {
        let summary =
            "test result: ok. 12 passed; 3 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.01s";
        let mut results = Results::default();
        results.note(summary);
        assert_eq!((results.passed, results.failed), (12, 3));
        results.note(&summary.replace("ok", "\u{1b}[32mok\u{1b}[m"));
        results.note("test routes::are_whole ... ok");
        results.note("test routes::are_old ... \u{1b}[31mFAILED\u{1b}[m");
        assert_eq!((results.passed, results.failed), (24, 6));
        assert_eq!(results.failures, ["routes::are_old"]);
        let told =
            ["---- routes::are_old stdout ----", "panicked", "1 is not 2", "stack backtrace:", "0: begin"];
        for line in told {
            results.note(line);
        }
        assert_eq!(results.said, ["panicked", "1 is not 2"]);
    }
}
