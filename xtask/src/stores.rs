//! A private Postgres and a private Redis in a folder of ours: they listen on loopback only and end with this process.
//! They are set up as a deployment's stores should be: separate roles for migrating and serving, passwords checked,
//! Redis persisting and never evicting. No replicas and no TLS.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use nix::unistd::{Uid, User};

use crate::interrupt;
use crate::processes::{Launch, Process, with_parent};
use crate::state::Passwords;
use crate::terminal::say;

/// Long enough for a recovery from the write-ahead log on a busy machine.
const START: Duration = Duration::from_secs(60);

/// The place for clusters that the server's account could not reach in the checkout.
const ELSEWHERE: &str = "/var/lib/optimist";

pub struct Postgres {
    programs: PathBuf,
    data: PathBuf,
    logs: PathBuf,
    port: u16,
    passwords: Passwords,
    /// The account that the server runs as, since it refuses to be root.
    account: Option<User>,
}

impl Postgres {
    /// A cluster under `folder`, created on its first use.
    pub fn new(
        programs: PathBuf,
        folder: &Path,
        logs: &Path,
        port: u16,
        passwords: Passwords,
    ) -> Result<Self> {
        let account = account()?;
        let data = match &account {
            Some(account) => reachable_folder(folder, account)?,
            None => folder.to_owned(),
        };
        let postgres = Postgres { programs, data, logs: logs.to_owned(), port, passwords, account };
        if !postgres.data.join("PG_VERSION").exists() {
            postgres.create().context("cannot create the Postgres cluster")?;
        }
        Ok(postgres)
    }

    /// For the origin, which reads and writes rows.
    pub fn serve_url(&self) -> String {
        self.url("optimist_serve", &self.passwords.serve)
    }

    /// For migrations: the role that owns the schema.
    pub fn migrate_url(&self) -> String {
        self.url("optimist_migrate", &self.passwords.migrate)
    }

    fn url(&self, role: &str, password: &str) -> String {
        format!("postgres://{role}:{password}@127.0.0.1:{}/optimist", self.port)
    }

    pub fn start(&self) -> Result<Process> {
        // A killed server leaves this file, and its last children may take a moment to notice its death.
        let end = Instant::now() + Duration::from_secs(20);
        let left_over = self.data.join("postmaster.pid").exists();
        loop {
            let started = self.start_once();
            if started.is_ok() || !left_over || Instant::now() >= end {
                return started;
            }
            interrupt::pause(Duration::from_millis(200))?;
        }
    }

    fn start_once(&self) -> Result<Process> {
        let mut launch = Launch::new("postgres", self.programs.join("postgres"), &self.logs)
            .arguments(["-D".as_ref(), self.data.as_os_str()])
            .arguments(["-p", &self.port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            // Socket paths must be short, and a checkout's may be long.
            "unix_socket_directories=",
            "max_connections=200",
            "timezone=UTC",
        ] {
            launch = launch.arguments(["-c", setting]);
        }
        launch.account = self.account.clone();
        // "Fast": ends sessions, then writes a checkpoint.
        launch.stop = Signal::SIGINT;
        // "Immediate": ends its children too, and recovers from the log at its next start.
        launch.at_our_death = Signal::SIGQUIT;
        let mut process = launch.spawn()?;
        process.until("does not accept connections", START, || {
            let answer = Command::new(self.programs.join("pg_isready"))
                .args(["--quiet", "--host=127.0.0.1", "--port", &self.port.to_string()])
                .status()?;
            Ok(answer.success().then_some(()))
        })?;
        Ok(process)
    }

    /// Builds the cluster in a temporary place and moves it when it is complete.
    fn create(&self) -> Result<()> {
        let building = self.data.with_extension("new");
        let password_file = self.data.with_extension("password");
        if building.exists() {
            fs::remove_dir_all(&building)?;
        }
        fs::DirBuilder::new().mode(0o700).create(&building)?;
        fs::write(&password_file, &self.passwords.superuser)?;
        fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600))?;
        for path in [&building, &password_file] {
            self.give_away(path)?;
        }
        let mut initdb = self.command("initdb");
        initdb.arg("-D").arg(&building).arg("--pwfile").arg(&password_file).args([
            "--username=postgres",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
        ]);
        let made = finish(initdb, "");
        fs::remove_file(&password_file)?;
        made?;
        // Single-user mode needs no port and no password; it takes one statement per line.
        let mut single = self.command("postgres");
        single.args(["--single", "-D"]).arg(&building).arg("postgres");
        let Passwords { migrate, serve, .. } = &self.passwords;
        finish(
            single,
            &format!(
                "create role optimist_migrate login password '{migrate}'\n\
                 create role optimist_serve login password '{serve}'\n\
                 create database optimist owner optimist_migrate\n"
            ),
        )?;
        fs::rename(&building, &self.data)?;
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = with_parent(&self.programs.join(program), Signal::SIGQUIT, self.account.as_ref());
        // Not the current folder, which the account may not be allowed to enter.
        command.current_dir("/");
        command
    }

    fn give_away(&self, path: &Path) -> Result<()> {
        if let Some(account) = &self.account {
            chown(path, Some(account.uid.as_raw()), Some(account.gid.as_raw()))?;
        }
        Ok(())
    }
}

