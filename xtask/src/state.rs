//! What a running system keeps besides its stores' data: ports, passwords and keys. They stay the same from one run of
//! `dev` to the next, so that clients, tokens and connection strings do too. Nothing here is meant for production.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::interrupt;

/// How long an earlier run's port may still be in use before a new one is chosen.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    pub ports: Ports,
    pub passwords: Passwords,
    /// `id:base64`, what the edge signs forwarded requests with.
    pub signing_key: String,
    /// `id:base64`, what the origin derives refresh tokens with.
    pub token_key: String,
    /// `id:base64`, what the origin wraps journals' keys with. Made anew for a state of before there were any.
    #[serde(default = "key")]
    pub journal_key: String,
}

/// Keeps nothing secret but a developer's own diary: an empty one is refused by the origin.
fn key() -> String {
    random::<32>().map(|key| format!("local-1:{}", STANDARD.encode(key))).unwrap_or_default()
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ports {
    pub postgres: u16,
    pub redis: u16,
    pub origin: u16,
    pub origin_internal: u16,
    pub edge_embedded: u16,
    pub edge_cloudflare: u16,
    pub edge_spin: u16,
}

/// One for each Postgres role.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Passwords {
    pub superuser: String,
    pub migrate: String,
    pub serve: String,
}

impl State {
    /// What `file` says, with new ports for those taken by now; all new if there is no such file. The result is
    /// written back, for its owner's eyes only.
    pub fn load(file: &Path) -> Result<State> {
        let mut state = match fs::read(file) {
            Ok(text) => serde_json::from_slice(&text)
                .with_context(|| format!("cannot read {}; `--fresh` makes a new one", file.display()))?,
            Err(_) => State::generate()?,
        };
        for port in state.ports.all() {
            // The servers of a `dev` that was killed take a moment to end.
            let freed =
                *port != 0 && interrupt::poll(PATIENCE, || Ok(is_free(*port).then_some(())))?.is_some();
            if !freed {
                *port = free_port()?;
            }
        }
        write_private(file, &serde_json::to_string_pretty(&state)?)?;
        Ok(state)
    }

    fn generate() -> Result<State> {
        Ok(State {
            ports: Ports {
                postgres: 0,
                redis: 0,
                origin: 0,
                origin_internal: 0,
                edge_embedded: 0,
                edge_cloudflare: 0,
                edge_spin: 0,
            },
            passwords: Passwords { superuser: password()?, migrate: password()?, serve: password()? },
            signing_key: format!("local-1:{}", STANDARD.encode(random::<32>()?)),
            token_key: format!("local-1:{}", STANDARD.encode(random::<32>()?)),
            journal_key: format!("local-1:{}", STANDARD.encode(random::<32>()?)),
        })
    }
}

impl Ports {
    fn all(&mut self) -> [&mut u16; 7] {
        [
            &mut self.postgres,
            &mut self.redis,
            &mut self.origin,
            &mut self.origin_internal,
            &mut self.edge_embedded,
            &mut self.edge_cloudflare,
            &mut self.edge_spin,
        ]
    }
}

/// Writes a file that holds passwords: for its owner's eyes only.
pub fn write_private(file: &Path, text: &str) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut opened = options.open(file).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(opened.write_all(text.as_bytes())?)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A loopback port that is free now. It lies below the range that the kernel gives to outgoing connections (32768 and
/// up on Linux): one of those could take the port of a server that is down for a moment, or even connect to itself.
fn free_port() -> Result<u16> {
    const LOWEST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    for _ in 0..1000 {
        let port = LOWEST + u16::from_le_bytes(random()?) % COUNT;
        if is_free(port) {
            return Ok(port);
        }
    }
    anyhow::bail!("no loopback port between {LOWEST} and {} is free", LOWEST + COUNT)
}

/// 192 bits in hexadecimal, which needs no escaping in a URL or in SQL.
fn password() -> Result<String> {
    Ok(random::<24>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Bytes from the kernel's generator.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
