//! The plan for all parameters, which Postgres takes for a request's statement after some runs, finds its rows as well as a plan for
//! its own would. It is made for averages. Where most people have one row of something, an index that finds all rows of a person looks as
//! good as the key that finds the row, and costs those much who have thousands.
//!
//! Pages tell: the rows that an index passes over are in no plan.

use optimist_tests::sql::{Full, MODES, Statement, pages_of};

/// Pages up to which a statement looks up a few rows. Those that go through more may well do it in another order.
const FEW: u64 = 64;

/// How many pages more a plan for all parameters may touch, as a multiple and in number.
const MORE: (u64, u64) = (2, 16);

/// The faults, by statement.
pub async fn judge(full: &Full, statements: &[Statement]) -> Vec<String> {
    let mut faults = Vec::new();
    for statement in
        statements.iter().filter(|statement| !statement.is_background() && !statement.planned_anew)
    {
        let mut pages = [0; 2];
        for (pages, mode) in pages.iter_mut().zip(MODES) {
            // The first run also reads what the planner wants to know.
            *pages = pages_of(&full.explain(statement, mode, 2).await[1]);
        }
        let [own, generic] = pages;
        if own <= FEW && generic > own * MORE.0 + MORE.1 {
            faults.push(format!(
                "{}: {generic} pages by a plan for all parameters, {own} by one of its own",
                statement.name
            ));
        }
    }
    faults
}
