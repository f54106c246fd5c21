//! Finds the tools that the project needs, and installs missing ones from apt, npm, PyPI, rustup or crates.io, always
//! saying so. If a tool cannot be installed, the error says in one sentence what to install by hand.
//!
//! It installs only what the current command needs, and never upgrades anything.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::Uid;

use crate::terminal::say;
use crate::workspace;

/// Names a folder with `initdb`, `postgres` and `psql`, for servers in unusual places.
const POSTGRES_FOLDER: &str = "OPTIMIST_POSTGRES_BIN_DIR";
/// Names a `redis-server`.
const REDIS_SERVER: &str = "OPTIMIST_REDIS_SERVER";
const OLDEST_POSTGRES: u32 = 14;
/// Scripts use `PEXPIRETIME` and `PEXPIRE … NX`, which 6.x lacks.
const OLDEST_REDIS: u32 = 7;

/// Required by the packages that test the API's description.
const OLDEST_PYTHON: (u32, u32) = (3, 11);

/// The folder with Postgres's `initdb`, `postgres`, `psql` and `pg_isready`.
pub fn postgres() -> Result<PathBuf> {
    if let Some(folder) = find_postgres() {
        return Ok(folder);
    }
    apt_install("Postgres", &["postgresql"])?;
    find_postgres().with_context(|| format!("Please install Postgres {OLDEST_POSTGRES} or newer."))
}

/// The programs of a Postgres that has Citus, if there is one: those that a setting names, or the Postgres that is used anyway. No
/// registry has Citus, so none is installed.
pub fn citus() -> Result<Option<PathBuf>> {
    let named = std::env::var_os("OPTIMIST_CITUS_BIN_DIR").map(PathBuf::from);
    let is_named = named.is_some();
    let folder = named.or_else(find_postgres);
    let has_citus = |folder: &PathBuf| {
        let libraries = Command::new(folder.join("pg_config")).arg("--pkglibdir").output();
        libraries.is_ok_and(|output| {
            Path::new(String::from_utf8_lossy(&output.stdout).trim()).join("citus.so").exists()
        })
    };
    let found = folder.filter(has_citus);
    ensure!(found.is_some() || !is_named, "OPTIMIST_CITUS_BIN_DIR names no Postgres that has Citus");
    Ok(found)
}

fn find_postgres() -> Option<PathBuf> {
    if let Some(folder) = env::var_os(POSTGRES_FOLDER) {
        return Some(folder.into());
    }
    let complete = |folder: &PathBuf| {
        ["initdb", "postgres", "psql", "pg_isready"].iter().all(|name| is_executable(&folder.join(name)))
    };
    // Debian keeps the server off the PATH, in one folder per version; so do the packages for Fedora and Homebrew.
    let mut versioned = Vec::new();
    for (parent, prefix) in
        [("/usr/lib/postgresql", ""), ("/usr", "pgsql-"), ("/opt/homebrew/opt", "postgresql@")]
    {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let version =
                name.to_str().and_then(|name| name.strip_prefix(prefix)).and_then(|text| text.parse().ok());
            if let Some(version) = version.filter(|version: &u32| *version >= OLDEST_POSTGRES) {
                versioned.push((version, entry.path().join("bin")));
            }
        }
    }
    versioned.sort();
    let newest_first = versioned.into_iter().rev().map(|(_, folder)| folder);
    path_folders().into_iter().chain(newest_first).chain(["/usr/local/pgsql/bin".into()]).find(complete)
}

/// A `redis-server` that is new enough.
pub fn redis() -> Result<PathBuf> {
    let find = || env::var_os(REDIS_SERVER).map(PathBuf::from).or_else(|| find_program("redis-server"));
    let server = match find() {
        Some(server) => server,
        None => {
            apt_install("Redis", &["redis-server"])?;
            find().with_context(|| format!("Please install Redis {OLDEST_REDIS}.0 or newer."))?
        }
    };
    let version = output_of(Command::new(&server).arg("--version"))?;
    let major =
        version.split("v=").nth(1).and_then(|text| text.split('.').next()).and_then(|text| text.parse().ok());
    ensure!(
        major.is_some_and(|major: u32| major >= OLDEST_REDIS),
        "{} is too old ({}): please install Redis {OLDEST_REDIS}.0 or newer.",
        server.display(),
        version.trim()
    );
    Ok(server)
}

