//! The shape that lets data grow: on a database of 100,000 messages over 36 months, each statement stays in two months and in one
//! person's shard, or is listed with its reason; and its plan for all parameters finds rows as well as one of its own.
//! `cargo xtask test growth` says how many do.

#![allow(clippy::unwrap_used)] // A test that cannot go on panics.

mod months;
mod plans;
mod shards;

use std::collections::{BTreeMap, BTreeSet};

use optimist_tests::sql::{Full, Statement};
use optimist_tests::stores::Postgres;

/// Statements that do not keep to a shape, and the reasons.
type Listed = [(&'static str, &'static str)];

#[tokio::test(flavor = "multi_thread")]
async fn statements_stay_in_two_months_and_in_one_shard() {
    let statements = Statement::all();
    let postgres = Postgres::start();
    let full = Full::grown(&postgres, &statements, 100_000).await;
    let mut verdict = Verdict::default();
    months::judge(&full, &statements, &mut verdict).await;
    verdict.tell("months", "two partitions of a table at most", months::LISTED);
    full.thin().await;
    let worse = plans::judge(&full, &statements).await;
    full.spread().await;
    let mut sharded = Verdict::default();
    shards::judge(&full, &statements, &mut sharded).await;
    sharded.tell("shards", "one person's partition", shards::LISTED);
    let faults = [verdict.faults(months::LISTED), sharded.faults(shards::LISTED), worse].concat();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What one shape's test has seen.
#[derive(Default)]
struct Verdict {
    statements: usize,
    /// Statements that touch partitions at all.
    touching: usize,
    /// Those that are listed, and must be.
    found: BTreeSet<String>,
    faults: Vec<String>,
}

impl Verdict {
    fn tell(&self, shape: &str, what: &str, listed: &Listed) {
        let Verdict { statements, touching, found, .. } = self;
        let count = found.len();
        println!(
            "{shape}: {statements} statements explained, {touching} touch partitions, {} stay in {what}, {count} are listed:",
            touching - count
        );
        for (name, why) in listed {
            println!("  {name}: {why}");
        }
    }

    /// What it found, and what is listed without need.
    fn faults(mut self, listed: &Listed) -> Vec<String> {
        let listed: BTreeMap<&str, &str> = listed.iter().copied().collect();
        let superfluous = listed.keys().filter(|name| !self.found.contains(**name));
        self.faults.extend(superfluous.map(|name| format!("{name}: is listed, and keeps to the shape")));
        self.faults
    }
}
