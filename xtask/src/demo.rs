//! `cargo xtask demo`: plays the main job on real stores and a real Wasm runtime for a person to watch. Every step
//! checks its claims; the command succeeds only if all of them hold.
//!
//! With `--keep` a second process plays the story and then stays, since servers end with the process that started them.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd;

use crate::edges::Edge;
use crate::interrupt;
use crate::processes::with_parent;
use crate::story;
use crate::system::{Programs, System};
use crate::terminal::{self, Colour, heading, line, paint, say, warn};
use crate::workspace;

/// The hidden flag of the process that plays the story and stays.
pub const STAY: &str = "--stay";

pub fn run(edge: Edge, keep: bool, stay: bool) -> Result<()> {
    if keep && !stay {
        return watch_the_one_that_stays(edge);
    }
    let root = workspace::root()?;
    heading("Preparing");
    let programs = Programs::prepare(&root, &[edge])?;
    interrupt::watch()?;
    let folder = std::env::temp_dir().join(format!("optimist-demo-{}", std::process::id()));
    let played = play(&root, &folder, programs, stay);
    match &played {
        Err(error) if !error.is::<interrupt::Interrupted>() => {
            warn(format_args!("the servers' logs are in {}", folder.join("logs").display()));
        }
        _ => System::forget(&folder)?,
    }
    played
}

fn play(root: &Path, folder: &Path, programs: Programs, stay: bool) -> Result<()> {
    let mut system = System::new(root, folder, programs)?;
    system.start_all()?;
    story::play(&mut system)?;
    if stay {
        leave_running(&system)?;
        // Until SIGTERM, which unwinds from here.
        loop {
            interrupt::pause(std::time::Duration::from_secs(3600))?;
        }
    }
    line("");
    say("stopping everything (--keep leaves it running)");
    system.stop_all()
}

/// Prints where everything is, and detaches from the parent process and the terminal.
fn leave_running(system: &System) -> Result<()> {
    system.introduce()?;
    line(format_args!(
        "  Everything keeps running. To end it and remove its data:  kill {}",
        std::process::id()
    ));
    std::io::stdout().flush()?;
    prctl::set_pdeathsig(None)?;
    let nowhere = std::fs::File::options().write(true).open("/dev/null")?;
    unistd::dup2_stdout(&nowhere)?;
    unistd::dup2_stderr(&nowhere)?;
    Ok(())
}

/// Passes on the output of the staying process until it detaches or ends. A signal ends this process at once, and its
/// death tells the other to end in good order.
fn watch_the_one_that_stays(edge: Edge) -> Result<()> {
    let mut command = with_parent(Path::new("/proc/self/exe"), Signal::SIGTERM, None);
    command.args(["demo", "--keep", STAY, "--edge"]).arg(edge.argument());
    if terminal::coloured() {
        command.env(terminal::FORCE_COLOUR, "1");
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    for text in BufReader::new(child.stdout.take().context("its output is not piped")?).lines() {
        line(text?);
    }
    // A process that is ending closes its end of the pipe a moment before it is gone.
    match interrupt::poll(std::time::Duration::from_millis(300), || Ok(child.try_wait()?))? {
        None => Ok(()),
        Some(status) if status.code() == Some(130) => Err(interrupt::Interrupted.into()),
        Some(_) => bail!("{}", paint(Colour::Red, "the demo failed")),
    }
}
