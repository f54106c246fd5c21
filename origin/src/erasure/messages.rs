//! The messages of the erased: deleted as by their author, or kept, by a deleted account. Either way no copy shows the former name.
//!
//! Activity says in which circles somebody has posted, and on which days: only these days of the circles are read, in parts.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Days, Duration, NaiveDate, NaiveTime, Utc};
use optimist_plane::clock;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::hooks;
use optimist_plane::months::Month;
use optimist_plane::outbox::end_of_stretch;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::WriteContext;
use optimist_plane::{statements, transaction};
use optimist_shared::ids::{Uuid, parse_id};
use optimist_shared::keys::{BoundKey, Key};
use serde_json::json;

use crate::erasure::steps::{Left, Person, request};
use crate::messages::mentions::note_deletion;

statements! {
    /// The projections' position, when the person had left all circles, and whether that is settled.
    const POSITION: &str = "-- erasure::position
select p.xid::text, p.seq, e.left_at::text, e.left_at < pg_snapshot_xmin(pg_current_snapshot())
from erased e, projections p where e.user_id = $1 and p.name = 'main'";

    const IS_PENDING: &str = "-- erasure::is_pending, planned anew
select exists (select from outbox where (xid, seq) > ($1::text::xid8, $2) and xid >= $1::text::xid8 and xid <= $3::text::xid8)";

    const NEXT_DAY: &str = "-- erasure::next_day, planned anew
select circle_id, day from activity
where user_id = $1 and day >= $2 and day < $3 and (circle_id, day) > ($4, $5) and posts > 0
order by circle_id, day limit 1";

    /// The last of the next messages of a circle, and those of them that are the person's, with the messages that begin their threads.
    const PART: &str = "-- erasure::messages, planned anew
with part as materialized (
    select id, author_id, parent_id, deleted_at from messages where circle_id = $1 and id > $2 and id < $3 order by id limit 1000)
select (select id from part order by id desc limit 1), (select count(*) from part),
    array(select id from part where author_id = $4 and deleted_at is null order by id),
    array(select coalesce(parent_id, id) from part where author_id = $4 and deleted_at is null order by id)";

    /// Selects those that it deletes, with the messages that they belong to and their former texts. The circle's lock keeps these as they
    /// are.
    const DELETE: &str = "-- erasure::delete_messages, planned anew
with own as materialized (
    select id, parent_id, body from messages where circle_id = $1 and id = any($2) and author_id = $3 and deleted_at is null),
gone as (
    update messages set body = '', version = version + 1, deleted_at = now()
    where circle_id = $1 and id = any($2) and author_id = $3 and deleted_at is null
    returning id)
select id, parent_id, body from own join gone using (id) order by id";

    /// Takes deleted comments off their threads.
    const UNTHREAD: &str = "-- erasure::unthread, planned anew
update messages m set comments = m.comments - gone.n
from (select id, count(*)::integer as n from unnest($2::uuid[]) as comment_of (id) group by id) gone
where m.circle_id = $1 and m.id = any($2) and m.id = gone.id";

    /// An event for each, as if its author had deleted it alone.
    const RECORD: &str = "-- erasure::record
insert into outbox (region, request_id, keys, kind, payload, topics)
select $1, $2, string_to_array(keys, ' '), 'message.deleted', payload::jsonb, array[$3::uuid]
from unnest($4::text[], $5::text[]) as deleted (keys, payload)";
}

/// Messages of one part.
const ROWS: i64 = 1_000;
/// Messages that one transaction changes: four fences each.
const AT_ONCE: usize = 100;
/// An event is noted, and its message's id given, within this time of each other.
const APART: Duration = Duration::minutes(10);

/// How far it is: in a month, after a circle's day; or within the day, after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    month: Month,
    circle: Uuid,
    day: NaiveDate,
    within: Option<Uuid>,
}

impl Place {
    fn begin(month: Month) -> Place {
        Place { month, circle: Uuid::nil(), day: NaiveDate::default(), within: None }
    }

    fn parse(text: &str) -> Option<Place> {
        let mut parts = text.split(' ');
        let month = Month::of_day(parts.next()?.parse().ok()?);
        let (circle, day) = (parts.next().and_then(parse_id)?, parts.next()?.parse().ok()?);
        let within = match parts.next() {
            Some(id) => Some(parse_id(id)?),
            None => None,
        };
        Some(Place { month, circle, day, within })
    }

    fn left(self) -> Left {
        let Place { month, circle, day, within } = self;
        let within = within.map_or(String::new(), |id| format!(" {id}"));
        Left::MoreAfter(format!("{} {circle} {day}{within}", month.first_day()))
    }
}

