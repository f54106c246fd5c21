//! A message as clients get it, with its live reaction counts joined.
//!
//! This file reads one message in a transaction. Reading for the cache is [`super::reading`]'s.

use axum::response::Response;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::digest;
use optimist_plane::http::body::{json_response, to_json};
use optimist_plane::http::sent::{Shown, Text};
use optimist_plane::http::time::Time;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::envelope::render_object;
use optimist_shared::error::ErrorCode;
use optimist_shared::etag::entity_tag;
use optimist_shared::ids::Uuid;
use optimist_shared::reactions::{Counts, counts_version};
use schemars::JsonSchema;
use serde::Serialize;
use tokio_postgres::Row;

use crate::people::person::Person;
use crate::people::veil::HiddenMessage;
use crate::reactions::live;
use crate::reactions::shapes::ReactionCounts;

/// The table, by whose months messages are archived.
pub const TABLE: &str = "messages";

/// The text of a message.
pub type MessageBody = Text<1, 8000>;

/// A message, the same for everyone, without what changes fast.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BareMessage")]
pub struct Message {
    pub id: Uuid,
    pub circle_id: Uuid,
    /// Its place within the circle.
    #[schemars(range(min = 1))]
    pub number: i64,
    author: Person,
    #[schemars(with = "Shown<MessageBody>")]
    body: String,
    created_at: Time,
    edited_at: Option<Time>,
    /// Of a comment: the message that it belongs to.
    pub parent_id: Option<Uuid>,
    /// How many comments belong to it, without those that are deleted.
    #[schemars(range(min = 0))]
    comments: i32,
    #[serde(skip)]
    version: i64,
}

impl Message {
    /// From a row of id, circle_id, number, author_id, author_name, body, created_at, edited_at, version, parent_id, comments.
    pub fn from_row(row: &Row) -> Message {
        Message {
            id: row.get("id"),
            circle_id: row.get("circle_id"),
            number: row.get("number"),
            author: Person { id: row.get("author_id"), name: row.get("author_name") },
            body: row.get("body"),
            created_at: row.get("created_at"),
            edited_at: row.get("edited_at"),
            parent_id: row.get("parent_id"),
            comments: row.get("comments"),
            version: row.get("version"),
        }
    }

    /// The version of the message as it is shown. Comments come without a change of the message itself.
    pub fn shown_version(&self) -> String {
        format!("{}~{}", shown_version(self.version, &self.author.name), self.comments)
    }

    pub fn author(&self) -> Uuid {
        self.author.id
    }

    /// Answers with the message and its live reaction counts.
    pub async fn respond(&self, ctx: &Ctx, status: u16) -> Result<Response> {
        self.respond_with(live::counts_of(ctx, self.circle_id, self.id).await?, status)
    }

    pub fn respond_with(&self, counts: Counts, status: u16) -> Result<Response> {
        let tag = entity_tag(&self.shown_version(), &counts_version(&[Some(counts)]));
        let message = MessageWithCounts { message: self, reactions: Some(counts) };
        Ok(json_response(status, Some(tag), to_json(&message)?))
    }
}

/// The version of a message as it is shown: its row's, and a digest of its author's name, which changes without the row.
pub fn shown_version(version: i64, author: &str) -> String {
    format!("{version}-{}", &digest(&[author.as_bytes()])[..8])
}

/// A message with its reactions, which are joined to a cached one as it is. Without them if nobody knows: the edge then marks
/// its answer as degraded.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Message")]
pub struct MessageWithCounts<'a> {
    #[serde(flatten)]
    message: &'a Message,
    #[schemars(with = "Option<ReactionCounts>")]
    reactions: Option<Counts>,
}

/// The schema of a message as lists and its own route show it: those who have blocked its author see that it is there.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "it is a description alone")]
pub enum ShownMessage<'a> {
    Message(MessageWithCounts<'a>),
    Hidden(HiddenMessage),
}

/// Joins counts to a cached message, as [`MessageWithCounts`] describes the two.
pub fn with_counts(json: &[u8], counts: Counts) -> Vec<u8> {
    render_object(json, &[("reactions", counts.to_json())])
}

statements! {
    const SELECT: &str = "-- messages::select, planned anew
select m.id, circle_id, number, author_id, users.name as author_name, body, m.created_at, edited_at, m.version,
    m.parent_id, m.comments
from messages m join users on users.id = author_id
where circle_id = $1 and m.id = $2 and deleted_at is null";
}

/// The message as this transaction sees it; 404 if there is none.
pub async fn select(tx: &Tx, circle: Uuid, message: Uuid) -> Result<Message> {
    let row =
        tx.query_opt(SELECT, &[&circle, &message]).await?.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    Ok(Message::from_row(&row))
}
