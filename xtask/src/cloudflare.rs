//! The Worker: builds it, runs it in a local workerd, and tries its deployment without deploying.
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
/// The modules of the built Worker.
const MODULES: [&str; 2] = ["index.js", WASM];
const WASM: &str = "index_bg.wasm";
/// An empty file, newer than the modules once they are complete.
const WHOLE: &str = "whole";

/// The largest allowed compressed size in KiB, as wrangler counts: an isolate's first request waits for the Worker to
/// load.
const SIZE_KIB: f64 = 165.0;

/// The features that rustc and wasm-bindgen use, and workerd supports.
const WASM_FEATURES: [&str; 7] = [
    "bulk-memory",
    "exception-handling",
    "multivalue",
    "mutable-globals",
    "nontrapping-float-to-int",
    "reference-types",
    "sign-ext",
];

/// The arguments with which worker-build calls cargo, so that its call finds everything built.
const CARGO_ARGUMENTS: [&str; 4] =
    ["--lib", "--profile=wasm", "--target=wasm32-unknown-unknown", "--package=optimist-edge-cloudflare"];
const CARGO_ENVIRONMENT: [(&str, &str); 1] = [("WASM_BINDGEN_USE_JS_SYS", "1")];

/// Installs the tools to build and run the Worker.
pub fn provision(root: &Path) -> Result<()> {
    provision::rust_target("wasm32-unknown-unknown")?;
    provision::worker_tools(root)?;
    provision::node_packages(root)
}

/// Builds the Worker, unless the built one is newer than its sources; returns the folder of its modules.
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
    // Run here, since worker-build's own call keeps the function names: a fifth of the size.
    let small = built.join("small.wasm");
    let mut command = Command::new(binary("wasm-opt"));
    // Keep large functions separate even with one caller: a function is compiled when it is first called.
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

/// Writes a workerd configuration to `folder`, with the Worker's modules beside it; returns its path. Bindings are
/// text.
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
    // It contains secrets.
    crate::state::write_private(&file, &configuration)?;
    Ok(file)
}

/// Runs a wrangler dry run for every region, and fails if the Worker has grown too large.
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

/// Parses wrangler's line `Total Upload: 345.67 KiB / gzip: 123.45 KiB`.
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
