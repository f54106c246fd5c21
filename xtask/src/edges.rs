//! The three ways to run the edge on this machine: the component in our own host, the Worker in workerd, the component
//! in Spin. Each knows what to provision, build and configure; none decides what is forwarded where.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::ValueEnum;
use nix::sys::signal::Signal;

use crate::cloudflare;
use crate::processes::Launch;
use crate::provision;
use crate::workspace::{self, Built};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Edge {
    /// The Spin component in the project's own native host
    Embedded,
    /// The Worker in workerd
    Cloudflare,
    /// The Spin component in the `spin` on the PATH
    Spin,
}

/// The edge's view of the system behind it.
pub struct Origin {
    pub url: String,
    pub redis_url: String,
    pub signing_keys: String,
    pub region: &'static str,
}

/// The built or found programs of an edge.
pub enum Program {
    Embedded { host: PathBuf, component: PathBuf },
    Cloudflare { workerd: PathBuf, built: PathBuf },
    Spin { spin: PathBuf },
}

impl Edge {
    pub fn name(self) -> &'static str {
        match self {
            Edge::Embedded => "edge-embedded",
            Edge::Cloudflare => "edge-cloudflare",
            Edge::Spin => "edge-spin",
        }
    }

    /// The value for `--edge`.
    pub fn argument(self) -> &'static str {
        match self {
            Edge::Embedded => "embedded",
            Edge::Cloudflare => "cloudflare",
            Edge::Spin => "spin",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Edge::Embedded => "the Spin component in the embedded host",
            Edge::Cloudflare => "the Worker in workerd",
            Edge::Spin => "the Spin component in spin",
        }
    }

    /// Installs what this edge needs besides the stores.
    pub fn provision(self, root: &Path) -> Result<()> {
        match self {
            Edge::Embedded => provision::rust_target("wasm32-wasip2"),
            Edge::Cloudflare => cloudflare::provision(root),
            Edge::Spin => {
                provision::spin()?;
                provision::rust_target("wasm32-wasip2")
            }
        }
    }

    /// The cargo flag for the package that this edge adds to the native build.
    pub fn native_package(&self) -> Option<&'static str> {
        (*self == Edge::Embedded).then_some("--package=optimist-edge-host")
    }

    pub fn build(self, root: &Path, native: &Built) -> Result<Program> {
        match self {
            Edge::Embedded => Ok(Program::Embedded {
                host: native.executable("optimist-edge-host")?,
                component: component(root)?,
            }),
            Edge::Cloudflare => {
                let built = cloudflare::build(root)?;
                Ok(Program::Cloudflare { workerd: cloudflare::workerd(root), built })
            }
            Edge::Spin => {
                component(root)?;
                Ok(Program::Spin { spin: provision::spin()? })
            }
        }
    }
}

/// Builds the Spin component as it is deployed.
pub fn component(root: &Path) -> Result<PathBuf> {
    workspace::build(root, &["--profile=wasm", "--target=wasm32-wasip2", "--package=optimist-edge-spin"])?
        .file("optimist-edge-spin", "wasm")
}

/// The same with mechanisms that tests can switch off, in its own folder so that the two cannot be confused.
pub fn component_with_hooks(root: &Path) -> Result<PathBuf> {
    let folder = format!("--target-dir={}", workspace::target_folder(root)?.join("hooks").display());
    let selection = ["--profile=wasm", "--target=wasm32-wasip2", "--package=optimist-edge-spin"];
    let arguments = [&selection[..], &["--features=test-hooks", &folder]].concat();
    workspace::build(root, &arguments)?.file("optimist-edge-spin", "wasm")
}

/// Fails if the component has grown too large.
pub fn check_component_size(component: &Path) -> Result<()> {
    /// In KiB: a host fetches and compiles the component before its first request.
    const SIZE_KIB: u64 = 590;
    let size = component.metadata()?.len().div_ceil(1024);
    ensure!(size <= SIZE_KIB, "the Spin component has {size} KiB: {SIZE_KIB} are enough");
    Ok(())
}

impl Program {
    /// How to run this edge on `port` of the loopback interface.
    pub fn launch(&self, root: &Path, logs: &Path, port: u16, origin: &Origin) -> Result<Launch> {
        let address = format!("127.0.0.1:{port}");
        let variables = [
            ("region", origin.region),
            ("origin_url", &origin.url),
            ("redis_url", &origin.redis_url),
            ("signing_keys", &origin.signing_keys),
        ];
        Ok(match self {
            Program::Embedded { host, component } => {
                let launch = Launch::new(Edge::Embedded.name(), host, logs)
                    .arguments(["--component".as_ref(), component.as_os_str()])
                    .arguments(["--compiled".as_ref(), component.with_file_name("compiled").as_os_str()])
                    .arguments(["--listen", &address]);
                variables.iter().fold(launch, |launch, (name, value)| {
                    launch.arguments(["--variable", &format!("{name}={value}")])
                })
            }
            Program::Cloudflare { workerd, built } => {
                // Only the platform would know a client's address.
                let bindings: Vec<(String, String)> = variables
                    .iter()
                    .map(|(name, value)| (format!("OPTIMIST_{}", name.to_uppercase()), (*value).to_owned()))
                    .chain([("OPTIMIST_CLIENT_ADDRESS".to_owned(), "127.0.0.1".to_owned())])
                    .collect();
                let folder = logs.with_file_name("workerd");
                let file = cloudflare::configure(root, built, &folder, port, &bindings)?;
                Launch::new(Edge::Cloudflare.name(), workerd, logs)
                    .arguments(["serve".as_ref(), file.as_os_str()])
            }
            Program::Spin { spin } => {
                let mut launch = Launch::new(Edge::Spin.name(), spin, logs)
                    .arguments(["up".as_ref(), "--from".as_ref(), root.join("spin.toml").as_os_str()])
                    .arguments(["--listen", &address]);
                // `spin` is a parent itself, and passes this signal on.
                launch.at_our_death = Signal::SIGTERM;
                let redis_host = origin.redis_url.trim_start_matches("redis://");
                launch = launch.environment("SPIN_VARIABLE_REDIS_HOST", redis_host);
                variables.iter().fold(launch, |launch, (name, value)| {
                    launch.environment(&format!("SPIN_VARIABLE_{}", name.to_uppercase()), *value)
                })
            }
        })
    }
}
