//! Plays schedules of faults, one per seed, against fresh systems under a mixed load, and judges what the clients saw.
//!
//! A seed decides the faults and their times, and the sequence of each client's actions. It does not decide how the
//! servers' threads and the clients' requests interleave: replaying a failing seed gives the same schedule, but may
//! need several tries to fail again. `cargo xtask soak` builds and starts this.

#![allow(clippy::unwrap_used)] // A test that cannot go on panics.

mod schedule;

mod faults;
mod play;

mod adversary;
mod attic;
mod clients;
mod subscribers;
mod world;

mod checks;
mod finals;
mod history;

mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;

use crate::report::Total;
use crate::schedule::Schedule;

/// Plays one seed, unless a number of seeds or minutes is given.
#[derive(Parser)]
struct Arguments {
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
    /// A mechanism of the origins to switch off, or `object`, whose absence must be noticed
    #[arg(long)]
    without: Vec<String>,
    /// Where histories and logs of failed schedules go
    #[arg(long, default_value = "target/soak")]
    keep: PathBuf,
    /// Print the schedules, and play none
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let last = match (arguments.seeds, arguments.minutes) {
        (Some(seeds), _) => arguments.seed.saturating_add(seeds),
        (None, Some(_)) => u64::MAX,
        (None, None) => arguments.seed.saturating_add(1),
    };
    if arguments.list {
        for schedule in (arguments.seed..last.min(arguments.seed + 1_000)).map(Schedule::of) {
            println!("seed {} {schedule}", schedule.seed);
        }
        return ExitCode::SUCCESS;
    }
    let began = Instant::now();
    let is_late =
        || arguments.minutes.is_some_and(|minutes| began.elapsed() > Duration::from_secs(60 * minutes));
    let next = AtomicU64::new(arguments.seed);
    let total = Mutex::new(Total::default());
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                while !is_late() {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= last {
                        break;
                    }
                    let played = play::play(Schedule::of(seed), &arguments.without, &arguments.keep);
                    let outcome = runtime().block_on(played);
                    println!("{}", report::of_schedule(&outcome));
                    total.lock().expect("the total").add(&outcome);
                }
            });
        }
    });
    let total = total.into_inner().expect("the total");
    println!("{}", total.line(began.elapsed()));
    if total.found_any() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// One runtime per schedule, so that its leftovers end with it. The playing thread starts processes and waits for them;
/// clients and proxies run on other threads.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().expect("a runtime")
}
