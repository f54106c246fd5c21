//! `cargo xtask bench`: installs tools, builds the measured programs and `optimist-bench` for release, and starts the
//! latter, which knows what to measure.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::cloudflare;
use crate::edges;
use crate::processes::with_parent;
use crate::provision;
use crate::terminal::say;
use crate::workspace::{self, Built};

/// Passes the arguments on to `optimist-bench`.
pub fn run(arguments: &[OsString]) -> Result<()> {
    let root = workspace::root()?;
    let (postgres, redis) = (provision::postgres()?, provision::redis()?);
    provision::load_tools()?;
    provision::rust_target("wasm32-wasip2")?;
    provision::node_packages(&root)?;
    for peer in ["fastify", "socketio"] {
        provision::node_packages(&root.join("bench/peers").join(peer))?;
    }

    say("building for release");
    let origin = release(&root, "optimist-origin")?;
    let host = release(&root, "optimist-edge-host")?;
    let bench = release(&root, "optimist-bench")?;
    let component = edges::component(&root)?;
    let worker = cloudflare::build(&root)?;
    let (empty, get) = (peer_component(&root, "empty")?, peer_component(&root, "get")?);
    let tantivy = peer(&root, "tantivy", &[])?.executable("optimist-bench-tantivy")?;

    let mut command: Command = with_parent(&bench, Signal::SIGKILL, None);
    command
        .current_dir(&root)
        .args(arguments)
        .env("OPTIMIST_POSTGRES_BIN_DIR", postgres)
        .env("OPTIMIST_REDIS_SERVER", redis)
        .env("OPTIMIST_ORIGIN_BIN", origin)
        .env("OPTIMIST_HOST_BIN", host)
        .env("OPTIMIST_COMPONENT", component)
        .env("OPTIMIST_WORKER_DIR", worker)
        .env("OPTIMIST_BENCH_EMPTY", empty)
        .env("OPTIMIST_BENCH_GET", get)
        .env("OPTIMIST_BENCH_TANTIVY", tantivy)
        .env("OPTIMIST_WORKERD_BIN", cloudflare::workerd(&root))
        .env("OPTIMIST_NODE_BIN", root.join("node_modules/node/bin/node"));
    if !command.status()?.success() {
        bail!("a figure was missed, or could not be measured");
    }
    Ok(())
}

/// Builds a component that ours is compared with.
fn peer_component(root: &Path, name: &str) -> Result<PathBuf> {
    peer(root, name, &["--target=wasm32-wasip2"])?.file(&format!("optimist-bench-{name}"), "wasm")
}

/// Builds what ours is compared with, in its own workspace and target folder.
fn peer(root: &Path, name: &str, arguments: &[&str]) -> Result<Built> {
    let target = workspace::target_folder(root)?.join(format!("bench-{name}"));
    let target = target.to_str().context("the target folder has a name that is no text")?;
    let all = [&["--release", "--locked", "--target-dir", target], arguments].concat();
    workspace::build(&root.join("bench/peers").join(name), &all)
}

/// Builds one package alone: built together, each would get the features that the others ask of their dependencies.
fn release(root: &Path, package: &str) -> Result<PathBuf> {
    workspace::build(root, &["--release", "--package", package])?.executable(package)
}
