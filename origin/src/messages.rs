//! Messages of a circle: posting, reading, editing, deleting.
//!
//! Each has a number within its circle, counted under the circle's lock, which is its place in lists and cursors.

use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use optimist_shared::envelope::{LIST_LIMIT, render_list, render_object};
use optimist_shared::error::ErrorCode;
use optimist_shared::etag::entity_tag;
use optimist_shared::ids::{Partition, Uuid};
use optimist_shared::keys::{Key, Parameters};
use optimist_shared::reactions::{Counts, counts_version};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use crate::app::{Ctx, Handlers, on};
use crate::body::{Body, check_match, json_response, tagged, text, to_json};
use crate::cache::{ListItem, Loaded, Snapshot};
use crate::circles::{Standing, circle_of, is_moderator};
use crate::cursor::{Cursor, no_query, page};
use crate::error::{Error, Result};
use crate::idempotency::Idempotency;
use crate::members::Person;
use crate::postgres::{Tx, WriteContext, transaction};
use crate::reactions::live;
use crate::reactions::snapshot as reactions;
use crate::request::Caller;
use crate::session::reader_of_circle;
use crate::write_behind;

pub mod posting;

use posting::Post;

pub fn routes() -> Handlers {
    vec![
        on("messages.post", post),
        on("messages.list", list),
        on("messages.get", get),
        on("messages.edit", edit),
        on("messages.delete", delete),
    ]
}

/// Characters of a message.
pub const BODY: RangeInclusive<usize> = 1..=8000;

#[derive(Serialize)]
struct Message {
    id: Uuid,
    circle_id: Uuid,
    number: i64,
    author: Person,
    body: String,
    created_at: DateTime<Utc>,
    edited_at: Option<DateTime<Utc>>,
    #[serde(skip)]
    version: i64,
}

impl Message {
    /// From: id, circle_id, number, author_id, author_name, body, created_at, edited_at, version.
    fn from_row(row: &Row) -> Message {
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
    async fn respond(&self, app: &Ctx, status: u16) -> Result<Response> {
        let counts = live::counts(app, self.circle_id, &[self.id]).await?;
        self.respond_with(counts.get(&self.id).copied().unwrap_or_default(), status)
    }

    fn respond_with(&self, counts: Counts, status: u16) -> Result<Response> {
        let tag = entity_tag(&self.version.to_string(), &counts_version(&[Some(counts)]));
        Ok(json_response(status, Some(tag), with_counts(&to_json(self)?, counts)))
    }
}

fn with_counts(json: &[u8], counts: Counts) -> Vec<u8> {
    render_object(json, &[("reactions", counts.to_json())])
}

/// The body of a message, of a new one or of an edited one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Write {
    body: String,
}

const SELECT: &str = "-- messages::select
select m.id, circle_id, number, author_id, users.name as author_name, body, m.created_at, edited_at, m.version
from messages m join users on users.id = author_id
where circle_id = $1 and m.id = $2 and deleted_at is null";

/// A message and what a snapshot of its reactions is made of.
const LOAD: &str = "-- messages::load
select seen, generation, position_ms, position_seq, m.*, kinds, counts
from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join write_behind on region = $3 and partition = $4
left join lateral (
    select m.id, circle_id, number, author_id, users.name as author_name, body, m.created_at, edited_at, m.version
    from messages m join users on users.id = author_id
    where circle_id = $1 and m.id = $2 and deleted_at is null) m on true
left join lateral (
    select array_agg(kind) as kinds, array_agg(count) as counts
    from reaction_counts where circle_id = $1 and message_id = m.id and count > 0) counted on true";

/// So for each message of a page.
const LIST: &str = "-- messages::list
select seen, generation, position_ms, position_seq, m.*, kinds, counts
from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join write_behind on region = $4 and partition = $5
left join lateral (
    select m.id, circle_id, number, author_id, users.name as author_name, body, m.created_at, edited_at, m.version
    from messages m join users on users.id = author_id
    where circle_id = $1 and number < $2 and deleted_at is null
    order by number desc limit $3) m on true
left join lateral (
    select array_agg(kind) as kinds, array_agg(count) as counts
    from reaction_counts where circle_id = $1 and message_id = m.id and count > 0) counted on true
order by number desc";

const AUTHOR: &str = "-- messages::author
select author_id, version, deleted_at is not null from messages where circle_id = $1 and id = $2";

const EDIT: &str = "-- messages::edit
with edited as (
    update messages set body = $3, version = version + 1, edited_at = now() where circle_id = $1 and id = $2
    returning id, circle_id, number, author_id, body, created_at, edited_at, version)
