//! For administrators: the policy tables, and copies that they drop by name.
//!
//! [`crate::people::admin`] decides who is an administrator.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use optimist_plane::cache::fence::drop_copies;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::digest;
use optimist_plane::http::body::{json_response, tagged, to_json};
use optimist_plane::http::page::no_query;
use optimist_plane::http::served::{Served, on};
use optimist_plane::request::Caller;
use optimist_plane::{describe, transaction};
use optimist_shared::error::ErrorCode;
use optimist_shared::keys::{BoundKey, Freshness, Key};
use schemars::JsonSchema;
use serde::Serialize;

use crate::operations::policies::{self, Policies};

pub fn routes() -> Vec<Served> {
    vec![
        on("admin.policies", show_policies)
            .says("The tables of routes, keys and limits. For administrators.")
            .answers::<Policies>(200)
            .tagged(),
        on("admin.drop-copy", drop_copy)
            .says("Drop a copy from Redis, by its name there. For administrators.")
            .notes(
                "The next reader gets what Postgres has. What is no copy of anything in Postgres is refused.",
            )
            .path::<CopyName>("key")
            .answers::<DroppedCopy>(200)
            .refuses(&[ErrorCode::Invalid]),
    ]
}

async fn show_policies(_: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let json = to_json(&policies::all())?;
    Ok(tagged(&headers, &digest(&[&json]), "", json))
}

/// The name of a copy in Redis.
struct CopyName;

describe!(CopyName, {
    "type": "string", "minLength": 1, "description": "As `GET /v1/admin/policies` describes keys.",
});

#[derive(Serialize, JsonSchema)]
struct DroppedCopy {
    key: String,
    /// How many copies there were.
    #[schemars(range(min = 0))]
    dropped: u64,
}

/// Drops a copy by its name in Redis, whether or not it is there: the next reader gets what Postgres has. Refuses the names of
/// keys that are no copies, or that hold something which Postgres does not have yet.
async fn drop_copy(State(ctx): State<Ctx>, caller: Caller, Path(name): Path<String>) -> Result<Response> {
    let is_copy = |key: Key| match key.row().freshness {
        Freshness::Fenced | Freshness::Ttl => true,
        Freshness::Live => matches!(key, Key::Reactions | Key::Counts | Key::CountsPage),
        Freshness::Own => false,
    };
    let key = BoundKey::parse(&name)
        .filter(|key| is_copy(key.key()))
        .ok_or_else(|| Error::invalid("key", "is not the name of a copy in Redis"))?;
    // The page of counts is made of the counts, and goes with them.
    let page = key.beside(Key::CountsPage).filter(|_| key.key() == Key::Counts);
    let names: Vec<String> = std::iter::once(key).chain(page).map(|key| key.name()).collect();
    let context = caller.writes("admin::drop_copy", []);
    // The record of who did it comes first: it does no harm if the copy is not dropped afterwards.
    transaction!(&ctx, context, |tx| {
        tx.event("admin.copy-dropped", serde_json::json!({"key": name}));
        Ok(())
    })?;
    let dropped = drop_copies(&ctx, &names).await;
    let dropped = dropped.map_err(|_| Error::unavailable("The cache"))?;
    Ok(json_response(200, None, to_json(&DroppedCopy { key: name, dropped })?))
}
