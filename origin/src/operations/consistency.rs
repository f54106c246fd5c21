//! For administrators: what the region's auditor has found so far, and how much waits for Postgres.
//!
//! Nothing is compared here: the auditor ([`optimist_plane::audit`]) does that, and notes its findings in a table.

use ::redis::Cmd;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::http::body::{json_response, to_json};
use optimist_plane::http::page::no_query;
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::redis::Items;
use optimist_plane::request::Caller;
use optimist_plane::statements;
use optimist_shared::ids::Partition;
use optimist_shared::keys::Key;
use optimist_shared::scripts::Scalars as _;
use schemars::JsonSchema;
use serde::Serialize;

pub fn routes() -> Vec<Served> {
    vec![
        on("admin.consistency", consistency)
            .says("What the region's auditor has compared and found. For administrators.")
            .notes(
                "`conflicts` differed from Postgres where they must not have, and were repaired; `stale` were as old as \
                 they may be. What waits for Postgres is null while Redis is away.",
            )
            .answers::<Consistency>(200),
    ]
}

statements! {
    const REPORT: &str = "-- audit::report
select data_type, checked, conflicts, stale, checked_at, conflict_at from consistency where region = $1
order by data_type";

    const SET_ASIDE: &str = "-- audit::set_aside
select count(*) from writes_set_aside where region = $1";
}

#[derive(Serialize, JsonSchema)]
struct Compared {
    data_type: String,
    /// Compared so far.
    #[schemars(range(min = 0))]
    checked: i64,
    /// Differed where they must not have.
    #[schemars(range(min = 0))]
    conflicts: i64,
    /// Were older, as they may be.
    #[schemars(range(min = 0))]
    stale: i64,
    checked_at: Time,
    conflict_at: Option<Time>,
}

#[derive(Serialize, JsonSchema)]
struct Consistency {
    items: Vec<Compared>,
    next: (),
    region: String,
    mode: &'static str,
    /// Writes that are not in Postgres yet.
    #[schemars(range(min = 0))]
    writes_waiting: Option<i64>,
    /// Drafts that are not in Postgres yet.
    #[schemars(range(min = 0))]
    drafts_waiting: Option<i64>,
    /// Writes that could not be applied, for somebody to look at.
    #[schemars(range(min = 0))]
    writes_set_aside: i64,
}

async fn consistency(State(ctx): State<Ctx>, _: Caller, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let rows = ctx.db.query(REPORT, &[&ctx.config.region]).await?;
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
    let set_aside = ctx.db.query_opt(SET_ASIDE, &[&ctx.config.region]).await?;
    let waiting = waiting(&ctx).await;
    let body = Consistency {
        items,
        next: (),
        region: ctx.config.region.clone(),
        mode: ctx.region.mode().as_str(),
        writes_waiting: waiting.map(|(writes, _)| writes),
        drafts_waiting: waiting.map(|(_, drafts)| drafts),
        writes_set_aside: set_aside.map_or(0, |row| row.get(0)),
    };
    Ok(json_response(200, None, to_json(&body)?))
}

/// How many writes and drafts are not in Postgres yet. `None` without Redis.
async fn waiting(ctx: &Ctx) -> Option<(i64, i64)> {
    let length = |command: &str, key: Key| -> Vec<Cmd> {
        let of = |partition: Partition| {
            let mut length = Cmd::new();
            length.arg(command).arg(key.of_partition(partition));
            length
        };
        Partition::all().map(of).collect()
    };
    let commands = [length("XLEN", Key::Writes), length("ZCARD", Key::DirtyDrafts)].concat();
    let counts = ctx.redis.send(commands).await.ok()?;
    let counts: Vec<i64> = counts.into_iter().map(|value| Items::new(value).int()).collect();
    let (writes, drafts) = counts.split_at(counts.len() / 2);
    Some((writes.iter().sum(), drafts.iter().sum()))
}