/// The account to run Postgres as: `None` for the current one, unless that is root.
fn account() -> Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(account) = User::from_name(name)? {
            return Ok(Some(account));
        }
    }
    anyhow::bail!("Postgres refuses to run as root: please create an account named postgres.")
}

/// `folder`, if the account can reach it. Otherwise a folder under /var/lib that replaces it, with a link to it in
/// `folder`'s place. This is usual for a checkout in root's home.
fn reachable_folder(folder: &Path, account: &User) -> Result<PathBuf> {
    let may_enter = |ancestor: &Path| {
        fs::metadata(ancestor)
            .is_ok_and(|data| data.mode() & 0o001 != 0 || data.uid() == account.uid.as_raw())
    };
    if folder.ancestors().skip(1).all(may_enter) {
        return Ok(folder.to_owned());
    }
    let mut hasher = DefaultHasher::new();
    folder.hash(&mut hasher);
    let elsewhere = Path::new(ELSEWHERE).join(format!("{:016x}", hasher.finish()));
    fs::DirBuilder::new().recursive(true).mode(0o711).create(&elsewhere)?;
    let data = elsewhere.join("postgres");
    match fs::read_link(folder) {
        Ok(target) if target == data => {}
        _ => {
            say(format_args!(
                "{} cannot enter this checkout; Postgres's data go to {}",
                account.name,
                data.display()
            ));
            // The data of a folder that has been deleted since.
            if data.exists() {
                fs::remove_dir_all(&data)?;
            }
            std::os::unix::fs::symlink(&data, folder)
                .with_context(|| format!("cannot link {} to {}", folder.display(), data.display()))?;
        }
    }
    Ok(data)
}

/// Removes a cluster's folder, wherever [`Postgres::new`] put it.
pub fn remove_cluster(folder: &Path) -> Result<()> {
    if let Ok(target) = fs::read_link(folder) {
        fs::remove_file(folder)?;
        // Never follow a link that somebody else made.
        if let Some(elsewhere) =
            target.parent().filter(|parent| parent.parent() == Some(Path::new(ELSEWHERE)))
        {
            fs::remove_dir_all(elsewhere).or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
        }
    } else if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}

/// Runs a command with this text on its standard input; shows its output only if it fails.
fn finish(mut command: Command, input: &str) -> Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    // Single-user mode reports a failed statement, and exits successfully all the same.
    ensure!(output.status.success() && !errors.contains("ERROR:"), "{}", errors.trim());
    Ok(())
}

pub struct Redis {
    program: PathBuf,
    data: PathBuf,
    logs: PathBuf,
    port: u16,
}

impl Redis {
    pub fn new(program: PathBuf, folder: &Path, logs: &Path, port: u16) -> Result<Self> {
        // It holds sessions, and Redis's default permissions would let everybody read them.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Redis { program, data: folder.to_owned(), logs: logs.to_owned(), port })
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn start(&self) -> Result<Process> {
        let mut process = Launch::new("redis", &self.program, &self.logs)
            .arguments(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .arguments(["--dir".as_ref(), self.data.as_os_str()])
            // Sessions, limits and fences must be neither evicted nor lost by a restart.
            .arguments(["--maxmemory-policy", "noeviction"])
            .arguments(["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""])
            .spawn()?;
        process.until("does not answer", START, || Ok(self.answers().then_some(())))?;
        Ok(process)
    }

    /// True once it has loaded its data: until then it answers `-LOADING`.
    fn answers(&self) -> bool {
        let Ok(mut connection) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) else { return false };
        let mut answer = [0; 5];
        connection.set_read_timeout(Some(Duration::from_secs(1))).is_ok()
            && connection.write_all(b"PING\r\n").is_ok()
            && connection.read_exact(&mut answer).is_ok()
            && &answer == b"+PONG"
    }
}
