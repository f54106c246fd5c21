//! The checkout: its root, its locked versions, and building its packages with cargo. Nothing here starts a server.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The checkout's root folder.
pub fn root() -> Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_owned)
        .context("xtask is expected in a folder of the workspace")
}

/// The cargo that runs us, or the one on the PATH.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Variables that `cargo run` sets for us must not look like a change to build scripts.
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            command.env_remove(name);
        }
    }
    command
}

/// The target folder, whatever the environment and configuration say.
pub fn target_folder(root: &Path) -> Result<PathBuf> {
    let output = cargo().current_dir(root).args(["metadata", "--no-deps", "--format-version=1"]).output()?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    Ok(PathBuf::from(
        metadata["target_directory"].as_str().context("cargo metadata has no target_directory")?,
    ))
}

/// The files that a build made, by target name.
pub struct Built(Vec<(String, PathBuf)>);

impl Built {
    /// The program that the binary target `name` was built into.
    pub fn executable(&self, name: &str) -> Result<PathBuf> {
        self.find(name, |file| file.extension().is_none())
    }

    /// The file with this extension that the target `name` was built into.
    pub fn file(&self, name: &str, extension: &str) -> Result<PathBuf> {
        self.find(name, |file| file.extension().is_some_and(|found| found == extension))
    }

    fn find(&self, name: &str, right: impl Fn(&Path) -> bool) -> Result<PathBuf> {
        // Cargo names libraries with underscores, whatever their package is called.
        let wanted = name.replace('-', "_");
        let mut files = self.0.iter().filter(|(target, _)| target.replace('-', "_") == wanted);
        files
            .find(|(_, file)| right(file))
            .map(|(_, file)| file.clone())
            .with_context(|| format!("cargo built no {name}"))
    }
}

/// `cargo build` with these arguments; its progress and diagnostics go to the terminal.
pub fn build(root: &Path, arguments: &[&str]) -> Result<Built> {
    build_in(root, arguments, &[])
}

/// The same, with these environment variables.
pub fn build_in(root: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Built> {
    let mut command = cargo();
    command.envs(environment.iter().copied());
    command.current_dir(root).arg("build").arg("--message-format=json-render-diagnostics").args(arguments);
    let mut child =
        command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().context("cannot run cargo")?;
    let mut files = Vec::new();
    let messages = child.stdout.take().context("cargo's output is not piped")?;
    for line in BufReader::new(messages).lines() {
        let Ok(message) = serde_json::from_str::<Value>(&line?) else { continue };
        if message["reason"] != "compiler-artifact" {
            continue;
        }
        let target = message["target"]["name"].as_str().unwrap_or_default();
        let made = message["filenames"].as_array().into_iter().flatten();
        files.extend(made.filter_map(Value::as_str).map(|file| (target.to_owned(), PathBuf::from(file))));
    }
    ensure!(child.wait()?.success(), "cargo build {} failed", arguments.join(" "));
    Ok(Built(files))
}

/// The version of `package` in Cargo.lock.
pub fn locked_version(root: &Path, package: &str) -> Result<String> {
    let lock = std::fs::read_to_string(root.join("Cargo.lock"))?;
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    lines
        .nth(1)
        .and_then(|line| line.strip_prefix("version = \""))
        .and_then(|line| line.strip_suffix('"'))
        .map(str::to_owned)
        .with_context(|| format!("Cargo.lock has no {package}"))
}
