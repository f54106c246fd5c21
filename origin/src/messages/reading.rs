//! Messages, read: a circle's newest, those before a cursor, and one.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use optimist_plane::cache::read::{load, read_through};
use optimist_plane::cache::value::{ListItem, Loaded, Snapshot};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{tagged, to_json};
use optimist_plane::http::page::{Cursor, no_query, page};
use optimist_plane::http::served::{Served, on};
use optimist_plane::request::Caller;
use optimist_plane::write_behind::entry::number;
use optimist_shared::envelope::{LIST_LIMIT, render_list};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Partition, Uuid};
use optimist_shared::keys::{Key, Parameters};
use optimist_shared::reactions::{Counts, counts_version};

use crate::circles::access::reader_of_circle;
use crate::messages::message::{Message, with_counts};
use crate::reactions::{live, snapshot};

pub fn routes() -> Vec<Served> {
    vec![on("messages.list", list), on("messages.get", get)]
}

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

pub const STATEMENTS: &[&str] = &[LOAD, LIST];

/// A message or a page of them, and their live reaction counts: what its readers share.
struct Counted {
    loaded: Loaded,
    counts: HashMap<Uuid, Counts>,
}

impl Counted {
    /// What [`load_counted`] has put together.
    fn of(loaded: &Loaded) -> Option<&Counted> {
        match loaded {
            Loaded::Live(counted) => counted.downcast_ref(),
            _ => None,
        }
    }
}

async fn list(State(app): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let page = page::<i64>(uri.query(), "before")?;
    let (circle, _) = reader_of_circle(&app, &caller).await?;
    match page.after {
        None => {
            let parameters = Parameters { circle: Some(circle), ..Parameters::default() };
            let shared = read_through(&app, Key::Counts, parameters).await?;
            respond(Counted::of(&shared).ok_or_else(uncounted)?, &headers, page.limit)
        }
        Some(before) => {
            let Snapshot { loaded, alongside, .. } = load_page(&app, circle, before, page.limit).await?;
            let messages = messages_of(&loaded);
            let counts = live::counts_read(&app, circle, &messages, alongside).await?;
            respond(&Counted { loaded, counts }, &headers, page.limit)
        }
    }
}

fn respond(counted: &Counted, headers: &HeaderMap, limit: usize) -> Result<Response> {
    let Loaded::List { version, items, more } = &counted.loaded else { return Err(uncounted()) };
    let shown: Vec<Option<Counts>> =
        items.iter().take(limit).map(|item| counted.counts.get(&item.id?).copied()).collect();
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

/// The message that the parameters name, or else the circle's first page; and the live counts of all it shows.
pub async fn load_counted(app: &Ctx, parameters: Parameters) -> Result<Loaded> {
    let key = if parameters.message.is_some() { Key::Message } else { Key::CircleMessages };
    let (loaded, installed) = load(app, key, parameters).await?;
    let messages: Vec<Uuid> = match (&loaded, parameters.message) {
        (Loaded::Object { .. }, Some(message)) => vec![message],
        (Loaded::List { .. }, None) => messages_of(&loaded),
        _ => return Ok(Loaded::Missing),
    };
    let counts = match installed.and_then(counts_of) {
        Some(counts) => counts,
        None => live::counts(app, parameters.circle.unwrap_or_default(), &messages).await?,
    };
    Ok(Loaded::Live(Arc::new(Counted { loaded, counts })))
}

/// What was installed with the fill.
fn counts_of(installed: Arc<dyn Any + Send + Sync>) -> Option<HashMap<Uuid, Counts>> {
    installed.downcast().ok().map(Arc::unwrap_or_clone)
}

async fn get(State(app): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let (circle, _) = reader_of_circle(&app, &caller).await?;
    let message = caller.request.path.message.unwrap_or_default();
    let parameters = Parameters { circle: Some(circle), message: Some(message), ..Parameters::default() };
    let shared = read_through(&app, Key::Reactions, parameters).await?;
    let counted = Counted::of(&shared).ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    let Loaded::Object { version, json } = &counted.loaded else { return Err(uncounted()) };
    let counts = counted.counts.get(&message).copied().unwrap_or_default();
    Ok(tagged(&headers, version, &counts_version(&[Some(counts)]), with_counts(json, counts)))
}

pub async fn load_message(app: &Ctx, parameters: &Parameters) -> Result<Snapshot> {
    let (circle, message) = (parameters.circle.unwrap_or_default(), parameters.message.unwrap_or_default());
    let (region, partition) = (&app.config.region, number(Partition::of(circle)));
    let row = app.db.query_opt(LOAD, &[&circle, &message, region, &partition]).await?;
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

pub async fn load_list(app: &Ctx, parameters: &Parameters) -> Result<Snapshot> {
    load_page(app, parameters.circle.unwrap_or_default(), i64::MAX, LIST_LIMIT).await
}

async fn load_page(app: &Ctx, circle: Uuid, before: i64, limit: usize) -> Result<Snapshot> {
    let (region, partition) = (&app.config.region, number(Partition::of(circle)));
    let rows = app.db.query(LIST, &[&circle, &before, &(limit as i64 + 1), region, &partition]).await?;
    let page = Snapshot::page(&rows, limit, |row| {
        let message = Message::from_row(row);
        Ok(ListItem { id: Some(message.id), cursor: message.number.encode(), json: to_json(&message)? })
    })?;
    // Without the one beyond the page.
    let shown = rows.get(..limit).unwrap_or(&rows);
    Ok(Snapshot { alongside: snapshot::alongside(circle, shown), ..page })
}
