//! `optimist-bench`: measures how fast Optimist is, each figure as a ratio against something measured in the same run.
//!
//! It starts every server itself with the tests' harness, from release builds; `cargo xtask bench` builds and installs
//! them. A part is a row of [`PARTS`]: it measures the sides alternately and returns figures with targets and, where
//! useful, latency distributions.

mod parts;

mod bare;
mod closed_loop;
mod hold;
mod http1;
mod listeners;
mod made;
mod open_loop;
mod peers;
mod plot;
mod svg;
mod processor;
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

/// A benchmark, selected by its name on the command line.
struct Part {
    name: &'static str,
    what: &'static str,
    run: fn(Arc<Settings>) -> Running,
}

#[rustfmt::skip] // One line per row.
const PARTS: &[Part] = &[
    Part { name: "warm-embedded", what: "warm reads on the embedded host, beside Fastify", run: |settings| Box::pin(parts::warm::embedded(settings)) },
    Part { name: "warm-workerd", what: "warm reads on workerd, beside a Worker in JavaScript", run: |settings| Box::pin(parts::warm::workerd(settings)) },
    Part { name: "warm-spin", what: "warm reads on the spin on the PATH, if there is one, beside answers without Redis", run: |settings| Box::pin(parts::warm::spin(settings)) },
    Part { name: "floor", what: "warm reads beside an empty handler", run: |settings| Box::pin(parts::floor::run(settings)) },
    Part { name: "object", what: "what one object of the Worker can do", run: |settings| Box::pin(parts::object::run(settings)) },
    Part { name: "overload", what: "right answers while four times as many clients ask as can be served, beside the best without", run: |settings| Box::pin(parts::overload::run(settings)) },
    Part { name: "redis-cpu", what: "what a warm read costs Redis, beside a GET", run: |settings| Box::pin(parts::redis_cpu::run(settings)) },
    Part { name: "miss", what: "reads that Redis cannot answer, beside Fastify with pg", run: |settings| Box::pin(parts::miss::run(settings)) },
    Part { name: "reactions", what: "reactions end to end, beside a commit for each", run: |settings| Box::pin(parts::reactions::run(settings)) },
    Part { name: "posting", what: "posting a message, beside its insert alone", run: |settings| Box::pin(parts::posting::run(settings)) },
    Part { name: "drafts", what: "saving a draft, beside a bare SET", run: |settings| Box::pin(parts::drafts::run(settings)) },
    Part { name: "neighbours", what: "what others notice of an account that does its worst", run: |settings| Box::pin(parts::neighbours::run(settings)) },
    Part { name: "community", what: "a circle of 50,000 members and one with a million messages, beside a small one", run: |settings| Box::pin(parts::community::run(settings)) },
    Part { name: "search", what: "searching a million messages, beside a statement without bounds and an index in Tantivy", run: |settings| Box::pin(parts::search::run(settings)) },
    Part { name: "held", what: "hits while a transaction stays open for a minute", run: |settings| Box::pin(parts::held::run(settings)) },
    Part { name: "sizes", what: "what is shipped to the edges", run: |settings| Box::pin(parts::sizes::run(settings)) },
    Part { name: "cold-start", what: "a new instance's first answer, beside an empty handler's", run: |settings| Box::pin(parts::cold_start::run(settings)) },
    Part { name: "memory", what: "what the origin takes, with and without connections", run: |settings| Box::pin(parts::memory::run(settings)) },
    Part { name: "realtime", what: "what comes to those who listen, beside Socket.IO with its Redis adapter", run: |settings| Box::pin(parts::realtime::run(settings)) },
    Part { name: "sql", what: "every SQL statement on a database of some million rows", run: |settings| Box::pin(parts::sql::run(settings)) },
    Part { name: "growth", what: "every SQL statement of requests on databases of 10^5, 10^6 and 10^7 messages: three quarters of an hour, 14 GB of disk", run: |settings| Box::pin(parts::growth::run(settings)) },
];

/// Measures how fast Optimist is, beside what people would use instead.
#[derive(Parser)]
struct Arguments {
    /// Run only these parts
    parts: Vec<String>,
    /// List the parts
    #[arg(long)]
    list: bool,
    /// Seconds per measurement
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// Turns for each side of a comparison
    #[arg(long, default_value_t = 5)]
    turns: usize,
    /// Two turns of one second: checks that the bench works, measures nothing
    #[arg(long)]
    quick: bool,
    /// Measure nothing: keep the servers running, for a profiler
    #[arg(long)]
    hold: bool,
    /// Of the parts `growth` and `sql`, only statements whose names contain one of these
    #[arg(long, value_delimiter = ',')]
    statements: Vec<String>,
    /// Messages of the parts `community` and `search`
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Write tables and plots into docs/
    #[arg(long)]
    write_docs: bool,
}

/// Settings passed to every part.
pub struct Settings {
    /// Seconds per measurement.
    pub seconds: u64,
    /// Turns for each side of a comparison.
    pub turns: usize,
    /// The run only checks that the bench works.
    pub quick: bool,
    /// Parts of the names of statements; empty for all.
    pub statements: Vec<String>,
    /// Messages of a large circle, and of those that are searched.
    pub messages: u64,
    /// Where results are kept.
    pub folder: PathBuf,
}

impl Settings {
    /// Whether a statement is to be measured.
    pub fn wants(&self, statement: &str) -> bool {
        self.statements.is_empty() || self.statements.iter().any(|part| statement.contains(part.as_str()))
    }
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
    let folder = if arguments.write_docs { "docs/performance" } else { "target/bench" };
    let folder: PathBuf = optimist_tests::processes::workspace().join(folder);
    let (seconds, turns) = if arguments.quick { (1, 2) } else { (arguments.seconds, arguments.turns) };
    let settings = Arc::new(Settings {
        seconds,
        turns,
        quick: arguments.quick,
        statements: arguments.statements,
        messages: arguments.messages,
        folder: folder.clone(),
    });
    let wanted =
        |part: &&Part| arguments.parts.is_empty() || arguments.parts.iter().any(|name| name == part.name);
    let mut run = results::Run::begin(&settings);
    for part in PARTS.iter().filter(wanted) {
        println!("\n{}: {}", part.name, part.what);
        // A failed part has printed why; the others still run.
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
