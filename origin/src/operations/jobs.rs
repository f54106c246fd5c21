//! The region's jobs, and how they went, for administrators.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use chrono::{DateTime, Utc};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::http::body::{json_response, to_json};
use optimist_plane::http::page::no_query;
use optimist_plane::http::served::{Served, on};
use optimist_plane::jobs::all;
use optimist_plane::request::Caller;
use serde::Serialize;

pub fn routes() -> Vec<Served> {
    vec![on("admin.jobs", list)]
}

const LIST: &str = "-- jobs::list
select name, every_seconds, started_at, finished_at, done, error from jobs where region = $1 order by name";

pub const STATEMENTS: &[&str] = &[LIST];

/// A job of this region, as administrators see it.
#[derive(Serialize)]
struct Run {
    name: String,
    what: &'static str,
    every_seconds: i32,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    done: Option<i64>,
    error: Option<String>,
}

async fn list(State(app): State<Ctx>, _: Caller, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let rows = app.db.query(LIST, &[&app.config.region]).await?;
    let runs: Vec<Run> = rows
        .iter()
        .filter_map(|row| {
            let name: String = row.get(0);
            Some(Run {
                what: all(&app).find(|job| job.name == name)?.what,
                name,
                every_seconds: row.get(1),
                started_at: row.get(2),
                finished_at: row.get(3),
                done: row.get(4),
                error: row.get(5),
            })
        })
        .collect();
    Ok(json_response(200, None, to_json(&serde_json::json!({"items": runs, "next": null}))?))
}
