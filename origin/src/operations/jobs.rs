//! The region's jobs, and how they went, for administrators. They run in [`optimist_plane::jobs`].

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::http::body::{json_response, to_json};
use optimist_plane::http::page::{List, no_query};
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::jobs::all;
use optimist_plane::request::Caller;
use optimist_plane::statements;
use schemars::JsonSchema;
use serde::Serialize;

pub fn routes() -> Vec<Served> {
    vec![
        on("admin.jobs", list)
            .says("The region's jobs, and how they went. For administrators.")
            .answers::<List<Run>>(200),
    ]
}

statements! {
    const LIST: &str = "-- jobs::list
select name, every_seconds, started_at, finished_at, done, error from jobs where region = $1 order by name";
}

/// A job of this region, as administrators see it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Job")]
struct Run {
    name: String,
    what: &'static str,
    /// Seconds from one start to the next.
    #[schemars(range(min = 0))]
    every_seconds: i32,
    started_at: Option<Time>,
    finished_at: Option<Time>,
    /// Rows dealt with.
    #[schemars(range(min = 0))]
    done: Option<i64>,
    error: Option<String>,
}

async fn list(State(ctx): State<Ctx>, _: Caller, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let rows = ctx.db.query(LIST, &[&ctx.config.region]).await?;
    let runs: Vec<Run> = rows
        .iter()
        .filter_map(|row| {
            let name: String = row.get(0);
            Some(Run {
                what: all(&ctx).find(|job| job.name == name)?.what,
                name,
                every_seconds: row.get(1),
                started_at: row.get(2),
                finished_at: row.get(3),
                done: row.get(4),
                error: row.get(5),
            })
        })
        .collect();
    Ok(json_response(200, None, to_json(&List::whole(runs))?))
}
