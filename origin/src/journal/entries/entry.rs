//! An entry: how a row opens, and how its owner gets it.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use chrono::NaiveDate;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{json_response, tagged, to_json};
use optimist_plane::http::page::no_query;
use optimist_plane::http::time::Time;
use optimist_plane::request::Caller;
use optimist_plane::statements;
use optimist_shared::error::ErrorCode;
use optimist_shared::etag::entity_tag;
use optimist_shared::ids::{Id, Uuid};
use schemars::JsonSchema;
use serde::Serialize;
use tokio_postgres::Row;

use crate::journal::content::Content;
use crate::journal::sealing::{Sealer, What, sealer};

/// An entry, opened.
#[derive(Serialize, JsonSchema)]
pub struct Entry {
    pub id: Uuid,
    #[serde(flatten)]
    pub content: Content,
    pub entry_date: NaiveDate,
    created_at: Time,
    updated_at: Time,
    #[serde(skip)]
    pub version: i64,
}

impl Entry {
    /// Opens a row of `id, version, sealed, entry_date, created_at, updated_at`.
    pub fn open(sealer: &Sealer, row: &Row) -> Result<Entry> {
        let (id, version): (Uuid, i64) = (row.get("id"), row.get("version"));
        let content = sealer.open(What::Entry, id, &version.to_string(), row.get("sealed"))?;
        Ok(Entry {
            id,
            content: Content::from_bytes(&content)?,
            entry_date: row.get("entry_date"),
            created_at: row.get("created_at"),
            updated_at: row.get("updated_at"),
            version,
        })
    }

    pub fn respond(&self, status: u16) -> Result<Response> {
        Ok(json_response(status, Some(tag(self.version)), to_json(self)?))
    }
}

/// The entity tag of an entry at this version.
pub fn tag(version: i64) -> String {
    entity_tag(&version.to_string(), "")
}

statements! {
    pub const SELECT: &str = "-- journal::select
select id, version, sealed, entry_date, created_at, updated_at from journal_entries where user_id = $1 and id = $2";
}

pub async fn get(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let row = ctx.db.query_opt(SELECT, &[&caller.user, &caller.request.id(Id::Entry)?]).await?;
    let row = row.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    let entry = Entry::open(&sealer(&ctx, caller.user).await?, &row)?;
    Ok(tagged(&headers, &entry.version.to_string(), "", to_json(&entry)?))
}
