//! A running system's state besides its stores' data: ports, passwords and keys. It stays the same from one run of
//! `dev` to the next, so that clients, tokens and connection strings stay valid. Not meant for production.

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

/// How long to wait for an earlier run's port before choosing a new one.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    pub ports: Ports,
    pub passwords: Passwords,
    /// `id:base64`; the edge signs forwarded requests with it.
    pub signing_key: String,
    /// `id:base64`; the origin derives refresh tokens with it.
    pub token_key: String,
    /// `id:base64`; the origin wraps journal keys with it. Generated if the state is older than this field.
    #[serde(default = "key")]
    pub journal_key: String,
}

/// Protects only a developer's own journal. If it is empty, the origin refuses to start.
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
    /// Loads `file`, replacing ports that are taken now; generates a new state if there is no such file. Writes the
    /// result back, readable only by its owner.
    pub fn load(file: &Path) -> Result<State> {
        let mut state = match fs::read(file) {
            Ok(text) => serde_json::from_slice(&text)
                .with_context(|| format!("cannot read {}; `--fresh` makes a new one", file.display()))?,
            Err(_) => State::generate()?,
        };
        for port in state.ports.all() {
            // The servers of a killed `dev` take a moment to end.
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

/// Writes a file with secrets, readable only by its owner.
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
