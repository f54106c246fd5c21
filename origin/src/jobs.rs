//! What is done now and then: sessions in use are written back, what has expired is removed, the edge's counters are read.
//!
//! Several origins may run each job at once: all of them are idempotent.

use std::fmt::Write as _;
use std::time::Duration;

use ::redis::{Cmd, Value};
use optimist_shared::ids::{Partition, Uuid, parse_id};
use optimist_shared::keys::Key;

use crate::app::Ctx;
use crate::error::Result;
use crate::redis::Items;

/// Well within the five minutes between two notes of a session.
const WRITE_BACK_EVERY: Duration = Duration::from_secs(30);
const CLEAN_EVERY: Duration = Duration::from_secs(3600);

const WRITE_BACK: &str = "-- jobs::write_back_sessions
update sessions
set idle_until = greatest(idle_until, least(to_timestamp(used.at / 1000.0) + interval '30 minutes', absolute_until)),
    first_used_at = coalesce(first_used_at, now())
from unnest($1::uuid[], $2::bigint[]) as used (id, at)
where sessions.id = used.id and revoked_at is null and idle_until > now()";

const CLEAN: &[&str] = &[
    "-- jobs::clean_idempotency
delete from idempotency where created_at < now() - interval '24 hours'",
    // Once every region that lives is past them.
    "-- jobs::clean_outbox
with gone as (
    delete from outbox where created_at < now() - interval '24 hours'
      and (xid, seq) <= (
          select cursor_xid, cursor_seq from regions where seen_at > now() - interval '1 day'
          order by cursor_xid, cursor_seq limit 1)
    returning xid, seq)
update outbox_floor set (xid, seq) = (select xid, seq from gone order by xid desc, seq desc limit 1)
where exists (select from gone)",
    "-- jobs::clean_sessions
delete from sessions where absolute_until < now() - interval '1 day'",
    "-- jobs::clean_login_attempts
delete from login_attempts where attempted_at < now() - interval '1 day'",
    "-- jobs::clean_origins
delete from origins where seen_at < now() - interval '1 day'",
];

const CLEAN_IDEMPOTENCY: &str = CLEAN[0];
const CLEAN_OUTBOX: &str = CLEAN[1];
const CLEAN_SESSIONS: &str = CLEAN[2];
const CLEAN_LOGIN_ATTEMPTS: &str = CLEAN[3];
const CLEAN_ORIGINS: &str = CLEAN[4];

const SILENT_REGIONS: &str = "-- jobs::silent_regions
select name from regions where seen_at < now() - interval '1 day'";

pub const STATEMENTS: &[&str] = &[
    WRITE_BACK,
    SILENT_REGIONS,
    CLEAN_IDEMPOTENCY,
    CLEAN_OUTBOX,
    CLEAN_SESSIONS,
    CLEAN_LOGIN_ATTEMPTS,
    CLEAN_ORIGINS,
];

/// Runs until the process ends.
pub async fn run(app: Ctx) {
    let mut write_back = tokio::time::interval(WRITE_BACK_EVERY);
    let mut clean = tokio::time::interval(CLEAN_EVERY);
    loop {
        tokio::select! {
            _ = write_back.tick() => {
                if let Err(error) = write_back_sessions(&app).await {
                    tracing::warn!(code = error.code.as_str(), "sessions were not written back; the next run does it");
                }
            }
            _ = clean.tick() => {
                report_silent_regions(&app).await;
                for statement in CLEAN {
                    if app.db.query(statement, &[]).await.is_err() {
                        tracing::warn!(statement = statement.lines().next(), "not cleaned; the next run does it");
                    }
                }
            }
        }
    }
}

/// A region that nobody hears of is not waited for; somebody should know.
async fn report_silent_regions(app: &Ctx) {
    let rows = app.db.query(SILENT_REGIONS, &[]).await.unwrap_or_default();
    metrics::gauge!("optimist_silent_regions").set(rows.len() as f64);
    for row in rows {
        tracing::warn!(
            region = row.get::<_, String>(0),
            "no origin of this region was seen for a day: its events are not kept"
        );
    }
}

/// Tells Postgres of sessions that were used, so that they outlive a Redis that loses them.
async fn write_back_sessions(app: &Ctx) -> Result<()> {
    let read: Vec<Cmd> = Partition::all()
        .map(|partition| {
            let mut command = Cmd::new();
            command.arg("ZRANGE").arg(Key::Touched.of_partition(partition)).arg(0).arg(-1).arg("WITHSCORES");
            command
        })
        .collect();
    let Ok(values) = app.cache.redis.send(&read).await else { return Ok(()) };
    let (mut ids, mut times, mut done): (Vec<Uuid>, Vec<i64>, Vec<Cmd>) = Default::default();
    for (partition, value) in Partition::all().zip(values) {
        let Value::Array(pairs) = value else { continue };
        let mut items = Items::new(Value::Array(pairs.clone()));
        for _ in 0..pairs.len() / 2 {
            let (member, at) = (items.text(), items.text());
            let session = member.split_once(':').and_then(|(_, session)| parse_id(session));
            if let (Some(session), Ok(at)) = (session, at.parse::<f64>()) {
                ids.push(session);
                times.push(at as i64);
            }
            let mut command = Cmd::new();
            command.arg("ZREM").arg(Key::Touched.of_partition(partition)).arg(member);
            done.push(command);
        }
    }
    if ids.is_empty() {
        return Ok(());
    }
    app.db.query(WRITE_BACK, &[&ids, &times]).await?;
    // Left in place, they are written back once more.
    let _ = app.cache.redis.send(&done).await;
    Ok(())
}

/// Hits, misses and refusals as the edge's scripts counted them, in Prometheus's text format.
pub async fn edge_counters(app: &Ctx) -> String {
    let read: Vec<Cmd> = Partition::all()
        .map(|partition| {
            let mut command = Cmd::new();
            command.arg("HGETALL").arg(Key::Metrics.of_partition(partition));
            command
        })
        .collect();
    let Ok(values) = app.cache.redis.send(&read).await else { return String::new() };
    let mut counts = std::collections::BTreeMap::<(String, String), i64>::new();
    for value in values {
        let Value::Array(pairs) = value else { continue };
        let count = pairs.len() / 2;
        let mut items = Items::new(Value::Array(pairs));
        for _ in 0..count {
            let (field, number) = (items.text(), items.int());
            if let Some((what, name)) = field.split_once(':') {
                *counts.entry((what.to_owned(), name.to_owned())).or_default() += number;
            }
        }
    }
    let mut page = String::new();
    let families = [
        ("hit", "optimist_edge_hits_total", "type"),
        ("miss", "optimist_edge_misses_total", "type"),
        ("limit", "optimist_edge_limited_total", "policy"),
    ];
    for (what, metric, label) in families {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "# TYPE {metric} counter");
        for ((_, name), count) in counts.iter().filter(|((kind, _), _)| kind == what) {
            let _ = writeln!(page, "{metric}{{{label}=\"{name}\"}} {count}");
        }
    }
    page
}
