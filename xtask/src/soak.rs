//! `cargo xtask soak`: builds and starts the program that plays seeded faults, with the programs that the tests run.
//! `tests/soak` defines the faults and the judgement.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Result, ensure};
use clap::Args;
use nix::sys::signal::Signal;
use nix::unistd::Uid;

use crate::edges::Edge;
use crate::processes::with_parent;
use crate::suite::Suite;

/// Plays one seed, unless a number of seeds or minutes is given: `--seed` repeats a failed one.
#[derive(Args)]
pub struct Soak {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other
    #[arg(long)]
    seeds: Option<u64>,
    /// Start no further seed after this many minutes
    #[arg(long)]
    minutes: Option<u64>,
    /// How many at once
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Switch off a mechanism of the origins, by its name in the test hooks: its absence must be noticed
    #[arg(long)]
    without: Vec<String>,
    /// Print the schedules, and play none
    #[arg(long)]
    list: bool,
}

/// The seeds of `cargo xtask test`: few, but of every theme.
pub const SHORT: Soak =
    Soak { seed: 1, seeds: Some(4), minutes: None, jobs: 2, without: Vec::new(), list: false };

impl Soak {
    fn arguments(&self) -> Vec<String> {
        let mut words = vec![format!("--seed={}", self.seed), format!("--jobs={}", self.jobs)];
        words.extend(self.seeds.map(|seeds| format!("--seeds={seeds}")));
        words.extend(self.minutes.map(|minutes| format!("--minutes={minutes}")));
        words.extend(self.without.iter().map(|mechanism| format!("--without={mechanism}")));
        words.extend(self.list.then(|| "--list".to_owned()));
        words
    }
}

pub fn run(soak: &Soak) -> Result<()> {
    play(&mut Suite::new(false)?, soak)
}

/// Plays until the end; fails if the soak found a violation.
pub fn play(suite: &mut Suite, soak: &Soak) -> Result<()> {
    let program = suite.native()?.executable("optimist-soak")?;
    // In a private mount namespace, mounted disks disappear with the program, however it ends.
    let mut command = if Uid::effective().is_root() {
        let mut command = with_parent(Path::new("unshare"), Signal::SIGKILL, None);
        command.arg("--mount").arg(program);
        command
    } else {
        with_parent(&program, Signal::SIGKILL, None)
    };
    command.args(soak.arguments()).current_dir(&suite.root).stdin(Stdio::null());
    suite.tell(&mut command, Edge::Embedded)?;
    ensure!(command.status()?.success(), "the soak found something");
    Ok(())
}
