//! Reading messages: a circle's newest, those before or after a place, and one.
//!
//! A page goes by ids, which are in the order of the numbers, a stretch of two months at a time (see [`super::stretch`]).
//! Pages and messages are cached without their reaction counts, which change fast. This file joins the live counts; it does
//! not keep them (see [`crate::reactions::live`]).

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use chrono::NaiveDate;
use optimist_plane::archive::missing;
use optimist_plane::cache::read::{load, read_through};
use optimist_plane::cache::value::{ListItem, Loaded, Snapshot, id_of};
use optimist_plane::clock;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{tagged, to_json};
use optimist_plane::http::page::{Cursor, no_query};
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::months::Month;
use optimist_plane::operation::links::{FIRST_ID, link};
use optimist_plane::request::Caller;
use optimist_plane::statements;
use optimist_plane::write_behind::entry::number;
use optimist_shared::envelope::{LIST_LIMIT, render_list};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Partition, Uuid};
use optimist_shared::keys::{BoundKey, Key};
use optimist_shared::reactions::{Counts, counts_version};
use schemars::JsonSchema;
use tokio_postgres::Row;

use crate::circles::access::reader_of_circle;
use crate::circles::definition::SAME_CIRCLE;
use crate::messages::message::{Message, ShownMessage, TABLE, with_counts};
use crate::messages::part::{Part, Place, part_of};
use crate::messages::stretch::{Reach, Stretch};
use crate::reactions::{live, snapshot};

const FIRST_MESSAGE: &[(&str, &str)] = &[SAME_CIRCLE, ("message", FIRST_ID)];

pub fn routes() -> Vec<Served> {
    vec![
        on("messages.list", list)
            .says("A circle's messages, newest first.")
            .notes(
                "`before` gives the page of older ones. `after` gives the page that follows a place, oldest first, for a \
                 client that catches up. `next` continues in the same direction; at the end it is null. Where a page reaches \
                 messages that are archived, `archived_before` says when they were posted.",
            )
            .filter::<Place>("after", "A `next`, or the `number` of a message. Not together with `before`.")
            .answers::<History>(200)
            .tagged()
            .pages("before")
            .links([link("messages.get", FIRST_MESSAGE), link("reactions.list", FIRST_MESSAGE)]),
        on("messages.get", get)
            .says("One message.")
            .answers::<ShownMessage>(200)
            .refuses(&[ErrorCode::Archived])
            .tagged(),
    ]
}

