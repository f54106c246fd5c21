//! Reading messages: a circle's newest, those before or after a place, and one.
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
use optimist_plane::http::page::{Cursor, List, limit, no_query, parameters_of};
use optimist_plane::http::served::{Served, on};
use optimist_plane::operation::links::{FIRST_ID, link};
use optimist_plane::request::Caller;
use optimist_plane::write_behind::entry::number;
use optimist_plane::{describe, statements};
use optimist_shared::envelope::{DEFAULT_LIMIT, LIST_LIMIT, render_list};
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
            .notes(
                "`before` gives the page of older ones. `after` gives the page that follows a place, oldest first, for a \
                 client that catches up. `next` continues in the same direction; at the end it is null.",
            )
            .filter::<Place>("after", "A `next`, or the `number` of a message. Not together with `before`.")
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

    /// The same for the page that follows a number, oldest first.
    const LIST_AFTER: &str = "-- messages::list_after
select seen, generation, position_ms, position_seq, m.*, kinds, counts
from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join write_behind on region = $4 and partition = $5
left join lateral (
    select m.id, circle_id, number, author_id, users.name as author_name, body, m.created_at, edited_at, m.version
    from messages m join users on users.id = author_id
    where circle_id = $1 and number > $2 and deleted_at is null
    order by number limit $3) m on true
left join lateral (
    select array_agg(kind) as kinds, array_agg(count) as counts
    from reaction_counts where circle_id = $1 and message_id = m.id and count > 0) counted on true
order by number";
}

/// A place in a circle's history: the number of the message there, if there still is one.
struct Place(i64);

describe!(Place, {"anyOf": [
    {"type": "string", "pattern": "^(0|[1-9][0-9]{0,17})$"},
    {"type": "string", "format": "cursor"},
]});

impl Place {
    /// From a cursor, or from a number in digits.
    fn parse(text: &str) -> Option<Place> {
        let is_number = (1..=18).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'));
        let number = if is_number { text.parse().ok() } else { i64::decode(text) };
        number.map(Place)
    }
}

/// The part of a circle's history that a query asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Newest,
    Before(i64),
    After(i64),
}

/// Reads `limit` and at most one of `before` and `after`.
fn part_of(query: Option<&str>) -> Result<(Part, usize)> {
    let (mut part, mut most) = (Part::Newest, DEFAULT_LIMIT);
    for (name, value) in parameters_of(query)? {
        let refused = |reason: &str| Error::new(ErrorCode::BadRequest).field(name.clone(), reason);
        let place =
            || Place::parse(&value).ok_or_else(|| refused("is neither a cursor of this list nor a number"));
        match name.as_str() {
            "limit" => most = limit(&value)?,
            "before" | "after" if part != Part::Newest => return Err(refused("is not for both directions")),
            "before" => part = Part::Before(place()?.0),
            "after" => part = Part::After(place()?.0),
            _ => return Err(refused("is not a parameter of this list")),
        }
    }
    Ok((part, most))
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
    let (part, limit) = part_of(uri.query())?;
    let (circle, _) = reader_of_circle(&ctx, &caller).await?;
    if part == Part::Newest {
        let shared = read_through(&ctx, Key::counts(circle)).await?;
        return respond(Counted::of(&shared).ok_or_else(uncounted)?, &headers, limit);
    }
    let Snapshot { loaded, alongside, .. } = load_page(&ctx, circle, part, limit).await?;
    let messages = messages_of(&loaded);
    let counts = live::counts_after_read(&ctx, circle, &messages, alongside).await?;
    respond(&Counted { loaded, counts }, &headers, limit)
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
        Some(_) => {
            let message = Message::from_row(&row);
            Loaded::Object { version: message.shown_version(), json: to_json(&message)? }
        }
        None => Loaded::Missing,
    };
    let alongside = snapshot::alongside(circle, std::slice::from_ref(&row));
    Ok(Snapshot { alongside, ..Snapshot::new(row.get("seen"), loaded) })
}

pub async fn load_list(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    load_page(ctx, id_of(&key, Id::Circle)?, Part::Newest, LIST_LIMIT).await
}

async fn load_page(ctx: &Ctx, circle: Uuid, part: Part, limit: usize) -> Result<Snapshot> {
    let (region, partition) = (&ctx.config.region, number(Partition::of(circle)));
    let (sql, place) = match part {
        Part::Newest => (LIST, i64::MAX),
        Part::Before(number) => (LIST, number),
        Part::After(number) => (LIST_AFTER, number),
    };
    let rows = ctx.db.query(sql, &[&circle, &place, &(limit as i64 + 1), region, &partition]).await?;
    let page = Snapshot::page(&rows, limit, |row| {
        let message = Message::from_row(row);
        Ok(ListItem { id: Some(message.id), cursor: message.number.encode(), json: to_json(&message)? })
    })?;
    // Rows beyond the page only tell that there are more. Without a message, one row holds the position.
    let shown = rows.get(..messages_of(&page.loaded).len().max(1)).unwrap_or(&rows);
    Ok(Snapshot { alongside: snapshot::alongside(circle, shown), ..page })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_one_part_of_the_history() {
        let part = |query: &str| part_of(Some(query)).ok();
        let cursor = 9i64.encode();
        assert_eq!(part(""), Some((Part::Newest, 20)));
        assert_eq!(part(&format!("limit=5&before={cursor}")), Some((Part::Before(9), 5)));
        assert_eq!(part(&format!("after={cursor}")), Some((Part::After(9), 20)));
        assert_eq!(part("after=9"), Some((Part::After(9), 20)));
        assert_eq!(part("after=0"), Some((Part::After(0), 20)));
        for bad in [
            "after=",
            "after=09",
            "after=-1",
            "after=1234567890123456789",
            "after=x",
            "after=1&before=2",
            "from=1",
        ] {
            assert_eq!(part(bad), None, "{bad}");
        }
    }
}
