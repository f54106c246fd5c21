//! The Worker: building it, running it in a workerd on this machine, and trying its deployment without one.
//!
//! Nothing here talks to Cloudflare.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::provision;
use crate::terminal::say;
use crate::workspace;

const CRATE: &str = "edge/cloudflare";
/// What a Worker is made of.
const MODULES: [&str; 2] = ["index.js", WASM];
const WASM: &str = "index_bg.wasm";
/// Empty, and newer than the modules once they are whole.
const WHOLE: &str = "whole";

/// What a Worker may come to, compressed, in KiB as wrangler counts: an isolate's first request waits for it.
const SIZE_KIB: f64 = 150.0;

/// What rustc and wasm-bindgen make use of, and workerd knows.
const WASM_FEATURES: [&str; 7] = [
    "bulk-memory",
    "exception-handling",
    "multivalue",
    "mutable-globals",
    "nontrapping-float-to-int",
    "reference-types",
    "sign-ext",
];

/// As worker-build calls cargo, so that its call finds everything built.
const CARGO_ARGUMENTS: [&str; 4] =
    ["--lib", "--profile=wasm", "--target=wasm32-unknown-unknown", "--package=optimist-edge-cloudflare"];
const CARGO_ENVIRONMENT: [(&str, &str); 1] = [("WASM_BINDGEN_USE_JS_SYS", "1")];

/// Installs what building and running the Worker needs.
pub fn provision(root: &Path) -> Result<()> {
    provision::rust_target("wasm32-unknown-unknown")?;
    provision::worker_tools(root)?;
    provision::node_packages(root)
}

/// Builds the Worker, unless it is there and newer than what it is made from; the folder with its modules.
pub fn build(root: &Path) -> Result<PathBuf> {
    provision(root)?;
    let tools = provision::worker_tools(root)?;
    say("building the Worker");
    let built = root.join(CRATE).join("build");
    let compiled = workspace::build_in(root, &CARGO_ARGUMENTS, &CARGO_ENVIRONMENT)?;
    let modified = |file: &Path| fs::metadata(file).and_then(|data| data.modified()).ok();
    let compiled = modified(&compiled.file("optimist-edge-cloudflare", "wasm")?);
    if MODULES.iter().chain([&WHOLE]).all(|module| modified(&built.join(module)) > compiled) {
        return Ok(built);
    }
    let binary = |name: &str| root.join("node_modules/.bin").join(name);
    let mut command = Command::new(&tools.worker_build);
    command
        .current_dir(root.join(CRATE))
        .args(["--profile", "wasm", "."])
        .env("WASM_BINDGEN_BIN", &tools.wasm_bindgen)
        .env("ESBUILD_BIN", binary("esbuild"))
        .stdin(Stdio::null());
    run(command, "worker-build")?;
    for module in MODULES {
        ensure!(built.join(module).exists(), "worker-build made no {module}");
    }
    // By ourselves, since worker-build's call keeps the functions' names: a fifth of the size.
    let small = built.join("small.wasm");
    let mut command = Command::new(binary("wasm-opt"));
    // What has been kept apart stays so, though it has one caller: functions are compiled when they are first called.
    command.args(["-Oz", "--one-caller-inline-max-function-size=60"]);
    command.args(WASM_FEATURES.map(|feature| format!("--enable-{feature}")));
    command.arg(built.join(WASM)).arg("-o").arg(&small).stdin(Stdio::null());
    run(command, "wasm-opt")?;
    fs::rename(small, built.join(WASM))?;
    fs::write(built.join(WHOLE), "")?;
    Ok(built)
}

pub fn workerd(root: &Path) -> PathBuf {
    root.join("node_modules/workerd/bin/workerd")
}

/// Writes a configuration of workerd to `folder`, with the Worker's modules beside it; its file. Bindings are text.
pub fn configure(
    root: &Path,
    built: &Path,
    folder: &Path,
    port: u16,
    bindings: &[(String, String)],
) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let template = fs::read_to_string(root.join(CRATE).join("workerd.capnp"))?;
    let bindings: Vec<String> =
        bindings.iter().map(|(name, value)| format!("(name = {name:?}, text = {value:?})")).collect();
    let configuration = template
        .replace("@LISTEN@", &format!("127.0.0.1:{port}"))
        .replace("@BINDINGS@", &bindings.join(",\n    "));
    for module in MODULES {
        fs::copy(built.join(module), folder.join(module)).with_context(|| format!("no {module}"))?;
    }
    let file = folder.join("workerd.capnp");
    // It names secrets.
    crate::state::write_private(&file, &configuration)?;
    Ok(file)
}

/// Has wrangler check every region's deployment, without one, and fails if the Worker has grown too large.
pub fn try_deployment(root: &Path) -> Result<()> {
    provision::node_packages(root)?;
    for region in regions(root)? {
        let what = format!("wrangler deploy --dry-run --env {region}");
        let mut command = Command::new(root.join("node_modules/node/bin/node"));
        command
            .current_dir(root)
            .arg("node_modules/wrangler/bin/wrangler.js")
            .args(["deploy", "--dry-run", "--env", &region])
            .env("CI", "1")
            .env("WRANGLER_SEND_METRICS", "false")
            .env("CLOUDFLARE_CF_FETCH_ENABLED", "false")
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        let output = command.output().with_context(|| format!("cannot run {what}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        print!("{text}");
        ensure!(output.status.success(), "{what} failed");
        let size = compressed_kib(&text).with_context(|| format!("{what} does not tell the size"))?;
        ensure!(size <= SIZE_KIB, "the Worker has {size} KiB compressed: {SIZE_KIB} are enough");
    }
    Ok(())
}

/// From wrangler's line `Total Upload: 345.67 KiB / gzip: 123.45 KiB`.
fn compressed_kib(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.contains("Total Upload:"))?;
    line.split("gzip:").nth(1)?.trim().strip_suffix(" KiB")?.parse().ok()
}

/// `cargo xtask worker`, which wrangler calls.
pub fn build_command() -> Result<()> {
    build(&workspace::root()?).map(drop)
}

/// The environments of `wrangler.toml`.
fn regions(root: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(root.join("wrangler.toml"))?;
    let regions: Vec<String> = text
        .lines()
        .filter_map(|line| Some(line.strip_prefix("[env.")?.strip_suffix(']')?.to_owned()))
        .collect();
    ensure!(!regions.is_empty(), "wrangler.toml names no region");
    Ok(regions)
}

fn run(mut command: Command, what: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {what}"))?;
    ensure!(status.success(), "{what} failed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrangler_tells_the_compressed_size() {
        let text = "Something\nTotal Upload: 345.67 KiB / gzip: 123.45 KiB\nNo bindings found.\n";
        assert_eq!(compressed_kib(text), Some(123.45));
        assert_eq!(compressed_kib("Total Upload: unknown"), None);
    }
}
