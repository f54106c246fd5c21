//! Runs every SQL statement of the origin on a database of some million rows: reports Postgres's plan, and the time
//! with all pages in memory.
//!
//! Each statement is planned both for its actual parameters and generically, since Postgres may switch a prepared
//! statement to the generic plan. Each runs in a transaction that is rolled back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use optimist_tests::Origin;
use optimist_tests::stores::Postgres;
use optimist_tests::system::environment;
use serde_json::Value;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::Settings;
use crate::report::{Figure, Outcome, Target};

const SEED: &str = include_str!("sql/seed.sql");
const PARAMETERS: &str = include_str!("sql/parameters.txt");

/// A request must not read a table with more rows than this from end to end.
const LARGE: f64 = 10_000.0;

/// Upper bound in milliseconds for a statement that a request waits for.
const BOUND_MS: f64 = 5.0;

pub async fn run(_: Arc<Settings>) -> Outcome {
    let postgres = Postgres::durable();
    let (owner, serve) = postgres.database();
    // The migration needs no Redis, and nothing is served.
    Origin::migrate(&environment(&owner, &serve, "redis://127.0.0.1:1", 250));
    let (client, connection) = tokio_postgres::connect(&owner, NoTls).await.expect("postgres answers");
    tokio::spawn(connection);
    let all: Vec<_> = statements().into_iter().map(|(name, sql)| (parameters_of(&name), name, sql)).collect();
    for ((_, parameters), name, sql) in &all {
        check(&client, name, sql, parameters).await;
    }
    let begun = Instant::now();
    client.batch_execute(SEED).await.expect("the seed");
    client.batch_execute("vacuum analyze").await.expect("statistics");
    // As on the origin's connections.
    client.batch_execute("set jit = off").await.expect("a setting");
    let sizes = sizes(&client).await;
    let rows: f64 = sizes.values().sum();
    println!("  {:.1} million rows in {} s", rows / 1e6, begun.elapsed().as_secs());

    let mut measured = Vec::new();
    for ((is_background, parameters), name, sql) in &all {
        measured.push(measure(&client, name, sql, parameters, *is_background, &sizes).await);
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

/// Every statement with its name, as the origin prints them.
fn statements() -> Vec<(String, String)> {
    let (succeeded, output) = Origin::command(&[], &["statements"]);
    assert!(succeeded, "statements: {output}");
    let statements: Vec<String> = serde_json::from_str(&output).expect("a list of statements");
    let name = |sql: &str| sql.lines().next().unwrap_or_default().trim_start_matches("-- ").to_owned();
    statements.into_iter().map(|sql| (name(&sql), sql)).collect()
}

/// Whether a statement runs in the background, and its parameters as SQL expressions.
fn parameters_of(name: &str) -> (bool, Vec<&'static str>) {
    let line = PARAMETERS.lines().find_map(|line| {
        line.trim_start_matches('~').strip_prefix(name)?.strip_prefix(':').map(|rest| (line, rest))
    });
    let (line, expressions) = line.unwrap_or_else(|| panic!("no parameters for {name}"));
    let expressions = expressions.split(';').map(str::trim).filter(|expression| !expression.is_empty());
    (line.starts_with('~'), expressions.collect())
}

/// Before the million rows are made: checks that the statement prepares and has its parameters.
async fn check(client: &Client, name: &str, sql: &str, parameters: &[&str]) {
    let prepared = client.prepare(sql).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    assert_eq!(parameters.len(), prepared.params().len(), "{name}: parameters");
}

/// Row count of each table.
async fn sizes(client: &Client) -> BTreeMap<String, f64> {
    let sql = "select relname, reltuples from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace";
    let rows = client.query(sql, &[]).await.expect("sizes");
    rows.iter().map(|row| (row.get(0), f64::from(row.get::<_, f32>(1)))).collect()
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

async fn measure(
    client: &Client,
    name: &str,
    sql: &str,
    parameters: &[&str],
    is_background: bool,
    sizes: &BTreeMap<String, f64>,
) -> Measured {
    let literals = literals(client, name, sql, parameters).await;
    let explain = match literals.is_empty() {
        true => "explain (analyze, buffers, format json) execute measured".to_owned(),
        false => format!("explain (analyze, buffers, format json) execute measured({})", literals.join(", ")),
    };
    let mut measured =
        Measured { name: name.to_owned(), is_background, ms: 0.0, pages: 0, scans: Vec::new() };
    for mode in ["force_custom_plan", "force_generic_plan"] {
        let prepare = format!("set plan_cache_mode = {mode}; prepare measured as {sql}");
        client.batch_execute(&prepare).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let mut times = Vec::new();
        // The first two runs bring pages into memory.
        for _ in 0..7 {
            let plan = explained(client, name, &explain).await;
            times.push(plan["Execution Time"].as_f64().expect("a time"));
            let root = &plan["Plan"];
            let count = |key: &str| root[key].as_u64().unwrap_or(0);
            measured.pages = measured.pages.max(count("Shared Hit Blocks") + count("Shared Read Blocks"));
            scans(root, sizes, &mut measured.scans);
        }
        let mut warm = times.split_off(2);
        warm.sort_by(f64::total_cmp);
        measured.ms = measured.ms.max(warm[warm.len() / 2]);
        client.batch_execute("deallocate measured").await.expect("it was prepared");
    }
    measured
}

/// The parameter values as literals of the types that the statement expects.
async fn literals(client: &Client, name: &str, sql: &str, expressions: &[&str]) -> Vec<String> {
    let prepared = client.prepare(sql).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    if expressions.is_empty() {
        return Vec::new();
    }
    let values = expressions.iter().zip(prepared.params());
    let values: Vec<String> =
        values.map(|(expression, wanted)| format!("({expression})::{}::text", wanted.name())).collect();
    let row = client.query_one(&format!("select {}", values.join(", ")), &[]).await;
    let row = row.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    let literal = |index: usize| {
        let value: Option<&str> = row.get(index);
        value.map_or_else(|| "null".to_owned(), |value| format!("'{}'", value.replace('\'', "''")))
    };
    (0..row.len()).map(literal).collect()
}

async fn explained(client: &Client, name: &str, explain: &str) -> Value {
    let script = format!("begin; {explain}; rollback");
    let answer = client.simple_query(&script).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    let lines: Vec<&str> = answer
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        })
        .collect();
    let mut plans: Value = serde_json::from_str(&lines.join("\n")).expect("a plan in JSON");
    plans[0].take()
}

/// Adds the large tables that a plan reads from end to end.
fn scans(node: &Value, sizes: &BTreeMap<String, f64>, found: &mut Vec<String>) {
    let table = node["Relation Name"].as_str().unwrap_or_default();
    let is_large = sizes.get(table).is_some_and(|rows| *rows > LARGE);
    // A node that is planned but never run costs nothing.
    let is_run = node["Actual Loops"].as_f64().unwrap_or(0.0) > 0.0;
    if node["Node Type"] == "Seq Scan" && is_large && is_run && !found.iter().any(|known| known == table) {
        found.push(table.to_owned());
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        scans(child, sizes, found);
    }
}
