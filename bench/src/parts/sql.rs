//! Runs every SQL statement of the origin on a database of some million rows: reports Postgres's plan, and the time
//! with all pages in memory. The suite holds how many rows each touches (`tests/it/bounds`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use optimist_tests::sql::{Full, Statement, pages_of, steps};
use optimist_tests::stores::Postgres;
use serde_json::Value;

use crate::Settings;
use crate::report::{Figure, Outcome, Target};

/// A request must not read a table with more rows than this from end to end.
const LARGE: f64 = 10_000.0;

/// Upper bound in milliseconds for a statement that a request waits for.
const BOUND_MS: f64 = 5.0;

pub async fn run(settings: Arc<Settings>) -> Outcome {
    let statements = Statement::all();
    let postgres = Postgres::durable();
    let begun = Instant::now();
    let full = Full::new(&postgres, &statements, 1.0).await;
    let sizes = full.sizes().await;
    let rows: f64 = sizes.values().sum();
    println!("  {:.1} million rows in {} s", rows / 1e6, begun.elapsed().as_secs());

    let mut measured = Vec::new();
    for statement in statements.iter().filter(|statement| settings.wants(&statement.name)) {
        measured.push(measure(&full, statement, &sizes).await);
    }
    measured.sort_by(|one, other| other.ms.total_cmp(&one.ms));
    for statement in &measured {
        statement.print();
    }
    let of_requests = || measured.iter().filter(|statement| !statement.is_background);
    let scanning = of_requests().filter(|statement| !statement.scans.is_empty()).count();
    let slowest = of_requests().map(|statement| statement.ms).take(1);
    Outcome {
        figures: vec![
            Figure::plain("SQL of requests: the slowest statement", "ms", slowest, Target::AtMost(BOUND_MS)),
            Figure::plain(
                "SQL of requests: statements that scan a large table",
                "",
                [scanning as f64],
                Target::AtMost(0.0),
            ),
        ],
        plots: Vec::new(),
    }
}

/// The result of a statement, by the worse of its plans.
struct Measured {
    name: String,
    /// No request waits for it.
    is_background: bool,
    ms: f64,
    /// Pages touched.
    pages: u64,
    /// Large tables that it reads from end to end.
    scans: Vec<String>,
}

impl Measured {
    fn print(&self) {
        let Measured { name, is_background, ms, pages, scans } = self;
        let whose = if *is_background { "background" } else { "request" };
        let scans = if scans.is_empty() { String::new() } else { format!("  scans {}", scans.join(", ")) };
        println!("  {name:<32} {ms:>9.3} ms {pages:>8} pages  {whose}{scans}");
    }
}

async fn measure(full: &Full, statement: &Statement, sizes: &BTreeMap<String, f64>) -> Measured {
    let mut measured = Measured {
        name: statement.name.clone(),
        is_background: statement.is_background(),
        ms: 0.0,
        pages: 0,
        scans: Vec::new(),
    };
    for mode in statement.modes() {
        let mut times = Vec::new();
        for explained in full.explain(statement, mode, 7).await {
            times.push(explained["Execution Time"].as_f64().expect("a time"));
            measured.pages = measured.pages.max(pages_of(&explained));
            scans(&explained, sizes, &mut measured.scans);
        }
        // The first two runs bring pages into memory.
        let mut warm = times.split_off(2);
        warm.sort_by(f64::total_cmp);
        measured.ms = measured.ms.max(warm[warm.len() / 2]);
    }
    measured
}

/// Adds the large tables that a plan reads from end to end.
fn scans(explained: &Value, sizes: &BTreeMap<String, f64>, found: &mut Vec<String>) {
    for step in steps(explained) {
        let table = step["Relation Name"].as_str().unwrap_or_default();
        let is_large = sizes.get(table).is_some_and(|rows| *rows > LARGE);
        // A step that is planned but never run costs nothing.
        let is_run = step["Actual Loops"].as_f64().unwrap_or(0.0) > 0.0;
        if step["Node Type"] == "Seq Scan" && is_large && is_run && !found.iter().any(|known| known == table)
        {
            found.push(table.to_owned());
        }
    }
}