statements! {
    /// A message, its counts, and the partition's position: enough for a snapshot of its reactions.
    const LOAD: &str = "-- messages::load, planned anew
select seen, generation, position_ms, position_seq, m.*, kinds, counts, exists (
    select from archived where name = 'messages' and month = id_month($2) and state in ('closed', 'written', 'leaving')) as leaves
from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join write_behind on region = $3 and partition = $4
left join lateral (
    select m.id, circle_id, number, author_id, users.name as author_name, body, m.created_at, edited_at, m.version, m.parent_id, m.comments
    from messages m join users on users.id = author_id
    where circle_id = $1 and m.id = $2 and deleted_at is null) m on true
left join lateral (
    select array_agg(kind) as kinds, array_agg(count) as counts
    from reaction_counts where circle_id = $1 and message_id = $2 and message_id = m.id and count > 0) counted on true";

    /// The same for each message of a page: before the id `$2`, from `$3` on. Also the circle's newest message, the months in
    /// which it has any, and the months that are archived.
    const LIST: &str = "-- messages::list, planned anew
select seen, generation, position_ms, position_seq, c.last_id, c.months, archived, closed, m.*, kinds, counts
from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join write_behind on region = $5 and partition = $6
left join circles c on c.id = $1
cross join (
    select array_agg(month) filter (where state in ('leaving', 'detached', 'dropped')) as archived,
        array_agg(month) filter (where state in ('closed', 'written')) as closed from archived where name = 'messages') archive
left join lateral (
    select m.id, circle_id, number, author_id, users.name as author_name, body, m.created_at, edited_at, m.version, m.parent_id, m.comments
    from messages m join users on users.id = author_id
    where circle_id = $1 and m.id < $2 and m.id >= $3 and deleted_at is null
    order by m.id desc limit $4) m on true
left join lateral (
    select array_agg(kind) as kinds, array_agg(count) as counts
    from reaction_counts
    where circle_id = $1 and message_id = m.id and message_id < $2 and message_id >= $3 and count > 0) counted on true
order by m.id desc";

    /// The same after the id `$2`, before `$3`, oldest first.
    const LIST_AFTER: &str = "-- messages::list_after, planned anew
select seen, generation, position_ms, position_seq, c.last_id, c.months, archived, closed, m.*, kinds, counts
from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join write_behind on region = $5 and partition = $6
left join circles c on c.id = $1
cross join (
    select array_agg(month) filter (where state in ('leaving', 'detached', 'dropped')) as archived,
        array_agg(month) filter (where state in ('closed', 'written')) as closed from archived where name = 'messages') archive
left join lateral (
    select m.id, circle_id, number, author_id, users.name as author_name, body, m.created_at, edited_at, m.version, m.parent_id, m.comments
    from messages m join users on users.id = author_id
    where circle_id = $1 and m.id > $2 and m.id < $3 and deleted_at is null
    order by m.id limit $4) m on true
left join lateral (
    select array_agg(kind) as kinds, array_agg(count) as counts
    from reaction_counts
    where circle_id = $1 and message_id = m.id and message_id > $2 and message_id < $3 and count > 0) counted on true
order by m.id";

    /// A circle's months with messages, and for each a number that none of its messages is below.
    const MONTHS: &str = "-- messages::months
select months, month_numbers from circles where id = $1";

    /// The message of a number, among the ids from `$3` to before `$4`.
    const NUMBERED: &str = "-- messages::numbered, planned anew
select id from messages where circle_id = $1 and number = $2 and id >= $3 and id < $4";
}

/// A page of messages, as [`render_list`] renders it.
#[derive(JsonSchema)]
#[schemars(rename = "MessageList")]
#[expect(dead_code, reason = "it is a description alone")]
struct History<'a> {
    items: Vec<ShownMessage<'a>>,
    /// The cursor of the page that follows.
    next: Option<String>,
    /// Messages of before this moment are archived, of a month at least. Left out unless the page reaches them.
    #[schemars(with = "Time", skip_serializing_if = "Option::is_none")]
    archived_before: Option<Time>,
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
        let Counted { loaded, counts } = Counted::of(&shared).ok_or_else(uncounted)?;
        return respond(loaded, counts, &headers, limit);
    }
    let Snapshot { loaded, alongside, .. } = load_page(&ctx, circle, part, limit).await?;
    let counts = live::counts_after_read(&ctx, circle, &messages_of(&loaded), alongside).await?;
    respond(&loaded, &counts, &headers, limit)
}

/// Answers with the first items of a list, and with their counts, which are in the same order.
pub fn respond(
    loaded: &Loaded,
    counts: &[(Uuid, Counts)],
    headers: &HeaderMap,
    limit: usize,
) -> Result<Response> {
    let Loaded::List { version, items, more, archived_before } = loaded else { return Err(uncounted()) };
    let pairs = items.iter().zip(counts).take(limit);
    let shown: Vec<Option<Counts>> =
        pairs.map(|(item, (message, counts))| (item.id == Some(*message)).then_some(*counts)).collect();
    let overlay = |index: usize| Some(("reactions", shown.get(index)?.unwrap_or_default().to_json()));
    let items: Vec<_> = items.iter().map(ListItem::shown).collect();
    let json = render_list(&items, *more, archived_before.as_deref(), limit, overlay);
    Ok(tagged(headers, version, &counts_version(&shown), json))
}

