//! `cargo xtask soak`: the program that plays seeded faults, built and started with the programs that the tests run. What it
//! plays and how it judges is in `tests/soak`.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Result, ensure};
use clap::Args;
use nix::sys::signal::Signal;
use nix::unistd::Uid;

use crate::edges::Edge;
use crate::processes::with_parent;
use crate::suite::Suite;

/// Without a number of seeds or minutes one seed is played: again, if it failed before.
#[derive(Args)]
pub struct Soak {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other
    #[arg(long)]
    seeds: Option<u64>,
    /// Go on until so many minutes are over
    #[arg(long)]
    minutes: Option<u64>,
    /// How many at once
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Switch a mechanism of the origins off, as the hooks for tests name it: it is to be noticed
    #[arg(long)]
    without: Vec<String>,
    /// Print the schedules, and play none
    #[arg(long)]
    list: bool,
}

/// What `cargo xtask test` plays: few, and of every theme.
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

/// Plays it until it ends; fails if it found something.
pub fn play(suite: &mut Suite, soak: &Soak) -> Result<()> {
    let program = suite.native()?.executable("optimist-soak")?;
    // Disks that it mounts are gone with it, however it ends, if nobody else sees them.
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