/// A `spin` from the PATH. It is the only runtime that is never installed, since no registry has it.
pub fn spin() -> Result<PathBuf> {
    find_program("spin")
        .context("Please install Spin 4.1 or newer (https://spinframework.dev) and put `spin` on the PATH.")
}

/// `wrk`, which makes the load of measurements, and `openssl`, which makes their certificates.
pub fn load_tools() -> Result<()> {
    for (program, what) in [("wrk", "wrk"), ("openssl", "OpenSSL")] {
        if find_program(program).is_none() {
            apt_install(what, &[program])?;
        }
    }
    Ok(())
}

/// A Chromium, for what only a browser can show.
pub fn chromium() -> Result<PathBuf> {
    let find = || ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(find_program);
    if let Some(browser) = find() {
        return Ok(browser);
    }
    apt_install("Chromium", &["chromium"])?;
    find().context("Please install Chromium.")
}

/// Makes sure that this toolchain compiles for `target`.
pub fn rust_target(target: &str) -> Result<()> {
    let sysroot = output_of(Command::new("rustc").args(["--print", "sysroot"]))?;
    if Path::new(sysroot.trim()).join("lib/rustlib").join(target).join("lib").is_dir() {
        return Ok(());
    }
    ensure!(
        find_program("rustup").is_some(),
        "Please install rustup, or Rust's standard library for {target}."
    );
    say(format_args!("adding the Rust target {target}"));
    run(Command::new("rustup").args(["target", "add", target]))
}

/// Installs the packages that the folder's `package-lock.json` pins, unless they are there already.
pub fn node_packages(folder: &Path) -> Result<()> {
    let modified = |path: &str| fs::metadata(folder.join(path)).and_then(|data| data.modified()).ok();
    // npm writes the first of these at the end of each installation.
    if modified("node_modules/.package-lock.json") >= modified("package-lock.json") {
        return Ok(());
    }
    if find_program("npm").is_none() {
        apt_install("Node.js", &["nodejs", "npm"])?;
    }
    ensure!(find_program("npm").is_some(), "Please install Node.js with npm.");
    say("installing the pinned node packages (npm ci)");
    run(Command::new("npm").current_dir(folder).args(["ci", "--no-audit", "--no-fund"]))
}

