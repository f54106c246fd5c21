//! A message: as clients get it, with its live reaction counts joined.

use std::ops::RangeInclusive;

use axum::response::Response;
use chrono::{DateTime, Utc};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{json_response, to_json};
use optimist_plane::postgres::transaction::Tx;
use optimist_shared::envelope::render_object;
use optimist_shared::error::ErrorCode;
use optimist_shared::etag::entity_tag;
use optimist_shared::ids::Uuid;
use optimist_shared::reactions::{Counts, counts_version};
use serde::Serialize;
use tokio_postgres::Row;

use crate::people::person::Person;
use crate::reactions::live;

/// Characters of a message.
pub const BODY: RangeInclusive<usize> = 1..=8000;

#[derive(Serialize)]
pub struct Message {
    pub id: Uuid,
    pub circle_id: Uuid,
    pub number: i64,
    author: Person,
    body: String,
    created_at: DateTime<Utc>,
    edited_at: Option<DateTime<Utc>>,
    #[serde(skip)]
    version: i64,
}

impl Message {
    /// From: id, circle_id, number, author_id, author_name, body, created_at, edited_at, version.
    pub fn from_row(row: &Row) -> Message {
        Message {
            id: row.get("id"),
            circle_id: row.get("circle_id"),
            number: row.get("number"),
            author: Person { id: row.get("author_id"), name: row.get("author_name") },
            body: row.get("body"),
            created_at: row.get("created_at"),
            edited_at: row.get("edited_at"),
            version: row.get("version"),
        }
    }

    /// With its live reaction counts joined.
    pub async fn respond(&self, app: &Ctx, status: u16) -> Result<Response> {
        let counts = live::counts(app, self.circle_id, &[self.id]).await?;
        self.respond_with(counts.get(&self.id).copied().unwrap_or_default(), status)
    }

    pub fn respond_with(&self, counts: Counts, status: u16) -> Result<Response> {
        let tag = entity_tag(&self.version.to_string(), &counts_version(&[Some(counts)]));
        Ok(json_response(status, Some(tag), with_counts(&to_json(self)?, counts)))
    }
}

/// A message in JSON, and its counts.
pub fn with_counts(json: &[u8], counts: Counts) -> Vec<u8> {
    render_object(json, &[("reactions", counts.to_json())])
}

const SELECT: &str = "-- messages::select
select m.id, circle_id, number, author_id, users.name as author_name, body, m.created_at, edited_at, m.version
from messages m join users on users.id = author_id
where circle_id = $1 and m.id = $2 and deleted_at is null";

pub const STATEMENTS: &[&str] = &[SELECT];

/// The message as it is in this transaction; 404 if there is none.
pub async fn select(tx: &Tx, circle: Uuid, message: Uuid) -> Result<Message> {
    let row =
        tx.query_opt(SELECT, &[&circle, &message]).await?.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    Ok(Message::from_row(&row))
}
