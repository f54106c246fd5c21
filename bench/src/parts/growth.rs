//! Whether a request costs more the more there is: every SQL statement on databases of 10^5, 10^6 and 10^7 messages over 36 months
//! and a tenth as many people, for the same people and circles in each. Beside it what a row takes on disk, what a write adds to the
//! log, and what planning and vacuum take.
//!
//! A statement runs as on the origin's connections: prepared, with the plan that Postgres then takes, or planned anew at each run. Its
//! runs go around the databases, so that noise hits all alike. Time counts from sending a statement to its last row, and so includes
//! planning and a trip over loopback. Both sides of the connections are kept on one processor, since waking another takes longer than a
//! short statement, and whether it must be woken is up to chance. `growth.json` and `growth.svg` hold all of it.

mod costs;
mod drawing;

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use optimist_tests::sql::{Full, MODES, Statement, Timed, When, pages_of};
use optimist_tests::stores::Postgres;
use serde::Serialize;

use crate::Settings;
use crate::report::{Figure, Outcome, Side, Target};
use crate::samples::Samples;

/// Messages in the databases.
const SIZES: [u64; 3] = [100_000, 1_000_000, 10_000_000];
const QUICK_SIZES: [u64; 2] = [100_000, 200_000];

/// How much a statement may take more in the largest than in the smallest.
const BOUND: f64 = 1.5;

/// Runs before any is counted: Postgres chooses between plans after five.
const WARM: usize = 8;

/// What a statement's runs may take together, in milliseconds, and their number in each database.
const BUDGET_MS: f64 = 1_500.0;
const RUNS: std::ops::RangeInclusive<usize> = 25..=400;

/// A statement above the bound is measured again, with so many times the runs; that counts.
const AGAIN: usize = 4;

/// The worst that the table and the plot name.
const WORST: usize = 10;

/// What `growth.json` holds.
#[derive(Serialize)]
struct Growth<'a> {
    messages: &'a [u64],
    statements: &'a [Measured],
    databases: Vec<costs::Database>,
}

/// A statement's runs, database by database.
#[derive(Serialize)]
struct Measured {
    name: String,
    /// A request waits for it; otherwise the flush, a projection or the relay runs it after writes.
    is_of_request: bool,
    planned_anew: bool,
    runs: usize,
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
    /// Pages touched by a run with a plan of its own.
    pages: Vec<u64>,
}

impl Measured {
    /// The largest database's p50 as a multiple of the smallest's.
    fn growth(&self) -> f64 {
        self.p50_ms[self.p50_ms.len() - 1] / self.p50_ms[0]
    }
}

pub async fn run(settings: Arc<Settings>) -> Outcome {
    let sizes = if settings.quick { &QUICK_SIZES[..] } else { &SIZES[..] };
    let postgres = Postgres::durable();
    // Nothing but the statements works while they are timed, and loading is not held up by checkpoints.
    set(&postgres, &["autovacuum = off", "max_wal_size = '2GB'", "checkpoint_timeout = '1h'"]);
    let mut statements = Statement::all();
    let began = Instant::now();
    let filled = sizes.iter().map(|messages| Full::grown(&postgres, &statements, *messages));
    let databases = futures_util::future::join_all(filled).await;
    let mut takes = Vec::new();
    for database in &databases {
        takes.push(costs::Database::of(database).await);
    }
    postgres.sql("postgres", "checkpoint");
    // The first change of a page after a checkpoint logs all of it. A small table's pages have all been changed after some runs, and a
    // large one's have not: that is about checkpoints, not about rows.
    set(&postgres, &["full_page_writes = off"]);
    println!("  filled in {} s; measuring", began.elapsed().as_secs());

    keep_on("0", &databases).await;
    statements.retain(|statement| statement.when() != When::Otherwise && settings.wants(&statement.name));
    let mut measured = Vec::new();
    for statement in &statements {
        let mut one = measure(&databases, statement, 1).await;
        if one.growth() > BOUND {
            one = measure(&databases, statement, AGAIN).await;
        }
        measured.push(one);
    }
    println!("  measured");
    set(&postgres, &["full_page_writes = on"]);
    for (database, takes) in databases.iter().zip(&mut takes) {
        takes.after(database, &statements).await;
    }
    measured.sort_by(|one, other| other.growth().total_cmp(&one.growth()));
    print(sizes, &measured);
    takes.iter().for_each(costs::Database::print);
    let outcome = outcome(sizes, &measured, &takes);
    let growth = Growth { messages: sizes, statements: &measured, databases: takes };
    let json = serde_json::to_vec_pretty(&growth).expect("plain data");
    std::fs::create_dir_all(&settings.folder).expect("a folder");
    std::fs::write(settings.folder.join("growth.json"), json).expect("a file");
    let lines: Vec<drawing::Line> = measured.iter().map(Measured::line).collect();
    std::fs::write(settings.folder.join("growth.svg"), drawing::svg(sizes, &lines, BOUND, WORST))
        .expect("a file");
    outcome
}

fn set(postgres: &Postgres, settings: &[&str]) {
    for setting in settings {
        postgres.sql("postgres", &format!("alter system set {setting}"));
    }
    postgres.sql("postgres", "select pg_reload_conf()");
}