/// The messages of a list.
pub fn messages_of(loaded: &Loaded) -> Vec<Uuid> {
    match loaded {
        Loaded::List { items, .. } => items.iter().filter_map(|item| item.id).collect(),
        _ => Vec::new(),
    }
}

/// The live counts of a circle's newest messages, in the order of its first page.
pub async fn counts_of(ctx: &Ctx, circle: Uuid) -> Result<Vec<(Uuid, Counts)>> {
    let shared = read_through(ctx, Key::counts(circle)).await?;
    Ok(Counted::of(&shared).map(|counted| counted.counts.clone()).unwrap_or_default())
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

/// A message with its live counts, as JSON; `None` if it is not there.
pub async fn shown_with_counts(ctx: &Ctx, circle: Uuid, message: Uuid) -> Result<Option<Vec<u8>>> {
    let shared = read_through(ctx, Key::reactions(circle, message)).await?;
    Ok(Counted::of(&shared).and_then(|counted| {
        let Loaded::Object { json, .. } = &counted.loaded else { return None };
        let counts = counted.counts.first().map(|(_, counts)| *counts).unwrap_or_default();
        Some(with_counts(json, counts))
    }))
}

async fn get(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let (circle, _) = reader_of_circle(&ctx, &caller).await?;
    let message = caller.request.id(Id::Message)?;
    let shared = read_through(&ctx, Key::reactions(circle, message)).await?;
    let Some(counted) = Counted::of(&shared) else { return Err(missing(&ctx, TABLE, message).await) };
    let Loaded::Object { version, json } = &counted.loaded else { return Err(uncounted()) };
    let counts = counted.counts.first().map(|(_, counts)| *counts).unwrap_or_default();
    Ok(tagged(&headers, version, &counts_version(&[Some(counts)]), with_counts(json, counts)))
}

pub async fn load_message(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    let (circle, message) = (id_of(&key, Id::Circle)?, id_of(&key, Id::Message)?);
    let (region, partition) = (&ctx.config.region, number(Partition::of(circle)));
    let row = ctx.db.query_opt(LOAD, &[&circle, &message, region, &partition]).await?;
    let row = row.ok_or_else(|| Error::internal("messages", &"no row"))?;
    let mut loaded = Loaded::Missing;
    if row.get::<_, Option<i64>>("version").is_some() {
        let message = Message::from_row(&row);
        loaded = Loaded::Object { version: message.shown_version(), json: to_json(&message)? };
    }
    let alongside = snapshot::alongside(circle, std::slice::from_ref(&row));
    // A copy would outlive the month.
    let is_kept = !row.get::<_, bool>("leaves");
    Ok(Snapshot { is_kept, alongside, ..Snapshot::new(row.get("seen"), loaded) })
}

pub async fn load_list(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    load_page(ctx, id_of(&key, Id::Circle)?, Part::Newest, LIST_LIMIT).await
}

async fn load_page(ctx: &Ctx, circle: Uuid, part: Part, limit: usize) -> Result<Snapshot> {
    let Found { rows, is_whole, is_one, reach } = find(ctx, circle, part, limit).await?;
    let page = Snapshot::page(&rows, limit, !is_whole, |row| {
        let message = Message::from_row(row);
        Ok(ListItem { id: Some(message.id), cursor: message.id.encode(), json: to_json(&message)? })
    })?;
    let page = match &page.loaded {
        Loaded::List { items, more, .. } => {
            let last = items.last().filter(|_| *more).and_then(|item| item.id);
            let is_kept = !reach.is_leaving(last);
            Snapshot { is_kept, ..page.archived_before(reach.archived_before(last).map(Month::begins)) }
        }
        _ => page,
    };
    if !is_one {
        // Counts that are read at several moments have no one position.
        return Ok(page);
    }
    // Rows beyond the page only tell that there are more. Without a message, one row holds the position.
    let shown = rows.get(..messages_of(&page.loaded).len().max(1)).unwrap_or(&rows);
    Ok(Snapshot { alongside: snapshot::alongside(circle, shown), ..page })
}

/// The rows of a page.
struct Found {
    rows: Vec<Row>,
    /// Whether nothing follows in that direction beyond these rows.
    is_whole: bool,
    /// Whether one statement read them, at one moment.
    is_one: bool,
    reach: Reach,
}

/// Statements that a page takes, unless they have found nothing: one for two months. A circle that says little has more months than
/// its page has messages.
const STEPS: usize = 8;

/// Finds up to one more than `limit`. Each statement reads two months, so that it touches two partitions. The first one looks where
/// most pages are, by this origin's clock; the circle's row, in the same snapshot, says whether to look elsewhere.
async fn find(ctx: &Ctx, circle: Uuid, part: Part, limit: usize) -> Result<Found> {
    let mut stretch = match part {
        Part::Newest => Stretch::before(Month::of(clock::now()).plus(1).first_id()),
        Part::Before(place) => Stretch::before(id_at(ctx, circle, place).await?),
        Part::After(place) => Stretch::after(id_at(ctx, circle, place).await?),
    };
    let (region, partition) = (&ctx.config.region, number(Partition::of(circle)));
    let mut found = Found { rows: Vec::new(), is_whole: false, is_one: true, reach: Reach::default() };
    for step in 0.. {
        let sql = if stretch.is_forwards { LIST_AFTER } else { LIST };
        let missing = (limit + 1 - count(&found.rows)) as i64;
        let rows =
            ctx.db.query(sql, &[&circle, &stretch.from, &stretch.to, &missing, region, &partition]).await?;
        let Some(first) = rows.first() else { return Ok(found) };
        let newest: Option<Uuid> = first.get("last_id");
        if step == 0
            && part == Part::Newest
            && let Some(newest) = newest.filter(|newest| *newest >= stretch.from)
        {
            // This origin's clock is behind.
            stretch = Stretch::before(Month::of_id(newest).plus(1).first_id());
            continue;
        }
        if found.reach.start.is_none() {
            found.reach = Reach::from_row(&stretch, first);
        }
        found.is_one = found.rows.is_empty();
        if found.is_one {
            found.rows = rows;
        } else {
            found.rows.extend(rows.into_iter().filter(is_message));
        }
        let held = count(&found.rows);
        match stretch.next(&found.reach.months) {
            None => {
                found.is_whole = true;
                return Ok(found);
            }
            Some(_) if held > limit || (step >= STEPS && held > 0) => return Ok(found),
            Some(next) => stretch = next,
        }
    }
    Ok(found)
}

fn is_message(row: &Row) -> bool {
    row.get::<_, Option<Uuid>>("id").is_some()
}

fn count(rows: &[Row]) -> usize {
    rows.iter().filter(|row| is_message(row)).count()
}

/// The id of the message at a place; if there is none, one that sorts there.
async fn id_at(ctx: &Ctx, circle: Uuid, place: Place) -> Result<Uuid> {
    let number = match place {
        Place::Id(id) => return Ok(id),
        Place::Number(number) => number,
    };
    let Some(row) = ctx.db.query_opt(MONTHS, &[&circle]).await? else { return Ok(Uuid::nil()) };
    let (months, numbers): (Vec<NaiveDate>, Vec<i64>) = (row.get(0), row.get(1));
    let Some((month, _)) = months.iter().zip(&numbers).rfind(|(_, first)| **first <= number) else {
        return Ok(Uuid::nil());
    };
    let month = Month::of_day(*month);
    let (from, to) = (month.first_id(), month.plus(1).first_id());
    let row = ctx.db.query_opt(NUMBERED, &[&circle, &number, &from, &to]).await?;
    // Beyond the newest, or gone with its month.
    Ok(row.map_or(to, |row| row.get(0)))
}
