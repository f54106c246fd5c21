//! Every SQL statement of the origin, on a database that is as full as limits and caps allow: its parameters, its bound, and
//! its plans as Postgres runs them. Judging them is up to the suite (rows and pages) and the benchmarks (milliseconds).
//!
//! Each statement is planned both for its actual parameters and generically, since Postgres may switch a prepared
//! statement to the generic plan, unless it is planned anew at each run. Each runs in a transaction that is rolled back.

mod timed;

use std::collections::BTreeMap;

pub use timed::Timed;

use serde::Deserialize;
use serde_json::Value;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::origin::Origin;
use crate::stores::Postgres;
use crate::system::environment;

const FUNCTIONS: &str = include_str!("sql/functions.sql");
const SEED: &str = include_str!("sql/seed.sql");
const GROWN: &str = include_str!("sql/grown.sql");
const SUBJECTS: &str = include_str!("sql/subjects.sql");
const THIN: &str = include_str!("sql/thin.sql");
const SPREAD: &str = include_str!("sql/spread.sql");
const PARAMETERS: &str = include_str!("sql/parameters.txt");

/// The ways in which Postgres plans a prepared statement.
pub const MODES: [&str; 2] = ["force_custom_plan", "force_generic_plan"];

/// The partitions that this transaction has locked: `locked`, the table, the partition.
const LOCKED: &str = "select concat_ws(' ', 'locked', i.inhparent::regclass, c.relname)
from pg_locks l join pg_class c on c.oid = l.relation join pg_inherits i on i.inhrelid = c.oid
where l.pid = pg_backend_pid() and l.locktype = 'relation' and c.relkind = 'r' group by i.inhparent, c.relname order by 1";

/// What the origin says of its statements.
#[derive(Deserialize)]
struct Described {
    /// The settings of the connections that run them, as Postgres takes them at the start: `-c name=value …`.
    session: String,
    statements: Vec<Statement>,
}

impl Described {
    fn get() -> Described {
        let (succeeded, output) = Origin::command(&[], &["statements"]);
        assert!(succeeded, "statements: {output}");
        serde_json::from_str(&output).expect("a description in JSON")
    }

    /// Sets what plans depend on, and no timeouts: the seed takes longer, and so does a statement that is explained.
    fn settings(&self) -> String {
        let settings = self.session.split("-c ").filter_map(|setting| setting.trim().split_once('='));
        let settings = settings.filter(|(name, _)| !name.ends_with("_timeout"));
        settings.map(|(name, value)| format!("set {name} = '{value}';")).collect()
    }
}

/// A statement, as the origin describes it.
#[derive(Deserialize)]
pub struct Statement {
    pub name: String,
    /// The most rows that a step of its plan touches.
    pub rows: u64,
    /// What makes the rows more, if nothing caps them.
    pub uncapped: Option<String>,
    /// It never has a generic plan.
    pub planned_anew: bool,
    sql: String,
}

impl Statement {
    /// All of them.
    pub fn all() -> Vec<Statement> {
        Described::get().statements
    }

    /// The ways in which Postgres may plan it: of [`MODES`].
    pub fn modes(&self) -> &'static [&'static str] {
        if self.planned_anew { &MODES[..1] } else { &MODES }
    }

    pub fn when(&self) -> When {
        match self.line().0.chars().next() {
            Some('>') => When::AfterWrites,
            Some('~') => When::Otherwise,
            _ => When::Request,
        }
    }

    /// No request waits for it.
    pub fn is_background(&self) -> bool {
        self.when() != When::Request
    }

    /// Its parameters, as SQL expressions.
    fn parameters(&self) -> impl Iterator<Item = &'static str> {
        self.line().1.split(';').map(str::trim).filter(|expression| !expression.is_empty())
    }

    /// Its line of the parameters' file, and the rest of that after the name.
    fn line(&self) -> (&'static str, &'static str) {
        let line = PARAMETERS.lines().find_map(|line| {
            let rest = line.trim_start_matches(['>', '~']).strip_prefix(&self.name)?.strip_prefix(':')?;
            Some((line, rest))
        });
        line.unwrap_or_else(|| panic!("no parameters for {}", self.name))
    }
}

/// When a statement runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// While somebody waits.
    Request,
    /// For each write, or each batch of them: the flush, the relay, projections.
    AfterWrites,
    /// By the clock or by hand: jobs, the auditor, commands.
    Otherwise,
}

/// A database with the seed's rows.
pub struct Full {
    client: Client,
}

impl Full {
    /// Migrates and fills a new database. `scale`, from 0.1 to 1, is that of the crowd: see `seed.sql`.
    pub async fn new(postgres: &Postgres, statements: &[Statement], scale: f64) -> Full {
        Full::fill(postgres, statements, &format!("set bench.scale = '{scale}'"), SEED).await
    }