/// Keeps this process and its connections' other ends on one processor.
async fn keep_on(processor: &str, databases: &[Full]) {
    let mut processes = vec![std::process::id().to_string()];
    for database in databases {
        processes.push(database.ask("select pg_backend_pid()").await);
    }
    for process in processes {
        let taskset = Command::new("taskset").args(["-acp", processor, &process]).output().expect("taskset");
        assert!(taskset.status.success(), "{}", String::from_utf8_lossy(&taskset.stderr));
    }
}

impl Measured {
    fn line(&self) -> drawing::Line {
        let ratios = self.p50_ms.iter().map(|ms| ms / self.p50_ms[0]).collect();
        drawing::Line { name: self.name.clone(), is_dashed: !self.is_of_request, ratios }
    }
}

/// Runs a statement in turns around the databases.
async fn measure(databases: &[Full], statement: &Statement, times: usize) -> Measured {
    let mut pages = Vec::new();
    let mut timed = Vec::new();
    for database in databases {
        pages.push(pages_of(&database.explain(statement, MODES[0], 2).await[1]));
        timed.push(Timed::new(database, statement).await);
    }
    let mut warm = 0.0;
    for _ in 0..WARM {
        // The last sum is that of a warm round.
        warm = 0.0;
        for statement in &timed {
            warm += statement.run().await;
        }
    }
    let runs = ((BUDGET_MS / warm) as usize).clamp(*RUNS.start(), *RUNS.end()) * times;
    let mut samples = vec![Vec::with_capacity(runs); timed.len()];
    for turn in 0..runs {
        // Each goes first in turn.
        for place in 0..timed.len() {
            let at = (turn + place) % timed.len();
            samples[at].push(timed[at].run().await);
        }
    }
    let percentile = |part: f64| -> Vec<f64> {
        let of = |samples: &Vec<f64>| {
            let mut sorted = samples.clone();
            sorted.sort_by(f64::total_cmp);
            sorted[((sorted.len() - 1) as f64 * part).round() as usize]
        };
        samples.iter().map(of).collect()
    };
    Measured {
        name: statement.name.clone(),
        is_of_request: !statement.is_background(),
        planned_anew: statement.planned_anew,
        runs,
        p50_ms: percentile(0.5),
        p99_ms: percentile(0.99),
        pages,
    }
}

/// The table, the worst first.
fn print(sizes: &[u64], measured: &[Measured]) {
    let columns =
        |title: &str| sizes.iter().map(|size| format!("{title} {size:>8}")).collect::<Vec<_>>().join("  ");
    println!("  {:<32} {:>6}  {}  {}  {}", "", "growth", columns("p50"), columns("p99"), columns("pages"));
    for statement in measured {
        let row =
            |values: &[f64]| values.iter().map(|ms| format!("{ms:>12.3}")).collect::<Vec<_>>().join("  ");
        let pages: Vec<String> = statement.pages.iter().map(|pages| format!("{pages:>14}")).collect();
        let whose = match (statement.is_of_request, statement.planned_anew) {
            (false, _) => "  after writes",
            (true, true) => "  planned anew",
            (true, false) => "",
        };
        println!(
            "  {:<32} {:>6.2}  {}  {}  {}{whose}",
            statement.name,
            statement.growth(),
            row(&statement.p50_ms),
            row(&statement.p99_ms),
            pages.join("  ")
        );
    }
    let above = |is_of_request: bool| {
        let of = measured.iter().filter(|statement| statement.is_of_request == is_of_request);
        let all = of.clone().count();
        (of.filter(|statement| statement.growth() > BOUND).count(), all)
    };
    let ((requests, all_requests), (others, all_others)) = (above(true), above(false));
    println!(
        "  above {BOUND}: {requests} of {all_requests} statements of requests, {others} of {all_others} after writes"
    );
}

fn outcome(sizes: &[u64], measured: &[Measured], databases: &[costs::Database]) -> Outcome {
    let (smallest, largest) = (0, sizes.len() - 1);
    let worst = |is_of_request: bool, what: &str, target: Target| {
        let statement = measured.iter().find(|statement| statement.is_of_request == is_of_request)?;
        let side = |at: usize| {
            let name = format!("{}, {} messages", statement.name, sizes[at]);
            Side::new(&name, "ms", [statement.p50_ms[at]])
        };
        Some(Figure::times(what, side(largest), side(smallest), target))
    };
    let all: Samples =
        measured.iter().filter(|statement| statement.is_of_request).map(Measured::growth).collect();
    let figures = [
        worst(true, "SQL of requests: the statement that grows most", Target::AtMost(BOUND)),
        Some(Figure::plain(
            "SQL of requests: growth of the median statement",
            "×",
            [all.median()],
            Target::None,
        )),
        worst(false, "SQL after writes: the statement that grows most", Target::None),
    ];
    let bytes = databases.last().into_iter().flat_map(costs::Database::figures);
    Outcome { figures: figures.into_iter().flatten().chain(bytes).collect(), plots: Vec::new() }
}
