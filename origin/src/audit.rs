//! The auditor: compares Redis with Postgres, bit by bit and for ever, where and when the two are comparable, and repairs
//! from Postgres what differs. Postgres's own sums are compared with their rows as well.
//!
//! It proves nothing about a moment: what changes while it looks is passed over, and looked at again the next time round.

mod cached;
mod derived;
mod drafts;
mod reactions;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use ::redis::{Cmd, Value};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use chrono::{DateTime, Utc};
use optimist_shared::ids::Partition;
use optimist_shared::keys::{Freshness, KEYS, Key, Parameters};
use serde::Serialize;
use tokio::sync::Mutex;

use crate::app::{Ctx, Handlers, on};
use crate::body::{json_response, to_json};
use crate::cursor::no_query;
use crate::error::{Error, Result};
use crate::redis::Items;
use crate::request::Caller;

pub use derived::STATEMENTS as DERIVED_STATEMENTS;

pub fn routes() -> Handlers {
    vec![on("admin.consistency", consistency)]
}

/// Keys compared in one pass, and keys looked at to find them: a second's work of one connection.
const COMPARED: usize = 300;
const SCANS: usize = 5;
const SCANNED: usize = 1_000;

const NOTE: &str = "-- audit::note
insert into consistency as c (region, data_type, checked, conflicts, stale, checked_at, conflict_at)
values ($1, $2, $3, $4::bigint, $5, now(), case when $4::bigint > 0 then now() end)
on conflict (region, data_type) do update
    set checked = c.checked + excluded.checked, conflicts = c.conflicts + excluded.conflicts,
        stale = c.stale + excluded.stale, checked_at = excluded.checked_at,
        conflict_at = coalesce(excluded.conflict_at, c.conflict_at)";

const REPORT: &str = "-- audit::report
select data_type, checked, conflicts, stale, checked_at, conflict_at from consistency where region = $1
order by data_type";

const SET_ASIDE: &str = "-- audit::set_aside
select count(*) from writes_set_aside where region = $1";

pub const STATEMENTS: &[&str] = &[NOTE, REPORT, SET_ASIDE];

/// What comparing came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub checked: i64,
    /// Differed where it must not have.
    pub conflicts: i64,
    /// Older than Postgres, as the key's row allows.
    pub stale: i64,
}

impl Tally {
    const SAME: Tally = Tally { checked: 1, conflicts: 0, stale: 0 };
    const CONFLICT: Tally = Tally { checked: 1, conflicts: 1, stale: 0 };
    const STALE: Tally = Tally { checked: 1, conflicts: 0, stale: 1 };
    /// It changed, or is not believed by anyone anyway.
    const PASSED_OVER: Tally = Tally { checked: 0, conflicts: 0, stale: 0 };

    fn add(&mut self, other: Tally) {
        self.checked += other.checked;
        self.conflicts += other.conflicts;
        self.stale += other.stale;
    }
}

/// By data type.
pub type Findings = BTreeMap<&'static str, Tally>;

/// How far one has come: through Redis's keys, and through Postgres's sums.
#[derive(Default)]
pub struct Walk {
    redis: u64,
    derived: derived::Walk,
}

/// What is looked at, and what is done about it.
#[derive(Clone, Copy)]
pub struct Audit<'a> {
    pub app: &'a Ctx,
    /// Whether what differs is repaired.
    pub repair: bool,
    /// One data type alone.
    pub only: Option<&'a str>,
}

/// All data types that are compared.
pub fn data_types() -> Vec<&'static str> {
    let cached = KEYS.iter().filter(|row| is_compared(row.key)).map(|row| row.data_type);
    cached.chain(derived::DATA_TYPES).collect()
}

fn is_compared(key: Key) -> bool {
    key.row().freshness != Freshness::Own || key == Key::JournalKey
}

/// The job: a pass, and its findings noted.
pub async fn run(app: &Ctx) -> Result<u64> {
    // Whichever origin runs it goes its own round.
    static WALK: LazyLock<Mutex<Walk>> = LazyLock::new(Mutex::default);
    let mut walk = WALK.lock().await;
    let (findings, _) = Audit { app, repair: true, only: None }.pass(&mut walk).await?;
    for (data_type, tally) in &findings {
        let numbers: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&tally.checked, &tally.conflicts, &tally.stale];
        app.db.query(NOTE, &[&app.config.region, data_type, numbers[0], numbers[1], numbers[2]]).await?;
        metrics::counter!("optimist_audited_total", "type" => *data_type)
            .increment(tally.checked.cast_unsigned());
        metrics::counter!("optimist_conflicts_total", "type" => *data_type)
            .increment(tally.conflicts.cast_unsigned());
    }
    Ok(findings.values().map(|tally| tally.checked.cast_unsigned()).sum())
}

/// Compares everything, once. Fails if nobody vouches for Redis: then nothing there is comparable.
pub async fn check(audit: Audit<'_>) -> Result<Findings> {
    let mut vouch = Cmd::new();
    vouch.arg("EXISTS").arg(Key::Vouch.of_partition(Partition::COMMON));
    let vouched = audit.app.cache.redis.send([vouch]).await.map_err(|_| Error::unavailable("The cache"))?;
    if vouched.into_iter().map(|value| Items::new(value).int()).sum::<i64>() == 0 {
        return Err(Error::unavailable("A relay that vouches for the cache"));
    }
    let mut walk = Walk::default();
    let mut all = Findings::new();
    loop {
        let (findings, is_round) = audit.pass(&mut walk).await?;
        for (data_type, tally) in findings {
            all.entry(data_type).or_default().add(tally);
        }
        if is_round {
            return Ok(all);
        }
    }
}

