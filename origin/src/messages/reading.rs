//! Reading messages: a circle's newest, those before a cursor, and one.
//!
//! Pages and messages are cached without their reaction counts, which change fast. This file joins the live counts; it does
//! not keep them (see [`crate::reactions::live`]).

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use optimist_plane::cache::read::{load, read_through};
use optimist_plane::cache::value::{ListItem, Loaded, Snapshot, id_of};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{tagged, to_json};
use optimist_plane::http::page::{Cursor, List, no_query, page};
use optimist_plane::http::served::{Served, on};
use optimist_plane::operation::links::{FIRST_ID, link};
use optimist_plane::request::Caller;
use optimist_plane::statements;
use optimist_plane::write_behind::entry::number;
use optimist_shared::envelope::{LIST_LIMIT, render_list};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Partition, Uuid};
use optimist_shared::keys::{BoundKey, Key};
use optimist_shared::reactions::{Counts, counts_version};

use crate::circles::access::reader_of_circle;
use crate::circles::definition::SAME_CIRCLE;
use crate::messages::message::{Message, MessageWithCounts, with_counts};
use crate::reactions::{live, snapshot};

const FIRST_MESSAGE: &[(&str, &str)] = &[SAME_CIRCLE, ("message", FIRST_ID)];

pub fn routes() -> Vec<Served> {
    vec![
        on("messages.list", list)
            .says("A circle's messages, newest first.")
            .answers::<List<MessageWithCounts>>(200)
            .tagged()
            .pages("before")
            .links([link("messages.get", FIRST_MESSAGE), link("reactions.list", FIRST_MESSAGE)]),
        on("messages.get", get).says("One message.").answers::<MessageWithCounts>(200).tagged(),
    ]
}

statements! {
    /// A message, its counts, and the partition's position: enough for a snapshot of its reactions.
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

    /// The same for each message of a page.
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
}

/// A message or a page of messages with their live reaction counts. Concurrent readers share one.
struct Counted {
    loaded: Loaded,
    /// In the order of the messages.
    counts: Vec<(Uuid, Counts)>,
}

impl Counted {
    /// The value that [`load_counted`] made.
    fn of(loaded: &Loaded) -> Option<&Counted> {
        match loaded {
            Loaded::Live(counted) => counted.downcast_ref(),
            _ => None,
        }
    }
}

async fn list(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let page = page::<i64>(uri.query(), "before")?;
    let (circle, _) = reader_of_circle(&ctx, &caller).await?;
    match page.after {
        None => {
            let shared = read_through(&ctx, Key::counts(circle)).await?;
            respond(Counted::of(&shared).ok_or_else(uncounted)?, &headers, page.limit)
        }
        Some(before) => {
            let Snapshot { loaded, alongside, .. } = load_page(&ctx, circle, before, page.limit).await?;
            let messages = messages_of(&loaded);
            let counts = live::counts_after_read(&ctx, circle, &messages, alongside).await?;
            respond(&Counted { loaded, counts }, &headers, page.limit)
        }
    }
}

fn respond(counted: &Counted, headers: &HeaderMap, limit: usize) -> Result<Response> {
    let Loaded::List { version, items, more } = &counted.loaded else { return Err(uncounted()) };
    let pairs = items.iter().zip(&counted.counts).take(limit);
    let shown: Vec<Option<Counts>> =
        pairs.map(|(item, (message, counts))| (item.id == Some(*message)).then_some(*counts)).collect();
    let overlay = |index: usize| Some(("reactions", shown.get(index)?.unwrap_or_default().to_json()));
    let items: Vec<_> = items.iter().map(ListItem::shown).collect();
    let json = render_list(&items, *more, limit, overlay);
    Ok(tagged(headers, version, &counts_version(&shown), json))
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

/// Loads the message that the key names, or else the circle's first page, with live counts.
pub async fn load_counted(ctx: &Ctx, key: BoundKey) -> Result<Loaded> {
    let circle = id_of(&key, Id::Circle)?;
    let message = key.ids().get(Id::Message);
    let copy = match message {
        Some(message) => Key::message(circle, message),
        None => Key::circle_messages(circle),
    };
    let (loaded, installed) = load(ctx, copy).await?;
    let messages: Vec<Uuid> = match (&loaded, message) {
        (Loaded::Object { .. }, Some(message)) => vec![message],
        (Loaded::List { .. }, None) => messages_of(&loaded),
        _ => return Ok(Loaded::Missing),
    };
    let counts = match installed.and_then(snapshot::installed_counts) {
        Some(counts) => counts,
        None => live::counts(ctx, circle, &messages).await?,
    };
    Ok(Loaded::Live(Arc::new(Counted { loaded, counts })))
}

async fn get(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let (circle, _) = reader_of_circle(&ctx, &caller).await?;
    let message = caller.request.id(Id::Message)?;
    let shared = read_through(&ctx, Key::reactions(circle, message)).await?;
    let counted = Counted::of(&shared).ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    let Loaded::Object { version, json } = &counted.loaded else { return Err(uncounted()) };
    let counts = counted.counts.first().map(|(_, counts)| *counts).unwrap_or_default();
    Ok(tagged(&headers, version, &counts_version(&[Some(counts)]), with_counts(json, counts)))
}

pub async fn load_message(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    let (circle, message) = (id_of(&key, Id::Circle)?, id_of(&key, Id::Message)?);
    let (region, partition) = (&ctx.config.region, number(Partition::of(circle)));
    let row = ctx.db.query_opt(LOAD, &[&circle, &message, region, &partition]).await?;
    let row = row.ok_or_else(|| Error::internal("messages", &"no row"))?;
    let loaded = match row.get::<_, Option<i64>>("version") {
        Some(version) => {
            Loaded::Object { version: version.to_string(), json: to_json(&Message::from_row(&row))? }
        }
        None => Loaded::Missing,
    };
    let alongside = snapshot::alongside(circle, std::slice::from_ref(&row));
    Ok(Snapshot { alongside, ..Snapshot::new(row.get("seen"), loaded) })
}

pub async fn load_list(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    load_page(ctx, id_of(&key, Id::Circle)?, i64::MAX, LIST_LIMIT).await
}

async fn load_page(ctx: &Ctx, circle: Uuid, before: i64, limit: usize) -> Result<Snapshot> {
    let (region, partition) = (&ctx.config.region, number(Partition::of(circle)));
    let rows = ctx.db.query(LIST, &[&circle, &before, &(limit as i64 + 1), region, &partition]).await?;
    let page = Snapshot::page(&rows, limit, |row| {
        let message = Message::from_row(row);
        Ok(ListItem { id: Some(message.id), cursor: message.number.encode(), json: to_json(&message)? })
    })?;
    // Rows beyond the page only tell that there are more. Without a message, one row holds the position.
    let shown = rows.get(..messages_of(&page.loaded).len().max(1)).unwrap_or(&rows);
    Ok(Snapshot { alongside: snapshot::alongside(circle, shown), ..page })
}