/// Goes through the next part of a day in which the person has posted.
pub async fn go(ctx: &Ctx, person: &Person) -> Result<Left> {
    let user = person.user;
    let Some(mut place) = person.after.as_deref().and_then(Place::parse) else {
        return Ok(match is_projected(ctx, user).await? {
            true => Place::begin(Month::of_id(user).plus(-1)).left(),
            false => Left::Waits,
        });
    };
    if place.within.is_none() {
        let Place { month, circle, day, .. } = place;
        let (first, last) = (month.first_day(), month.plus(1).first_day());
        match ctx.db.query_opt(NEXT_DAY, &[&user, &first, &last, &circle, &day]).await? {
            Some(row) => (place.circle, place.day) = (row.get(0), row.get(1)),
            None if month > Month::of(clock::now()) => return Ok(Left::Nothing),
            None => return Ok(Place::begin(month.plus(1)).left()),
        }
    }
    let midnight = place.day.and_time(NaiveTime::MIN).and_utc();
    let first = place.within.unwrap_or(least_id(midnight - APART));
    let last = least_id(midnight + Days::new(1) + APART);
    let rows = ctx.db.query(PART, &[&place.circle, &first, &last, &user]).await?;
    let Some(row) = rows.first() else { return Ok(place.left()) };
    let (within, count): (Option<Uuid>, i64) = (row.get(0), row.get(1));
    let (own, threads): (Vec<Uuid>, Vec<Uuid>) = (row.get(2), row.get(3));
    let own: Vec<(Uuid, Uuid)> = own.into_iter().zip(threads).collect();
    for some in own.chunks(AT_ONCE) {
        change(ctx, person, place.circle, some).await?;
        hooks::step("erasure.messages").await;
    }
    Ok(Place { within: within.filter(|_| count == ROWS), ..place }.left())
}

/// Whether the consequences of all that the person has posted are written: activity is one of them.
async fn is_projected(ctx: &Ctx, user: Uuid) -> Result<bool> {
    let Some(row) = ctx.db.query_opt(POSITION, &[&user]).await? else { return Ok(false) };
    let (xid, seq, left_at): (String, i64, Option<String>) = (row.get(0), row.get(1), row.get(2));
    let Some(left_at) = left_at else { return Ok(true) };
    let number = |xid: &str| xid.parse::<i64>().unwrap_or_default();
    // Further than a stretch: there is more to project than one statement looks through.
    if row.get::<_, Option<bool>>(3) != Some(true) || number(&left_at) >= end_of_stretch(number(&xid)) {
        return Ok(false);
    }
    let pending = ctx.db.query_opt(IS_PENDING, &[&xid, &seq, &left_at]).await?;
    Ok(pending.is_some_and(|row| !row.get::<_, bool>(0)))
}

/// Sorts before every id that is given at a moment or later.
fn least_id(at: DateTime<Utc>) -> Uuid {
    Uuid::from_u128(u128::from(at.timestamp_millis().max(0).cast_unsigned()) << 80)
}

/// Deletes messages, or drops the copies that show who has written them. Each is named with the message that begins its thread.
async fn change(ctx: &Ctx, person: &Person, circle: Uuid, messages: &[(Uuid, Uuid)]) -> Result<()> {
    let request = request();
    let context = WriteContext::new("erasure::messages", &request, None, vec![circle]);
    transaction!(ctx, context, |tx| {
        let keys = messages.iter().flat_map(|(message, thread)| shown_in(circle, *message, *thread));
        let keys: BTreeMap<String, BoundKey> = keys.map(|key| (key.name(), key)).collect();
        keys.into_values().for_each(|key| tx.touch(key));
        if !person.keeps_messages {
            let messages: Vec<Uuid> = messages.iter().map(|(message, _)| *message).collect();
            delete(ctx, tx, person.user, circle, &messages).await?;
        }
        Ok(())
    })
}

/// The copies that show a message, or count it.
fn shown_in(circle: Uuid, message: Uuid, thread: Uuid) -> [BoundKey; 5] {
    [
        Key::circle_messages(circle),
        Key::circle_head(circle),
        Key::message(circle, message),
        Key::message(circle, thread),
        Key::comments(circle, thread),
    ]
}

async fn delete(ctx: &Ctx, tx: &mut Tx, user: Uuid, circle: Uuid, messages: &[Uuid]) -> Result<()> {
    let rows = tx.query(DELETE, &[&circle, &messages, &user]).await?;
    let (mut keys, mut payloads, mut parents) = (Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        let (message, parent): (Uuid, Option<Uuid>) = (row.get(0), row.get(1));
        let mut payload = json!({"circle": circle, "message": message});
        note_deletion(&mut payload, row.get(2));
        if let Some(parent) = parent {
            payload["parent"] = json!(parent);
            parents.push(parent);
        }
        let shown = shown_in(circle, message, parent.unwrap_or(message));
        let reactions = Key::reactions(circle, message);
        let names: BTreeSet<String> = shown.iter().chain([&reactions]).map(BoundKey::name).collect();
        keys.push(names.into_iter().collect::<Vec<_>>().join(" "));
        payloads.push(payload.to_string());
        tx.touch(reactions);
    }
    if !parents.is_empty() {
        tx.execute(UNTHREAD, &[&circle, &parents]).await?;
    }
    tx.execute(RECORD, &[&ctx.config.region, &"erasure.run", &circle, &keys, &payloads]).await?;
    // What is in a month on its way to the archive stays as it is here, and is erased there.
    if rows.is_empty() {
        tx.unchanged();
    }
    tx.recorded();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_noted() {
        let day = NaiveDate::from_ymd_opt(2026, 11, 28).unwrap();
        for within in [None, Some(Uuid::from_u128(9))] {
            let place = Place { month: Month::of_day(day), circle: Uuid::from_u128(7), day, within };
            let Left::MoreAfter(text) = place.left() else { panic!() };
            assert_eq!(Place::parse(&text), Some(place), "{text}");
        }
        for other in ["", "2026-11-01", "2026-11-01 x 2026-11-28"] {
            assert_eq!(Place::parse(other), None, "{other}");
        }
    }
}
