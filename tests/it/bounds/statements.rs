//! Statements on a full database: rows by step of the plan, and pages.

use optimist_tests::sql::{Full, Statement, pages_of, passed_over, rows_of, steps};
use optimist_tests::stores::Postgres;
use serde_json::Value;

/// The crowd beside those who have as much as they may: 20,000 people, in 2,000 circles.
const SCALE: f64 = 0.1;

/// Pages that a statement may touch for each row of its bound. An insert goes down each of the table's indexes, up to seven,
/// of some three levels each, and into the table; so do lookups in other tables.
const PAGES_A_ROW: u64 = 40;

/// Rows that a request's statement may pass over, planned as on the origin's connections: only tables of a few rows, such as the
/// regions', are read from end to end.
const PASSED_OVER: u64 = 64;

#[tokio::test(flavor = "multi_thread")]
async fn statements_touch_no_more_rows_than_they_state() {
    let statements = Statement::all();
    let postgres = Postgres::start();
    let full = Full::new(&postgres, &statements, SCALE).await;
    let mut faults = Vec::new();
    for statement in statements.iter().filter(|statement| !statement.is_background()) {
        for mode in statement.modes() {
            let explained = full.explain(statement, mode, 1).await.remove(0);
            let scans = steps(&explained).into_iter().map(|step| (step, passed_over(step)));
            for (step, rows) in scans.filter(|(_, rows)| *rows > PASSED_OVER) {
                let table = &step["Relation Name"];
                faults.push(format!("{}: passes over {rows} rows of {table} ({mode})", statement.name));
            }
        }
    }
    full.make_rows_dear().await;
    for statement in &statements {
        let (name, bound) = (&statement.name, statement.rows);
        let mut most = 0;
        for mode in statement.modes() {
            let explained = full.explain(statement, mode, 1).await.remove(0);
            let (step, rows) = largest(&explained);
            if rows > bound {
                faults.push(format!("{name}: {rows} rows, not {bound}, by {step} ({mode})"));
            }
            let pages = pages_of(&explained);
            if pages > bound * PAGES_A_ROW {
                faults.push(format!("{name}: {pages} pages, not {PAGES_A_ROW} a row, of {bound} ({mode})"));
            }
            most = most.max(rows);
        }
        // A number that nothing caps is the data's, and says nothing if the data has far fewer.
        if statement.uncapped.is_some() && most < bound / 2 {
            faults.push(format!("{name}: only {most} rows, of {bound}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The step of a plan with the most rows, and how many.
fn largest(explained: &Value) -> (String, u64) {
    let steps = steps(explained).into_iter().map(|step| (step, rows_of(step)));
    let (step, rows) = steps.max_by_key(|(_, rows)| *rows).expect("a plan has a step");
    let word = |key: &str| step[key].as_str().unwrap_or_default();
    (format!("{} {}", word("Node Type"), word("Relation Name")).trim_end().to_owned(), rows)
}
