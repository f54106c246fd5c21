//! `cargo xtask dev`: the system in the foreground, with its data in `.dev/`. A server that dies is restarted after a
//! while, so that an outage can be watched: kill Redis, look at the edge's answers, see it come back.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::edges::Edge;
use crate::interrupt;
use crate::state::write_private;
use crate::system::{Part, Programs, System, chosen_edges};
use crate::terminal::{line, say, warn};
use crate::workspace;

/// How long a dead server stays away.
const OUTAGE: Duration = Duration::from_secs(10);

pub fn run(edges: &[Edge], fresh: bool) -> Result<()> {
    let edges = chosen_edges(edges)?;
    let root = workspace::root()?;
    let folder = root.join(".dev");
    fs::create_dir_all(&folder)?;
    // Outside the subfolder that `--fresh` removes. The kernel releases the lock when this process ends, however it
    // ends.
    let _lock = lock(&folder.join("lock"))?;
    let addresses = folder.join("env");
    remove(&addresses)?;
    if fresh {
        say("forgetting the data of earlier runs");
        System::forget(&folder.join("system"))?;
    }
    let programs = Programs::prepare(&root, &edges)?;
    interrupt::watch()?;
    let mut system = System::new(&root, &folder.join("system"), programs)?;
    let served = serve(&mut system, &addresses);
    remove(&addresses)?;
    line("");
    say("stopping");
    let stopped = system.stop_all();
    match served {
        // Ctrl-C is the normal end of this command.
        Err(error) if error.is::<interrupt::Interrupted>() => stopped,
        other => other.and(stopped),
    }
}

fn serve(system: &mut System, addresses: &Path) -> Result<()> {
    system.start_all()?;
    write_addresses(system, addresses)?;
    system.introduce()?;
    line(format_args!(
        "  These lines are in .dev/env for scripts. Ctrl-C ends everything; the data stays.\n"
    ));
    line("ready");
    let mut away: Vec<(Part, Instant)> = Vec::new();
    let mut mails = Mails { file: system.origin_output(), shown: 0 };
    loop {
        interrupt::pause(Duration::from_millis(200))?;
        mails.show();
        for (part, how) in system.ended()? {
            warn(format_args!(
                "{} has ended ({how}); it starts again in {} s",
                part.name(),
                OUTAGE.as_secs()
            ));
            away.push((part, Instant::now() + OUTAGE));
        }
        let due: Vec<(Part, Instant)> = away.extract_if(.., |(_, at)| *at <= Instant::now()).collect();
        for (part, _) in due {
            if system.is_taken(part) {
                warn(format_args!("something else listens in {}'s place; leaving it alone", part.name()));
                continue;
            }
            match system.start(part) {
                Ok(()) => {
                    say(format_args!("{} is back", part.name()));
                    write_addresses(system, addresses)?;
                }
                Err(error) if error.is::<interrupt::Interrupted>() => return Err(error),
                Err(error) => {
                    warn(format_args!("{error:#}"));
                    away.push((part, Instant::now() + OUTAGE));
                }
            }
        }
    }
}

/// The mails that the origin prints instead of sending them.
struct Mails {
    file: PathBuf,
    /// Bytes of the file.
    shown: usize,
}

impl Mails {
    fn show(&mut self) {
        let Ok(printed) = fs::read_to_string(&self.file) else { return };
        // A restarted origin begins anew.
        if printed.len() < self.shown {
            self.shown = 0;
        }
        let new = printed.get(self.shown..).unwrap_or_default();
        new.lines()
            .filter(|text| !text.starts_with("listening "))
            .for_each(|text| line(format_args!("  ✉ {text}")));
        self.shown = printed.len();
    }
}

/// Writes `.dev/env` atomically.
fn write_addresses(system: &System, file: &Path) -> Result<()> {
    let writing = file.with_extension("new");
    write_private(&writing, &system.addresses()?)?;
    fs::rename(&writing, file)?;
    Ok(())
}

/// Keeps a second `dev` off the same data.
fn lock(path: &Path) -> Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("`cargo xtask dev` is running in this checkout already"),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
