//! What a database takes beside time: bytes on disk by row, bytes of the write-ahead log by write, planning, and vacuum.

use std::collections::BTreeMap;
use std::time::Instant;

use optimist_tests::sql::{Full, MODES, Statement, Timed};
use serde::Serialize;

use crate::report::{Figure, Target};
use crate::samples::Samples;

/// Rows and bytes, indexes included, of each table with all its partitions.
const TABLES: &str = "select string_agg(concat_ws(' ', name, rows, bytes), ';' order by name) from (
    select coalesce(i.inhparent, c.oid)::regclass::text as name, sum(c.reltuples)::bigint as rows,
        sum(pg_total_relation_size(c.oid)) as bytes
    from pg_class c left join pg_inherits i on i.inhrelid = c.oid
    where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace and c.reltuples > 0
    group by 1) of_table";

/// What a person has in any case: an account, log-ins, memberships, a journal's key, and the counts of notifications.
const OF_PEOPLE: [&str; 5] = ["users", "sessions", "memberships", "journal_keys", "notification_counts"];

/// Runs whose median counts.
const RUNS: usize = 7;

#[derive(Serialize)]
pub struct Database {
    tables: BTreeMap<String, Table>,
    /// Milliseconds of a plan, of statements that are planned anew.
    planning_ms: BTreeMap<String, f64>,
    /// Bytes of the log by run, of statements that write.
    log_bytes: BTreeMap<String, u64>,
    vacuum: Vacuum,
}

#[derive(Serialize)]
struct Table {
    rows: u64,
    bytes: u64,
}

/// Seconds of vacuum, of all partitions of messages.
#[derive(Default, Serialize)]
struct Vacuum {
    /// When nothing has changed since the last.
    unchanged_s: f64,
    /// When a hundredth of the present month was edited.
    edited_s: f64,
    edited_rows: u64,
}

impl Database {
    pub async fn of(database: &Full) -> Database {
        let text = database.ask(TABLES).await;
        let table = |line: &str| {
            let mut words = line.split(' ');
            let name = words.next()?.to_owned();
            let mut number = || words.next()?.parse().ok();
            Some((name, Table { rows: number()?, bytes: number()? }))
        };
        let tables = text.split(';').map(|line| table(line).expect("three words")).collect();
        Database {
            tables,
            planning_ms: BTreeMap::new(),
            log_bytes: BTreeMap::new(),
            vacuum: Vacuum::default(),
        }
    }

    /// Measures what disturbs the others: planning, the log, vacuum.
    pub async fn after(&mut self, database: &Full, statements: &[Statement]) {
        for statement in statements {
            if statement.planned_anew {
                let plans = database.explain(statement, MODES[0], RUNS).await;
                let times: Samples = plans.iter().filter_map(|plan| plan["Planning Time"].as_f64()).collect();
                self.planning_ms.insert(statement.name.clone(), times.median());
            }
            let timed = Timed::new(database, statement).await;
            let mut written = Vec::new();
            for _ in 0..RUNS {
                written.push(timed.written().await as f64);
            }
            // The first run after a checkpoint writes whole pages; the median leaves that out.
            let bytes = Samples(written).median() as u64;
            if bytes > 0 {
                self.log_bytes.insert(statement.name.clone(), bytes);
            }
        }
        let vacuum = async || {
            let began = Instant::now();
            database.ask("vacuum messages").await;
            began.elapsed().as_secs_f64()
        };
        vacuum().await;
        self.vacuum.unchanged_s = vacuum().await;
        let edited = "with edited as (
                update messages set body = body || '.', version = version + 1
                where id >= id_least(month_begin(leaf_now('messages'))) and hashtext(id::text) % 100 = 0 returning 1)
            select count(*) from edited";
        self.vacuum.edited_rows = database.ask(edited).await.parse().expect("a count");
        self.vacuum.edited_s = vacuum().await;
    }

    /// Bytes of a row of these tables, by the rows of the first.
    fn bytes(&self, tables: &[&str]) -> f64 {
        let rows = self.tables.get(tables[0]).map_or(0, |table| table.rows);
        let bytes: u64 = tables.iter().filter_map(|name| Some(self.tables.get(*name)?.bytes)).sum();
        bytes as f64 / rows as f64
    }

    pub fn figures(&self) -> [Figure; 3] {
        let figure =
            |what: &str, tables: &[&str]| Figure::plain(what, "bytes", [self.bytes(tables)], Target::None);
        [
            figure("A message on disk, with its indexes", &["messages"]),
            figure("A person on disk: account, log-in, memberships, keys, counts", &OF_PEOPLE),
            figure("A notification on disk", &["notifications"]),
        ]
    }

    pub fn print(&self) {
        let rows: u64 = self.tables.values().map(|table| table.rows).sum();
        let bytes: u64 = self.tables.values().map(|table| table.bytes).sum();
        println!("\n  {:.1} million rows, {:.2} GB", rows as f64 / 1e6, bytes as f64 / 1e9);
        for (name, table) in &self.tables {
            let each = table.bytes as f64 / table.rows as f64;
            println!("    {name:<26} {:>10} rows {:>12} bytes {each:>7.0} each", table.rows, table.bytes);
        }
        let planning: Samples = self.planning_ms.values().copied().collect();
        println!("  planning anew: median {:.3} ms, at most {:.3} ms", planning.median(), planning.most());
        let Vacuum { unchanged_s, edited_s, edited_rows } = self.vacuum;
        println!(
            "  vacuum of messages: {unchanged_s:.2} s unchanged, {edited_s:.2} s after {edited_rows} edits"
        );
        for (name, bytes) in &self.log_bytes {
            println!("    {name:<32} {bytes:>9} bytes of log");
        }
    }
}
