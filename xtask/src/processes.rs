//! Servers as children that cannot outlive this process. Each is started through `xtask __with-parent`, which asks the
//! kernel for a signal at its parent's death, drops root if asked to, and becomes the server (same process id). This
//! covers any death of the parent, SIGKILL included, without a supervisor that could itself be killed.
//!
//! The kernel ties the signal to the *thread* that spawned the child, so everything here runs on the main thread. No
//! restarts and no policy: `system` and `dev` have those.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{self, Gid, Pid, Uid, User};

use crate::interrupt;

/// The hidden subcommand that [`Launch::spawn`] goes through.
pub const WITH_PARENT: &str = "__with-parent";

/// How to start and end a server.
pub struct Launch {
    pub name: &'static str,
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub environment: Vec<(String, String)>,
    /// The account to switch to, if not the current one.
    pub account: Option<User>,
    /// Asks the server to end in good order.
    pub stop: Signal,
    /// Ends the server if this process dies without having stopped it. SIGKILL, unless the server has children of its
    /// own.
    pub at_our_death: Signal,
    /// Gets `<name>.out` (this run's standard output) and `<name>.log` (all runs' standard error).
    pub logs: PathBuf,
}

pub struct Process {
    pub name: &'static str,
    child: Child,
    stop: Signal,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Launch {
    pub fn new(name: &'static str, program: impl Into<PathBuf>, logs: &Path) -> Self {
        Launch {
            name,
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            account: None,
            stop: Signal::SIGTERM,
            at_our_death: Signal::SIGKILL,
            logs: logs.to_owned(),
        }
    }

    pub fn arguments<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    pub fn environment(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    pub fn spawn(self) -> Result<Process> {
        fs::create_dir_all(&self.logs)?;
        let stdout = self.logs.join(format!("{}.out", self.name));
        let stderr = self.logs.join(format!("{}.log", self.name));
        let mut command = with_parent(&self.program, self.at_our_death, self.account.as_ref());
        command
            .args(&self.arguments)
            .envs(self.environment)
            .stdin(Stdio::null())
            .stdout(File::create(&stdout)?)
            .stderr(File::options().create(true).append(true).open(&stderr)?)
            // Ctrl-C must reach only this process, which stops the servers in order.
            .process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {}", self.program.display()))?;
        Ok(Process { name: self.name, child, stop: self.stop, stdout, stderr })
    }
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for the first line of standard output that starts with `prefix`; returns the rest of that line.
    pub fn announcement(&mut self, prefix: &str, limit: Duration) -> Result<String> {
        let stdout = self.stdout.clone();
        self.until(&format!("did not print \"{prefix}…\""), limit, || {
            let text = fs::read_to_string(&stdout)?;
            // A line still being written has no end yet.
            let line =
                text.split_inclusive('\n').find(|line| line.starts_with(prefix) && line.ends_with('\n'));
            Ok(line.map(|line| line[prefix.len()..].trim().to_owned()))
        })
    }

    /// Polls `ready` until it returns a value. Fails with the end of the server's log if the server ends before that,
    /// or is not ready within `limit`.
    pub fn until<T>(
        &mut self,
        what_is_missing: &str,
        limit: Duration,
        mut ready: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let value = interrupt::poll(limit, || {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({}){}", self.name, describe(status), self.end_of_log());
            }
            ready()
        })?;
        value.with_context(|| {
            format!("{} {what_is_missing} in {} s{}", self.name, limit.as_secs(), self.end_of_log())
        })
    }

    /// Waits for a program that ends by itself; fails with the end of its log if the program fails or takes too long.
    pub fn finish(&mut self, limit: Duration) -> Result<()> {
        let status = interrupt::poll(limit, || Ok(self.child.try_wait()?))?;
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{} failed ({}){}", self.name, describe(status), self.end_of_log()),
            None => bail!("{} is not done after {} s{}", self.name, limit.as_secs(), self.end_of_log()),
        }
    }

    /// Asks the server to end; kills it after `grace`.
    pub fn stop(&mut self, grace: Duration) -> Result<()> {
        self.signal(self.stop)?;
        let end = Instant::now() + grace;
        while self.child.try_wait()?.is_none() {
            if Instant::now() >= end {
                return self.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.child.wait()?;
        Ok(())
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        // Not reaped yet, so the id cannot have become another process's.
        if self.child.try_wait()?.is_none() {
            kill(Pid::from_raw(self.child.id().cast_signed()), signal)?;
        }
        Ok(())
    }

    /// The last lines of the server's output, for an error message.
    fn end_of_log(&self) -> String {
        const LINES: usize = 12;
        let mut text = fs::read_to_string(&self.stderr).unwrap_or_default();
        if text.trim().is_empty() {
            text = fs::read_to_string(&self.stdout).unwrap_or_default();
        }
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LINES)..];
        if tail.is_empty() { String::new() } else { format!("; its log ends:\n  {}", tail.join("\n  ")) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // No caller is left to report to. The kernel's signal at this process's death is the second line of defence.
        let _ = self.stop(Duration::from_secs(5));
    }
}

/// A command that dies with this process by `signal`, run under `account` if one is given.
pub fn with_parent(program: &Path, signal: Signal, account: Option<&User>) -> Command {
    // Our own executable by this name, since a build during `dev` replaces the file that we were started from.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(WITH_PARENT)
        .arg(std::process::id().to_string())
        .arg(signal.as_str())
        .arg(account.map_or("-", |account| account.name.as_str()))
        .arg(program);
    command
}

pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => {
            Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |signal| signal.to_string())
        }
        (None, None) => status.to_string(),
    }
}

/// The body of [`WITH_PARENT`]: `<parent or -> <signal> <account or -> <program> <arguments…>`. Returns only if it
/// fails. Without a parent's id, a parent that died earlier goes unnoticed.
pub fn become_server(words: &[OsString]) -> Result<()> {
    let [parent, signal, account, program, arguments @ ..] = words else {
        bail!("{WITH_PARENT} is for xtask's own use");
    };
    let word = |word: &OsStr| word.to_str().map(str::to_owned).context("not UTF-8");
    let parent = word(parent)?;
    let signal: Signal = word(signal)?.parse()?;
    let account = word(account)?;
    if account != "-" {
        let account = User::from_name(&account)?.with_context(|| format!("there is no account {account}"))?;
        drop_root(account.uid, account.gid)?;
    }
    // After the change of account, which would clear it.
    prctl::set_pdeathsig(signal)?;
    if parent != "-" {
        ensure!(unistd::getppid().to_string() == parent, "the parent has died already");
    }
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", Path::new(program).display()))
}

fn drop_root(uid: Uid, gid: Gid) -> Result<()> {
    unistd::setgroups(&[gid])?;
    unistd::setgid(gid)?;
    unistd::setuid(uid)?;
    Ok(())
}