/// A folder under the target folder with the Python packages that the tests' requirements pin; created if missing.
pub fn python_packages(root: &Path) -> Result<PathBuf> {
    let requirements = "tests/requirements.txt";
    let folder = workspace::target_folder(root)?.join("python");
    let wanted = fs::read(root.join(requirements)).with_context(|| format!("cannot read {requirements}"))?;
    let installed = folder.join("installed.txt");
    if fs::read(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(folder);
    }
    let find = || find_program("python3").filter(|python| has_venv(python));
    let python = match find() {
        Some(python) => python,
        None => {
            apt_install("Python", &["python3-venv"])?;
            let (major, minor) = OLDEST_PYTHON;
            find().with_context(|| {
                format!("Please install Python {major}.{minor} or newer with venv and pip.")
            })?
        }
    };
    say(format_args!("installing the pinned Python packages into {}", folder.display()));
    run(Command::new(python).args(["-m", "venv", "--clear"]).arg(&folder))?;
    run(Command::new(folder.join("bin/python"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"])
        .arg(root.join(requirements)))?;
    // Written last, so that an interrupted installation is repeated.
    fs::write(&installed, wanted)?;
    Ok(folder)
}

/// Whether a Python is new enough and can create environments with pip.
fn has_venv(python: &Path) -> bool {
    let (major, minor) = OLDEST_PYTHON;
    let question = format!("import sys, venv, ensurepip; sys.exit(sys.version_info < ({major}, {minor}))");
    output_of(Command::new(python).args(["-c", &question])).is_ok()
}

/// The tools that build the Worker, at the versions that Cargo.lock requires.
pub struct WorkerTools {
    pub worker_build: PathBuf,
    pub wasm_bindgen: PathBuf,
}

pub fn worker_tools(root: &Path) -> Result<WorkerTools> {
    // It is released together with the crate whose Workers it builds.
    let worker = workspace::locked_version(root, "worker")?;
    // Its version must equal the one that the crate was compiled with.
    let wasm_bindgen = workspace::locked_version(root, "wasm-bindgen")?;
    Ok(WorkerTools {
        worker_build: cargo_tool("worker-build", "worker-build", &worker)?,
        wasm_bindgen: cargo_tool("wasm-bindgen-cli", "wasm-bindgen", &wasm_bindgen)?,
    })
}

/// `binary` of the crate `package` at exactly `version`: from the PATH, from the cache, or built into the cache, which
/// all checkouts of this user share.
fn cargo_tool(package: &str, binary: &str, version: &str) -> Result<PathBuf> {
    let is_right = |path: &Path| {
        output_of(Command::new(path).arg("--version"))
            .is_ok_and(|text| text.split_whitespace().any(|word| word == version))
    };
    if let Some(path) = find_program(binary).filter(|path| is_right(path)) {
        return Ok(path);
    }
    let folder = tool_cache()?.join(format!("{package}-{version}"));
    let installed = folder.join("bin").join(binary);
    if is_executable(&installed) {
        return Ok(installed);
    }
    say(format_args!("building {package} {version} into {}; this happens once", folder.display()));
    let install = |locked: &[&str]| {
        let mut command = workspace::cargo();
        // Optimised, they compile more than twice as long, and save half a second whenever they run.
        command
            .args(["install", "--debug", "--version", version, "--root"])
            .arg(&folder)
            .args(locked)
            .arg(package);
        command.env("CARGO_PROFILE_DEV_DEBUG", "0");
        // Outside the workspace, whose configuration and target folder must not affect the tool.
        run(command.env("CARGO_TARGET_DIR", tool_cache()?.join("target")).current_dir(env::temp_dir()))
    };
    if install(&["--locked"]).is_err() {
        // A registry's mirror may lack a version in the tool's lock file.
        say(format_args!("building {package} {version} again, with the dependencies that this registry has"));
        install(&[])?;
    }
    // Later runs need only the binary.
    fs::remove_dir_all(tool_cache()?.join("target")).context("cannot remove the tool's build folder")?;
    Ok(installed)
}

fn tool_cache() -> Result<PathBuf> {
    let cache = match env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
            .join(".cache"),
    };
    let folder = cache.join("optimist").join("tools");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

fn apt_install(what: &str, packages: &[&str]) -> Result<()> {
    let by_hand =
        || format!("Please install {what} (for Debian and Ubuntu: apt-get install {}).", packages.join(" "));
    if find_program("apt-get").is_none() {
        bail!(by_hand());
    }
    let apt = |arguments: &[&str]| {
        let mut command = if Uid::effective().is_root() {
            Command::new("apt-get")
        } else {
            let mut command = Command::new("sudo");
            command.args(["-n", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
            command
        };
        command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
        command
    };
    let sudo_asks_for_nothing =
        || find_program("sudo").is_some() && output_of(Command::new("sudo").args(["-n", "true"])).is_ok();
    if !Uid::effective().is_root() && !sudo_asks_for_nothing() {
        bail!(by_hand());
    }
    say(format_args!("installing {what} (apt-get install {})", packages.join(" ")));
    // Outdated package lists may still suffice for the installation.
    let _ = run(&mut apt(&["update", "-qq"]));
    run(apt(&["install", "-y", "-qq", "--no-install-recommends"]).args(packages)).with_context(by_hand)
}

/// A program of this name on the PATH, as an absolute path.
pub fn find_program(name: &str) -> Option<PathBuf> {
    path_folders().into_iter().map(|folder| folder.join(name)).find(|path| is_executable(path))
}

fn path_folders() -> Vec<PathBuf> {
    // Servers and administration tools are here, and not on every user's PATH.
    let usual = ["/usr/local/bin", "/usr/bin", "/usr/local/sbin", "/usr/sbin"].map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).filter(|folder| folder.is_absolute()).chain(usual).collect()
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

fn output_of(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed");
    Ok(())
}
