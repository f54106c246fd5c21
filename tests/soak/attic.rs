//! A circle whose messages are of months ago, for schedules that archive these. Whatever dies meanwhile, its rows are there at the end,
//! each once and as they were.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use optimist_tests::aged::add_old_messages;
use optimist_tests::{Client, Origin, System};
use serde_json::Value;
use tempfile::TempDir;

use crate::schedule::{ARCHIVING, RESTORING};
use crate::world::World;

/// Messages of each of the two months.
const EACH: usize = 120;

/// The tables whose months go together.
const TABLES: [&str; 3] = ["messages", "reactions", "reaction_counts"];

/// How long the archive may take to come to its end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A mechanism that is not an origin's: with it, an archived month's object is there when it is needed.
pub const OBJECT: &str = "object";

pub struct Attic {
    folder: Arc<TempDir>,
    circle: String,
    reader: Client,
    months: [String; 2],
    /// Messages with their bodies, one of each month.
    messages: [(String, String); 2],
    /// A digest of the circle's rows in each table.
    rows: String,
}

impl Attic {
    pub async fn new(system: &System, folder: Arc<TempDir>) -> Attic {
        let reader = system.register("Abe").await;
        let circle = reader.create_circle("public").await;
        let months = add_old_messages(system, &circle, [&reader.user, &reader.user], EACH);
        let messages = [7, EACH + 7].map(|number| {
            let of = |column: &str| {
                system.sql(&format!(
                    "select {column} from messages where circle_id = '{circle}' and number = {number}"
                ))
            };
            (of("id"), of("body"))
        });
        let rows = digest(system, &circle);
        Attic { folder, circle, reader, months, messages, rows }
    }

    /// Goes on with the archive until its next step is this one, as far as it can: a run writes months, the next detaches them once no
    /// copy is left, and one a week later drops them.
    pub fn advance(&self, system: &System, step: &str) {
        let runs = match step {
            "archive.leaving" | "archive.detached" => 1,
            "archive.dropped" => 2,
            _ if RESTORING.contains(&step) && !ARCHIVING.contains(&step) => 3,
            _ => 0,
        };
        for _ in 0..runs {
            Origin::command(&system.environment(), &["archive", "run"]);
            self.age(system);
        }
    }

    /// Lets pass the time that the archive waits for.
    pub fn age(&self, system: &System) {
        system.sql(
            "update archived set changed_at = changed_at - interval '8 days' where state in ('written', 'detached')",
        );
    }

    /// The arguments that bring the older month back.
    pub fn restore(&self) -> [&str; 4] {
        ["archive", "restore", "messages", &self.months[0]]
    }

    /// Reads messages of old months until the record is stopped: each is there, or archived, and never unknown.
    pub async fn read(&self, world: &World) {
        for turn in 0.. {
            if world.record.is_over() {
                return;
            }
            world.unlimited.forget(&self.reader).await;
            let (message, body) = &self.messages[turn % 2];
            let path = format!("/v1/circles/{}/messages", self.circle);
            let one =
                self.reader.try_send(reqwest::Method::GET, &format!("{path}/{message}"), &[], None).await;
            if let Ok(answer) = one {
                let is_same = answer.body["body"].as_str() == Some(body);
                let is_right = match answer.status {
                    200 => is_same,
                    status => status == 410 || status == 429 || status >= 500,
                };
                assert!(is_right, "an old message was answered {answer:#?}");
            }
            let list =
                self.reader.try_send(reqwest::Method::GET, &format!("{path}?limit=100"), &[], None).await;
            if let Ok(answer) = list
                && answer.status == 200
            {
                let items = answer.body["items"].as_array().map_or(0, Vec::len);
                let is_told = answer.body["archived_before"] != Value::Null;
                assert!(items > 0 || is_told, "no old message, and no word of the archive: {answer:#?}");
            }
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    }

    /// Brings the archive to its end, and everything back. Returns what is wrong.
    pub fn finish(&self, system: &System, without: &[String]) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        let archive = |arguments: &[&str]| loop {
            let (succeeded, output) =
                Origin::command(&system.environment(), &[&["archive"], arguments].concat());
            // An origin may be at it.
            if succeeded || !output.contains("another process") || Instant::now() > deadline {
                return succeeded
                    .then_some(())
                    .ok_or_else(|| format!("archive {}: {output}", arguments.join(" ")));
            }
        };
        let left = "select count(*) from archived where state not in ('dropped', 'restored')";
        loop {
            let ran = archive(&["run"]);
            self.age(system);
            let is_done = system.sql(left) == "0" && system.sql("select count(*) from archived") != "0";
            if ran.is_ok() && is_done {
                break;
            }
            if Instant::now() > deadline {
                return Err(ran.err().unwrap_or_else(|| format!("it does not end: {}", states(system))));
            }
        }
        if without.iter().any(|mechanism| mechanism == OBJECT) {
            self.lose_an_object();
        }
        archive(&["verify"])?;
        let archived = "select distinct goes_with || ' ' || to_char(month, 'YYYY-MM')
            from archived join partitioned using (name) where state = 'dropped' order by 1";
        for (table, month) in system.sql(archived).lines().filter_map(|line| line.split_once(' ')) {
            archive(&["restore", table, month])?;
        }
        let missing = "select count(*) from partitioned p, generate_series(leaf_now(p.name), leaf_now(p.name) + p.ahead) leaf
            where leaf not in (select leaves(p.name))";
        while system.sql(missing) != "0" {
            if Instant::now() > deadline {
                return Err("partitions of months to come are missing".to_owned());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        let rows = digest(system, &self.circle);
        if rows != self.rows {
            return Err(format!("its rows were {}, and are {rows}; {}", self.rows, states(system)));
        }
        // The other judges know reactions by the requests that made them, and nobody requested these.
        let circle = &self.circle;
        system.sql(&format!(
            "delete from reactions where circle_id = '{circle}'; delete from reaction_counts where circle_id = '{circle}'"
        ));
        Ok(())
    }

    fn lose_an_object(&self) {
        let objects = self.folder.path().join("messages").join(&self.months[1]);
        for object in std::fs::read_dir(objects).into_iter().flatten().flatten() {
            std::fs::remove_file(object.path()).expect("an object");
        }
    }
}

/// Where schedules that archive have their objects.
pub fn setting(folder: &TempDir) -> (&'static str, String) {
    let path: PathBuf = folder.path().into();
    ("OPTIMIST_ARCHIVE_URL", path.display().to_string())
}

fn digest(system: &System, circle: &str) -> String {
    let mut digests = String::new();
    for table in TABLES {
        let sql = format!(
            "select count(*) || ' ' || md5(string_agg(t::text, ' ' order by t::text)) from {table} t where circle_id = '{circle}'"
        );
        let _ = write!(digests, "{table} {} ", system.sql(&sql));
    }
    digests
}

fn states(system: &System) -> String {
    system.sql(
        "select string_agg(name || ' ' || month || ' ' || state, ', ' order by name, month) from archived",
    )
}
