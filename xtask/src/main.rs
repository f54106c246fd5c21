//! The project's commands: `cargo xtask demo`, `dev`, `test`, `tidy` and so on. This file only reads the command line.
//!
//! Production code is in `origin` and `edge`; nothing here is deployed.

mod bench;
mod counts;
mod demo;
mod dev;
mod doctor;
mod mutants;
mod soak;
mod structure;
mod test;
mod tidy;

mod story;
mod suite;
mod system;

mod cloudflare;
mod edges;
mod stores;

mod processes;
mod provision;
mod state;
mod workspace;

mod http;
mod interrupt;
mod listening;
mod terminal;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::edges::Edge;
use crate::terminal::{Colour, paint};

/// Optimist's commands. Each one installs and builds what it needs first.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Play the main job on real stores and a real Wasm runtime, for a person to watch
    Demo {
        /// The edge to play it on
        #[arg(long, value_enum, default_value = "embedded")]
        edge: Edge,
        /// Leave everything running afterwards
        #[arg(long)]
        keep: bool,
        /// The process that `--keep` leaves behind
        #[arg(long, hide = true)]
        stay: bool,
    },
    /// Run the system for development; data stays in .dev/
    Dev {
        /// An edge to run (may be given several times) [default: embedded]
        #[arg(long = "edge", value_enum)]
        edges: Vec<Edge>,
        /// Delete the data of earlier runs
        #[arg(long)]
        fresh: bool,
    },
    /// Run everything that CI runs
    Test {
        /// Run only these stages
        stages: Vec<String>,
    },
    /// Switch mechanisms off, one at a time, and check that the suite fails
    Mutants {
        /// Try only these, by their names in the table
        mechanisms: Vec<String>,
    },
    /// Run the suite's longest loads at full count, on release builds: hours
    Counts {
        /// Run only these
        #[arg(value_enum)]
        counts: Vec<counts::Count>,
        /// Part of the full count
        #[arg(long, default_value_t = 1.0)]
        scale: f64,
        /// Use the builds of `cargo xtask test`: quick to build, slow to run
        #[arg(long)]
        debug: bool,
    },
    /// Play seeded schedules of faults under load, judge what clients saw, and fail if a promise was broken
    Soak(soak::Soak),
    /// Measure how fast it is, beside what people would use instead
    Bench {
        /// Parts to measure, and the bench's own options (`--list`, `--help`)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Check what compilers do not: module headers, file sizes, links, generated documents
    Tidy {
        /// Rewrite the generated documents instead of comparing them
        #[arg(long)]
        bless: bool,
    },
    /// Check a deployment's variables before they are deployed, and name each that is wrong
    Doctor {
        /// What the variables are for
        #[arg(value_enum, required = true)]
        parts: Vec<doctor::Part>,
        /// Read them from this file of NAME=value lines, not from the environment
        #[arg(long)]
        file: Option<PathBuf>,
    },
    /// Build the Worker into edge/cloudflare/build, as `wrangler` asks for it
    Worker,
    /// For xtask's own use: becomes a program that dies with its parent
    #[command(name = processes::WITH_PARENT, hide = true)]
    WithParent {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Demo { edge, keep, stay } => demo::run(edge, keep, stay),
        Command::Dev { edges, fresh } => dev::run(&edges, fresh),
        Command::Test { stages } => test::run(&stages),
        Command::Mutants { mechanisms } => mutants::run(&mechanisms),
        Command::Counts { counts, scale, debug } => counts::run(&counts, scale, debug),
        Command::Soak(soak) => soak::run(&soak),
        Command::Bench { arguments } => bench::run(&arguments),
        Command::Tidy { bless } => tidy::run(bless),
        Command::Doctor { parts, file } => doctor::run(&parts, file.as_deref()),
        Command::Worker => cloudflare::build_command(),
        Command::WithParent { words } => processes::become_server(&words),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // The exit code that a shell reports for a command ended by Ctrl-C.
        Err(error) if error.is::<interrupt::Interrupted>() => ExitCode::from(130),
        Err(error) => {
            eprintln!("{} {error:#}", paint(Colour::Red, "error:"));
            ExitCode::FAILURE
        }
    }
}
