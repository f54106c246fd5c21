//! What the service tells administrators of its policies, and copies that they drop.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use optimist_shared::keys::{Freshness, Key};

use crate::operations::policies;
use optimist_plane::cache::fence::drop_copies;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::digest;
use optimist_plane::http::body::{json_response, tagged, to_json};
use optimist_plane::http::page::no_query;
use optimist_plane::http::served::{Served, on};
use optimist_plane::postgres::write::WriteContext;
use optimist_plane::request::Caller;
use optimist_plane::transaction;

pub fn routes() -> Vec<Served> {
    vec![on("admin.policies", show_policies), on("admin.drop-copy", drop_copy)]
}

/// Drops a copy by its name in Redis, whatever there is of it: the next reader gets what Postgres has. What is no copy, and
/// what Postgres does not have yet, is refused.
async fn drop_copy(State(app): State<Ctx>, caller: Caller, Path(name): Path<String>) -> Result<Response> {
    let is_copy = |key: Key| match key.row().freshness {
        Freshness::Fenced | Freshness::Ttl => true,
        Freshness::Live => matches!(key, Key::Reactions | Key::Counts | Key::CountsPage),
        Freshness::Own => false,
    };
    let (key, parameters) = Key::parse(&name)
        .filter(|(key, _)| is_copy(*key))
        .ok_or_else(|| Error::invalid("key", "is not the name of a copy in Redis"))?;
    // With what was made of it.
    let page = Key::CountsPage.render(&parameters).filter(|_| key == Key::Counts);
    let names: Vec<String> = std::iter::once(name.clone()).chain(page).collect();
    let context = WriteContext {
        name: "admin::drop_copy",
        request: &caller.request,
        actor: caller.actor(),
        order: &[],
    };
    // Who did it, for the record; first, since it harms nobody if it is not done.
    transaction!(&app, context, |tx| {
        tx.event("admin.copy-dropped", serde_json::json!({"key": name}));
        Ok(())
    })?;
    let dropped = drop_copies(&app, &names).await;
    let dropped = dropped.map_err(|_| Error::unavailable("The cache"))?;
    Ok(json_response(200, None, to_json(&serde_json::json!({"key": name, "dropped": dropped}))?))
}

async fn show_policies(_: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let json = policies::json().to_string();
    Ok(tagged(&headers, &digest(&[json.as_bytes()]), "", json))
}