impl Audit<'_> {
    fn wants(&self, data_type: &str) -> bool {
        self.only.is_none_or(|only| only == data_type)
    }

    /// Goes on from where the last pass ended. Whether everything has been looked at now.
    async fn pass(&self, walk: &mut Walk) -> Result<(Findings, bool)> {
        let mut findings = Findings::new();
        let names = if walk.redis == u64::MAX { Vec::new() } else { self.scan(&mut walk.redis).await? };
        for name in names {
            let Some((key, parameters)) = Key::parse(&name).filter(|(key, _)| is_compared(*key)) else {
                continue;
            };
            let data_type = key.row().data_type;
            if self.wants(data_type) {
                let tally = self.compare(key, parameters, &name).await?;
                if tally.conflicts > 0 {
                    tracing::warn!(
                        key = name,
                        data_type,
                        repaired = self.repair,
                        "redis differed from postgres"
                    );
                }
                findings.entry(data_type).or_default().add(tally);
            }
        }
        let derived_round = derived::pass(self, &mut walk.derived, &mut findings).await?;
        let is_round = walk.redis == u64::MAX && derived_round;
        if is_round {
            *walk = Walk::default();
        }
        Ok((findings, is_round))
    }

    /// The next keys. `u64::MAX` once there are none left.
    async fn scan(&self, cursor: &mut u64) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for _ in 0..SCANS {
            let mut scan = Cmd::new();
            scan.arg("SCAN").arg(*cursor).arg("COUNT").arg(SCANNED);
            let values =
                self.app.cache.redis.send([scan]).await.map_err(|_| Error::unavailable("The cache"))?;
            let Some(Value::Array(parts)) = values.into_iter().next() else { return Ok(names) };
            let mut parts = parts.into_iter();
            let next = Items::new(parts.next().unwrap_or(Value::Nil)).text().parse().unwrap_or(0);
            if let Some(Value::Array(found)) = parts.next() {
                let found = found.into_iter().map(|name| Items::new(name).text());
                names.extend(found.filter(|name| Key::parse(name).is_some_and(|(key, _)| is_compared(key))));
            }
            *cursor = if next == 0 { u64::MAX } else { next };
            if next == 0 || names.len() >= COMPARED {
                break;
            }
        }
        Ok(names)
    }

    async fn compare(&self, key: Key, parameters: Parameters, name: &str) -> Result<Tally> {
        match key {
            Key::Reactions | Key::Counts | Key::CountsPage => reactions::compare(self, parameters).await,
            Key::Draft => drafts::compare(self, parameters, name).await,
            Key::JournalKey => cached::compare_key(self, parameters, name).await,
            Key::Session => cached::compare_session(self, parameters, name).await,
            _ => cached::compare_copy(self, key, parameters, name).await,
        }
    }
}

#[derive(Serialize)]
struct Compared {
    data_type: String,
    checked: i64,
    conflicts: i64,
    stale: i64,
    checked_at: DateTime<Utc>,
    conflict_at: Option<DateTime<Utc>>,
}

/// What the region's auditor has found so far, and what waits for Postgres.
async fn consistency(State(app): State<Ctx>, _: Caller, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let rows = app.db.query(REPORT, &[&app.config.region]).await?;
    let items: Vec<Compared> = rows
        .iter()
        .map(|row| Compared {
            data_type: row.get(0),
            checked: row.get(1),
            conflicts: row.get(2),
            stale: row.get(3),
            checked_at: row.get(4),
            conflict_at: row.get(5),
        })
        .collect();
    let set_aside = app.db.query_opt(SET_ASIDE, &[&app.config.region]).await?;
    let waiting = waiting(&app).await;
    let body = serde_json::json!({
        "items": items,
        "next": null,
        "region": app.config.region,
        "mode": app.region.mode().as_str(),
        "writes_waiting": waiting.map(|(writes, _)| writes),
        "drafts_waiting": waiting.map(|(_, drafts)| drafts),
        "writes_set_aside": set_aside.map_or(0, |row| row.get::<_, i64>(0)),
    });
    Ok(json_response(200, None, to_json(&body)?))
}

/// How many writes and drafts are not in Postgres yet. `None` without Redis.
async fn waiting(app: &Ctx) -> Option<(i64, i64)> {
    let length = |command: &str, key: Key| -> Vec<Cmd> {
        let of = |partition: Partition| {
            let mut length = Cmd::new();
            length.arg(command).arg(key.of_partition(partition));
            length
        };
        Partition::all().map(of).collect()
    };
    let commands = [length("XLEN", Key::Writes), length("ZCARD", Key::DirtyDrafts)].concat();
    let counts = app.cache.redis.send(commands).await.ok()?;
    let counts: Vec<i64> = counts.into_iter().map(|value| Items::new(value).int()).collect();
    let (writes, drafts) = counts.split_at(counts.len() / 2);
    Some((writes.iter().sum(), drafts.iter().sum()))
}