select edited.*, users.name as author_name from edited join users on users.id = author_id";

const DELETE: &str = "-- messages::delete
update messages set body = '', version = version + 1, deleted_at = now() where circle_id = $1 and id = $2";

pub const STATEMENTS: &[&str] = &[SELECT, LOAD, LIST, AUTHOR, EDIT, DELETE];

async fn post(
    State(app): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<Write>,
) -> Result<Response> {
    let circle = circle_of(&caller)?;
    let idempotency = Idempotency::from_request(&headers, &caller.request.path, &body.bytes)?;
    let body = text("body", &body.value.body, BODY, true)?;
    let post = Post { id: Uuid::now_v7(), circle, caller, idempotency, body };
    let (message, is_new) = posting::post(&app, post).await?;
    // Nobody has reacted to what nobody has seen.
    let mut response = match is_new {
        true => message.respond_with(Counts::default(), 201)?,
        false => message.respond(&app, 201).await?,
    };
    if let Ok(location) = format!("/v1/circles/{circle}/messages/{}", message.id).parse() {
        response.headers_mut().insert("location", location);
    }
    Ok(response)
}

async fn select(tx: &Tx, circle: Uuid, message: Uuid) -> Result<Message> {
    let row =
        tx.query_opt(SELECT, &[&circle, &message]).await?.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    Ok(Message::from_row(&row))
}

async fn list(State(app): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let page = page::<i64>(uri.query(), "before")?;
    let (circle, _) = reader_of_circle(&app, &caller).await?;
    let parameters = Parameters { circle: Some(circle), ..Parameters::default() };
    let counted = match page.after {
        None => app.cache.read(&app, Key::Counts, parameters).await?,
        Some(before) => {
            let Snapshot { loaded, reactions, .. } = load_page(&app, circle, before, page.limit).await?;
            let counts = live::counts_read(&app, circle, &messages_of(&loaded), reactions).await?;
            Arc::new(Loaded::Counted(Arc::new(loaded), counts))
        }
    };
    let Loaded::Counted(loaded, counts) = &*counted else { return Err(uncounted()) };
    let Loaded::List { version, items, more } = &**loaded else { return Err(uncounted()) };
    let shown: Vec<Option<Counts>> =
        items.iter().take(page.limit).map(|item| counts.get(&item.id?).copied()).collect();
    let overlay = |index: usize| Some(("reactions", shown.get(index)?.unwrap_or_default().to_json()));
    let items: Vec<_> = items.iter().map(ListItem::shown).collect();
    let json = render_list(&items, *more, page.limit, overlay);
    Ok(tagged(&headers, version, &counts_version(&shown), json))
}

/// The messages of a list.
fn messages_of(loaded: &Loaded) -> Vec<Uuid> {
    match loaded {
        Loaded::List { items, .. } => items.iter().filter_map(|item| item.id).collect(),
        _ => Vec::new(),
    }
}

fn uncounted() -> Error {
    Error::internal("messages", &"a list or a message with counts was expected")
}

/// The message that the parameters name, or else the circle's first page; and the live counts of all it shows.
pub async fn load_counted(app: &Ctx, parameters: Parameters) -> Result<Loaded> {
    let key = if parameters.message.is_some() { Key::Message } else { Key::CircleMessages };
    let (loaded, counts) = app.cache.load(app, key, parameters).await?;
    let messages: Vec<Uuid> = match (&loaded, parameters.message) {
        (Loaded::Object { .. }, Some(message)) => vec![message],
        (Loaded::List { .. }, None) => messages_of(&loaded),
        _ => return Ok(Loaded::Missing),
    };
    let counts = match counts {
        Some(counts) => counts,
        None => live::counts(app, parameters.circle.unwrap_or_default(), &messages).await?,
    };
    Ok(Loaded::Counted(Arc::new(loaded), counts))
}

async fn get(State(app): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let (circle, _) = reader_of_circle(&app, &caller).await?;
    let message = caller.request.path.message.unwrap_or_default();
    let parameters = Parameters { circle: Some(circle), message: Some(message), ..Parameters::default() };
    let counted = app.cache.read(&app, Key::Reactions, parameters).await?;
    let Loaded::Counted(loaded, counts) = &*counted else { return Err(Error::new(ErrorCode::NotFound)) };
    let Loaded::Object { version, json } = &**loaded else { return Err(uncounted()) };
    let counts = counts.get(&message).copied().unwrap_or_default();
    Ok(tagged(&headers, version, &counts_version(&[Some(counts)]), with_counts(json, counts)))
}