    /// The same with a crowd of so many messages, from 100,000, and a tenth as many people: see `grown.sql`.
    pub async fn grown(postgres: &Postgres, statements: &[Statement], messages: u64) -> Full {
        Full::fill(postgres, statements, &format!("set bench.grown = '{messages}'"), GROWN).await
    }

    /// A database without a crowd, where parameters have their values all the same.
    pub async fn empty(postgres: &Postgres, statements: &[Statement]) -> Full {
        let (functions, _) = SEED.split_once("\n\nselect make_leaf").expect("functions before rows");
        let full = Full::migrated(postgres, statements, "set bench.scale = 0.1").await;
        full.seed(&[FUNCTIONS, functions]).await;
        full
    }

    async fn fill(postgres: &Postgres, statements: &[Statement], scale: &str, crowd: &str) -> Full {
        let full = Full::migrated(postgres, statements, scale).await;
        full.seed(&[FUNCTIONS, crowd, SUBJECTS]).await;
        full.client.batch_execute("vacuum analyze").await.expect("statistics");
        full
    }

    async fn migrated(postgres: &Postgres, statements: &[Statement], scale: &str) -> Full {
        let (owner, serve) = postgres.database();
        // The migration needs no Redis, and nothing is served.
        Origin::migrate(&environment(&owner, &serve, "redis://127.0.0.1:1", 250));
        let (client, connection) = tokio_postgres::connect(&owner, NoTls).await.expect("postgres answers");
        tokio::spawn(connection);
        for statement in statements {
            check(&client, statement).await;
        }
        let settings = Described::get().settings() + scale;
        client.batch_execute(&settings).await.expect("settings");
        Full { client }
    }

    async fn seed(&self, seeds: &[&str]) {
        for seed in seeds {
            let seeded = self.client.batch_execute(seed).await;
            seeded.unwrap_or_else(|error| panic!("the seed: {error:?}"));
        }
    }

    /// Makes rows the dearest part of every plan, as they are in tables of many millions: then the planner takes the plan that
    /// it believes to touch the fewest. With tens of thousands of rows it is often right to read a table from end to end,
    /// which would hide what happens later. What it misjudges, and what no index serves, still shows.
    pub async fn make_rows_dear(&self) {
        let costs = [
            ("enable_seqscan", "off"),
            ("random_page_cost", "1"),
            ("cpu_tuple_cost", "1"),
            ("cpu_index_tuple_cost", "0.5"),
        ];
        for (setting, value) in costs {
            let set = format!("set {setting} = {value}");
            self.client.batch_execute(&set).await.expect("a setting");
        }
    }

    /// Adds people who have one row each of what others have many of: see `thin.sql`.
    pub async fn thin(&self) {
        self.seed(&[THIN]).await;
    }

    /// Puts people's own tables into hash partitions by person: see `spread.sql`.
    pub async fn spread(&self) {
        self.client.batch_execute(SPREAD).await.expect("keys lead with the person");
        self.client.batch_execute("vacuum analyze").await.expect("statistics");
    }

