//! What the region's auditor has found so far, and what waits for Postgres, for administrators.

use ::redis::Cmd;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use chrono::{DateTime, Utc};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::http::body::{json_response, to_json};
use optimist_plane::http::page::no_query;
use optimist_plane::http::served::{Served, on};
use optimist_plane::redis::Items;
use optimist_plane::request::Caller;
use optimist_shared::ids::Partition;
use optimist_shared::keys::Key;
use serde::Serialize;

pub fn routes() -> Vec<Served> {
    vec![on("admin.consistency", consistency)]
}

const REPORT: &str = "-- audit::report
select data_type, checked, conflicts, stale, checked_at, conflict_at from consistency where region = $1
order by data_type";

const SET_ASIDE: &str = "-- audit::set_aside
select count(*) from writes_set_aside where region = $1";

pub const STATEMENTS: &[&str] = &[REPORT, SET_ASIDE];

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
    let counts = app.redis.send(commands).await.ok()?;
    let counts: Vec<i64> = counts.into_iter().map(|value| Items::new(value).int()).collect();
    let (writes, drafts) = counts.split_at(counts.len() / 2);
    Some((writes.iter().sum(), drafts.iter().sum()))
}