/// What a change of a message makes stale.
fn touch(tx: &mut Tx, standing: &Standing, message: Uuid) {
    tx.touch(Key::CircleMessages, standing.keys());
    tx.touch(Key::Message, Parameters { message: Some(message), ..standing.keys() });
}

async fn edit(
    State(app): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<Write>,
) -> Result<Response> {
    let circle = circle_of(&caller)?;
    let id = caller.request.path.message.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    let body = text("body", &body.value.body, BODY, true)?;
    let order = [circle];
    let context = WriteContext {
        name: "messages::edit",
        request: &caller.request,
        actor: caller.actor(),
        order: &order,
    };
    let message = transaction!(&app, context, |tx| {
        let standing = Standing::read(tx, circle, caller.user).await?;
        standing.require_member()?;
        let row =
            tx.query_opt(AUTHOR, &[&circle, &id]).await?.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
        let (author, version, deleted): (Uuid, i64, bool) = (row.get(0), row.get(1), row.get(2));
        if deleted {
            return Err(Error::new(ErrorCode::NotFound));
        }
        if author != caller.user {
            return Err(Error::new(ErrorCode::Forbidden).detail("Only its author edits a message."));
        }
        check_match(&headers, version)?;
        let message = Message::from_row(&tx.query_one(EDIT, &[&circle, &id, &body]).await?);
        touch(tx, &standing, id);
        tx.event("message.edited", serde_json::json!({"circle": circle, "message": id}));
        Ok(message)
    })?;
    message.respond(&app, 200).await
}

async fn delete(State(app): State<Ctx>, caller: Caller) -> Result<Response> {
    let circle = circle_of(&caller)?;
    let id = caller.request.path.message.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    let order = [circle];
    let context = WriteContext {
        name: "messages::delete",
        request: &caller.request,
        actor: caller.actor(),
        order: &order,
    };
    transaction!(&app, context, |tx| {
        let standing = Standing::read(tx, circle, caller.user).await?;
        standing.require_member()?;
        let row =
            tx.query_opt(AUTHOR, &[&circle, &id]).await?.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
        let (author, deleted): (Uuid, bool) = (row.get(0), row.get(2));
        if author != caller.user && !is_moderator(standing.role) {
            return Err(
                Error::new(ErrorCode::Forbidden).detail("Only its author or a moderator deletes a message.")
            );
        }
        touch(tx, &standing, id);
        tx.touch(Key::Reactions, Parameters { message: Some(id), ..standing.keys() });
        if deleted {
            tx.unchanged();
        } else {
            tx.execute(DELETE, &[&circle, &id]).await?;
            tx.event("message.deleted", serde_json::json!({"circle": circle, "message": id}));
        }
        Ok(())
    })?;
    Ok(axum::http::StatusCode::NO_CONTENT.into_response())
}

pub async fn load_message(app: &Ctx, parameters: &Parameters) -> Result<Snapshot> {
    let (circle, message) = (parameters.circle.unwrap_or_default(), parameters.message.unwrap_or_default());
    let (region, partition) = (&app.config.region, write_behind::number(Partition::of(circle)));
    let row = app.db.query_opt(LOAD, &[&circle, &message, region, &partition]).await?;
    let row = row.ok_or_else(|| Error::internal("messages", &"no row"))?;
    let loaded = match row.get::<_, Option<i64>>("version") {
        Some(version) => {
            Loaded::Object { version: version.to_string(), json: to_json(&Message::from_row(&row))? }
        }
        None => Loaded::Missing,
    };
    let reactions = reactions::Snapshot::of_messages(circle, std::slice::from_ref(&row));
    Ok(Snapshot { reactions, ..Snapshot::new(row.get("seen"), loaded) })
}

pub async fn load_list(app: &Ctx, parameters: &Parameters) -> Result<Snapshot> {
    load_page(app, parameters.circle.unwrap_or_default(), i64::MAX, LIST_LIMIT).await
}

async fn load_page(app: &Ctx, circle: Uuid, before: i64, limit: usize) -> Result<Snapshot> {
    let (region, partition) = (&app.config.region, write_behind::number(Partition::of(circle)));
    let rows = app.db.query(LIST, &[&circle, &before, &(limit as i64 + 1), region, &partition]).await?;
    let page = Snapshot::page(&rows, limit, |row| {
        let message = Message::from_row(row);
        Ok(ListItem { id: Some(message.id), cursor: message.number.encode(), json: to_json(&message)? })
    })?;
    // Without the one beyond the page.
    let shown = rows.get(..limit).unwrap_or(&rows);
    Ok(Snapshot { reactions: reactions::Snapshot::of_messages(circle, shown), ..page })
}
