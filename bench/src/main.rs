//! `optimist-bench`: how fast Optimist is, each figure as a ratio against something that is measured in the same run.
//!
//! It starts everything itself with the harness of the tests, from programs that were built for release; building and
//! installing is `cargo xtask bench`. A part is a row of [`PARTS`]: it measures by turns, and gives figures with targets and,
//! if it has any, distributions of latency.

mod parts;

mod bare;
mod closed_loop;
mod hold;
mod http1;
mod made;
mod open_loop;
mod peers;
mod plot;
mod region;
mod report;
mod results;
mod samples;
mod tls;

use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;

use crate::report::Outcome;

type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Something that is measured, by a name for the command line.
struct Part {
    name: &'static str,
    what: &'static str,
    run: fn(Arc<Settings>) -> Running,
}

#[rustfmt::skip] // One line a row.
const PARTS: &[Part] = &[
    Part { name: "warm-embedded", what: "warm reads on the embedded host, beside Fastify", run: |settings| Box::pin(parts::warm::embedded(settings)) },
    Part { name: "warm-workerd", what: "warm reads on workerd, beside a Worker in JavaScript", run: |settings| Box::pin(parts::warm::workerd(settings)) },
    Part { name: "floor", what: "warm reads beside answers without Redis", run: |settings| Box::pin(parts::floor::run(settings)) },
    Part { name: "redis-cpu", what: "what a warm read costs Redis, beside a GET", run: |settings| Box::pin(parts::redis_cpu::run(settings)) },
    Part { name: "miss", what: "reads that Redis cannot answer, beside Fastify with pg", run: |settings| Box::pin(parts::miss::run(settings)) },
    Part { name: "reactions", what: "reactions end to end, beside a commit for each", run: |settings| Box::pin(parts::reactions::run(settings)) },
    Part { name: "posting", what: "posting a message, beside its insert alone", run: |settings| Box::pin(parts::posting::run(settings)) },
    Part { name: "drafts", what: "saving a draft, beside a bare SET", run: |settings| Box::pin(parts::drafts::run(settings)) },
    Part { name: "sizes", what: "what is shipped to the edges", run: |settings| Box::pin(parts::sizes::run(settings)) },
    Part { name: "cold-start", what: "a new instance's first answer, beside an empty handler's", run: |settings| Box::pin(parts::cold_start::run(settings)) },
    Part { name: "memory", what: "what the origin takes, with and without connections", run: |settings| Box::pin(parts::memory::run(settings)) },
    Part { name: "sql", what: "every SQL statement on a database of some million rows", run: |settings| Box::pin(parts::sql::run(settings)) },
];

/// How fast Optimist is, beside what people would use instead.
#[derive(Parser)]
struct Arguments {
    /// Only these parts
    parts: Vec<String>,
    /// List the parts
    #[arg(long)]
    list: bool,
    /// Seconds that a measurement takes
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// Turns that each side of a comparison gets
    #[arg(long, default_value_t = 5)]
    turns: usize,
    /// A second and two turns each: to see that it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Measure nothing: keep everything running, for a profiler
    #[arg(long)]
    hold: bool,
    /// Put tables and plots into docs/
    #[arg(long)]
    write_docs: bool,
}

/// What every part is told.
pub struct Settings {
    /// Seconds that a measurement takes.
    pub seconds: u64,
    /// Turns that each side of a comparison gets.
    pub turns: usize,
    /// It is only to be seen that it works.
    pub quick: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        PARTS.iter().for_each(|part| println!("{:<16} {}", part.name, part.what));
        return ExitCode::SUCCESS;
    }
    if arguments.hold {
        hold::run().await;
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = arguments.parts.iter().find(|name| !PARTS.iter().any(|part| part.name == **name)) {
        let known: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
        eprintln!("there is no part {unknown}; the parts are {}", known.join(", "));
        return ExitCode::FAILURE;
    }
    let settings = Arc::new(match arguments.quick {
        true => Settings { seconds: 1, turns: 2, quick: true },
        false => Settings { seconds: arguments.seconds, turns: arguments.turns, quick: false },
    });
    let folder = if arguments.write_docs { "docs/performance" } else { "target/bench" };
    let folder: PathBuf = optimist_tests::processes::workspace().join(folder);
    let wanted =
        |part: &&Part| arguments.parts.is_empty() || arguments.parts.iter().any(|name| name == part.name);
    let mut run = results::Run::begin(&settings);
    for part in PARTS.iter().filter(wanted) {
        println!("\n{}: {}", part.name, part.what);
        // What fails has said why; the others are measured all the same.
        match tokio::spawn((part.run)(settings.clone())).await {
            Ok(outcome) => run.add(part.name, outcome),
            Err(_) => run.fail(part.name),
        }
    }
    if let Err(error) = run.write(&folder, arguments.write_docs) {
        eprintln!("the results cannot be written: {error}");
        return ExitCode::FAILURE;
    }
    run.print();
    if run.all_reached() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