    /// The first column of the only row that a query selects, as text.
    pub async fn ask(&self, sql: &str) -> String {
        let answer = self.client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let first = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        };
        answer.iter().find_map(first).unwrap_or_default()
    }

    /// Row count of each table.
    pub async fn sizes(&self) -> BTreeMap<String, f64> {
        let sql = "select relname, reltuples from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace";
        let rows = self.client.query(sql, &[]).await.expect("sizes");
        rows.iter().map(|row| (row.get(0), f64::from(row.get::<_, f32>(1)))).collect()
    }

    /// Runs a statement some times in one of the [`MODES`]. Returns what `explain (analyze, buffers)` says of each run.
    pub async fn explain(&self, statement: &Statement, mode: &str, runs: usize) -> Vec<Value> {
        let execute = self.prepare(statement, mode).await;
        let script = format!("begin; explain (analyze, buffers, format json) {execute}; rollback");
        let mut plans = Vec::new();
        for _ in 0..runs {
            let lines = self.lines(statement, &script).await;
            let mut explained: Value = serde_json::from_str(&lines.join("\n")).expect("a plan in JSON");
            plans.push(explained[0].take());
        }
        self.client.batch_execute("deallocate explained").await.expect("it was prepared");
        plans
    }

    /// The partitions that a statement locks, by table, in one of the [`MODES`]: to plan a scan, to run a generic plan of one, and to
    /// write a row.
    pub async fn leaves(&self, statement: &Statement, mode: &str) -> BTreeMap<String, Vec<String>> {
        let execute = self.prepare(statement, mode).await;
        let script = format!("begin; explain (analyze) {execute}; {LOCKED}; rollback");
        let lines = self.lines(statement, &script).await;
        self.client.batch_execute("deallocate explained").await.expect("it was prepared");
        let mut leaves: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (table, leaf) in lines.iter().filter_map(|line| line.strip_prefix("locked ")?.split_once(' ')) {
            leaves.entry(table.to_owned()).or_default().push(leaf.to_owned());
        }
        leaves
    }

    /// How many shards each part of a statement's plan asks, on a Citus cluster; or why the statement is refused. `None` of one that
    /// runs, and that Citus cannot explain.
    pub async fn shards(&self, statement: &Statement, mode: &str) -> Result<Option<Vec<u64>>, String> {
        let execute = self.prepare(statement, mode).await;
        let refused = |error: tokio_postgres::Error| {
            let why = error.as_db_error().map_or_else(
                || error.to_string(),
                |error| {
                    format!(
                        "{} {} {}",
                        error.code().code(),
                        error.message(),
                        error.detail().unwrap_or_default()
                    )
                },
            );
            format!("{}: {why}", statement.name)
        };
        let explained = self.client.simple_query(&format!("explain {execute}")).await;
        // What the values themselves are at fault for (classes 22 and 23) is fine: there are no rows.
        let ran = self.client.batch_execute(&format!("begin; {execute}; rollback")).await;
        self.client.batch_execute("rollback; deallocate explained").await.expect("it was prepared");
        match ran {
            Err(error) if !error.code().is_some_and(|code| ["22", "23"].contains(&&code.code()[..2])) => {
                return Err(refused(error));
            }
            _ => {}
        }
        let count = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => row.get(0)?.trim().strip_prefix("Task Count: ")?.parse().ok(),
            _ => None,
        };
        Ok(explained.ok().map(|lines| lines.iter().filter_map(count).collect()))
    }

    /// Prepares a statement as `explained`. Returns what executes it.
    async fn prepare(&self, statement: &Statement, mode: &str) -> String {
        let (client, name) = (&self.client, &statement.name);
        let literals = literals(client, statement).await;
        let prepare = format!("set plan_cache_mode = {mode}; prepare explained as {}", statement.sql);
        client.batch_execute(&prepare).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        match literals.is_empty() {
            true => "execute explained".to_owned(),
            false => format!("execute explained({})", literals.join(", ")),
        }
    }

    /// The first column of all rows that a script selects.
    async fn lines(&self, statement: &Statement, script: &str) -> Vec<String> {
        let answer = self.client.simple_query(script).await;
        let answer = answer.unwrap_or_else(|error| panic!("{}: {error:?}", statement.name));
        let first = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        };
        answer.iter().filter_map(first).collect()
    }
}

/// Before the rows are made: checks that the statement prepares and has its parameters.
async fn check(client: &Client, statement: &Statement) {
    let name = &statement.name;
    let prepared = client.prepare(&statement.sql).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    assert_eq!(statement.parameters().count(), prepared.params().len(), "{name}: parameters");
}

/// The parameter values as literals of the types that the statement expects.
async fn literals(client: &Client, statement: &Statement) -> Vec<String> {
    let quoted = |value: String| format!("'{}'", value.replace('\'', "''"));
    let values = values(client, statement).await;
    values.into_iter().map(|value| value.map_or_else(|| "null".to_owned(), quoted)).collect()
}

/// The parameter values as text.
async fn values(client: &Client, statement: &Statement) -> Vec<Option<String>> {
    let name = &statement.name;
    let prepared = client.prepare(&statement.sql).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    let values: Vec<String> = statement
        .parameters()
        .zip(prepared.params())
        .map(|(expression, wanted)| format!("({expression})::{}::text", wanted.name()))
        .collect();
    if values.is_empty() {
        return Vec::new();
    }
    let row = client.query_one(&format!("select {}", values.join(", ")), &[]).await;
    let row = row.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    (0..row.len()).map(|index| row.get(index)).collect()
}

/// A plan's steps, the first first.
pub fn steps(explained: &Value) -> Vec<&Value> {
    let mut steps = vec![&explained["Plan"]];
    let mut next = 0;
    while let Some(step) = steps.get(next).copied() {
        steps.extend(step["Plans"].as_array().into_iter().flatten());
        next += 1;
    }
    steps
}

/// The rows that a step returned or dropped, over all its repetitions. 0 if it was planned but never run.
pub fn rows_of(step: &Value) -> u64 {
    let dropped = ["Rows Removed by Filter", "Rows Removed by Join Filter", "Rows Removed by Index Recheck"];
    number(step, "Actual Rows") + dropped.map(|key| number(step, key)).iter().sum::<u64>()
}

/// The rows that a step dropped because it read its table from end to end, over all its repetitions.
pub fn passed_over(step: &Value) -> u64 {
    if step["Node Type"] == "Seq Scan" { number(step, "Rows Removed by Filter") } else { 0 }
}

/// A number of a step, over all its repetitions. Postgres rounds rows to averages over the repetitions.
fn number(step: &Value, key: &str) -> u64 {
    let number = |key: &str| step[key].as_f64().unwrap_or(0.0);
    (number(key) * number("Actual Loops")) as u64
}

/// Pages touched by a statement.
pub fn pages_of(explained: &Value) -> u64 {
    let number = |key: &str| explained["Plan"][key].as_u64().unwrap_or(0);
    number("Shared Hit Blocks") + number("Shared Read Blocks")
}
