//! What somebody has posted, and how they have reacted.
//!
//! No index finds messages by author. Activity says in which circles somebody has posted, and on which days: only these days of the
//! circles are read, in parts. Reactions may be to older messages: all months of the circles are read in which there are any.

use chrono::{Days, NaiveDate, NaiveTime, TimeDelta};
use optimist_plane::clock;
use optimist_plane::error::Result;
use optimist_plane::months::Month;
use optimist_plane::statements;
use optimist_shared::ids::{Uuid, parse_id};
use optimist_shared::reactions::Kind;
use serde_json::{Value, json};
use tokio_postgres::Row;

use crate::export::sections::{Part, Reading, months_of};
use crate::reactions::snapshot::kind_of;

/// Messages of a circle that one statement looks at: its rows may have the longest texts.
const MESSAGES: i64 = 200;
const REACTIONS: i64 = 1_000;

statements! {
    /// The next day of a circle in which the person has posted, of the days from `$2` to before `$3`.
    const NEXT_DAY: &str = "-- exports::next_day, planned anew
select circle_id, day from activity
where user_id = $1 and day >= $2 and day < $3 and (circle_id, day) > ($4, $5) and posts > 0
order by circle_id, day limit 1";

    /// The next messages of a circle: the last one's id, how many there are, and those that are the person's.
    const POSTED: &str = "-- exports::posted, planned anew
with part as materialized (
    select id, number, author_id, body, created_at, edited_at, parent_id, comments, deleted_at from messages
    where circle_id = $1 and id > $2 and id < $3 order by id limit $5)
select its.last, its.n, p.id is not null, jsonb_build_object('id', p.id, 'circle_id', $1::uuid, 'number', number, 'body', body,
    'parent_id', parent_id, 'comments', comments, 'created_at', created_at, 'edited_at', edited_at)
from (select (select id from part order by id desc limit 1) as last, (select count(*) from part) as n) its
left join part p on author_id = $4 and deleted_at is null
order by p.id";

    const NEXT_CIRCLE: &str = "-- exports::next_reacted, planned anew
select circle_id from activity
where user_id = $1 and day >= $2 and day < $3 and circle_id > $4 and reactions > 0 order by circle_id limit 1";

    /// The next reactions in a month of a circle: those that are the person's, and the last.
    const REACTED: &str = "-- exports::reacted, planned anew
with part as materialized (
    select message_id, kind, user_id, is_on, reacted_at, row_number() over (order by message_id, kind, user_id) as nth
    from (
        select message_id, kind, user_id, is_on, reacted_at from reactions
        where circle_id = $1 and message_id >= $2 and message_id < $3 and (message_id, kind, user_id) > ($4, $5, $6)
        order by message_id, kind, user_id limit $8) next)
select message_id, kind, user_id, is_on, nth, reacted_at from part
where (user_id = $7 and is_on) or nth = (select count(*) from part) order by nth";
}

/// A place among messages: in a month, of a circle, on a day, and the last message that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Posted {
    month: Month,
    circle: Uuid,
    day: NaiveDate,
    through: Uuid,
    /// The day is not over.
    is_within: bool,
}

impl Posted {
    fn begin(month: Month) -> Posted {
        Posted {
            month,
            circle: Uuid::nil(),
            day: NaiveDate::default(),
            through: Uuid::nil(),
            is_within: false,
        }
    }

    fn parse(text: &str) -> Option<Posted> {
        let parts: Vec<&str> = text.split(' ').collect();
        let [month, circle, day, through, within] = parts[..] else { return None };
        Some(Posted {
            month: Month::of_day(month.parse().ok()?),
            circle: parse_id(circle)?,
            day: day.parse().ok()?,
            through: parse_id(through)?,
            is_within: within == "within",
        })
    }

    fn render(self) -> String {
        let Posted { month, circle, day, through, is_within } = self;
        let within = if is_within { "within" } else { "over" };
        format!("{} {circle} {day} {through} {within}", month.first_day())
    }

    /// The ids before its day, and after it. A post's activity is of the moment when its transaction began, and its id is given
    /// later, but not by ten minutes.
    fn bounds(self) -> (Uuid, Uuid) {
        let midnight = self.day.and_time(NaiveTime::MIN).and_utc();
        let least = |millis: i64| Uuid::from_u128(u128::from(millis.max(0).cast_unsigned()) << 80);
        let from = least(midnight.timestamp_millis()).max(self.month.first_id()).max(self.through);
        let end = midnight + Days::new(1) + TimeDelta::minutes(10);
        (from, least(end.timestamp_millis()).min(self.month.plus(1).first_id()))
    }
}

/// The messages that somebody has posted.
pub async fn messages(Reading { reader, user, after, .. }: Reading<'_, '_>) -> Result<Part> {
    let (first, last) = months_of(user);
    let mut place = Posted::parse(after).unwrap_or(Posted::begin(first));
    if !place.is_within {
        let Posted { month, circle, day, .. } = place;
        let (begin, end) = (month.first_day() - Days::new(1), month.plus(1).first_day());
        let rows = reader.query(NEXT_DAY, &[&user, &begin, &end, &circle, &day]).await?;
        let Some(row) = rows.first() else {
            let next = (month < last).then(|| Posted::begin(month.plus(1)).render());
            return Ok(Part { items: Vec::new(), after: next });
        };
        // Another circle's ids begin anew.
        let next: Uuid = row.get(0);
        let through = if next == circle { place.through } else { Uuid::nil() };
        place = Posted { circle: next, day: row.get(1), through, is_within: true, ..place };
    }
    let (from, to) = place.bounds();
    let rows = reader.query(POSTED, &[&place.circle, &from, &to, &user, &MESSAGES]).await?;
    let read = rows.first().map(|row| (row.get::<_, Option<Uuid>>(0), row.get::<_, i64>(1)));
    let (through, count) = read.unwrap_or_default();
    place.through = through.unwrap_or(place.through).max(place.through);
    place.is_within = count == MESSAGES;
    let items = rows.iter().filter(|row| row.get(2)).map(|row| row.get(3)).collect();
    Ok(Part { items, after: Some(place.render()) })
}

/// A place among reactions: in a month of a circle, after a reaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reacted {
    circle: Uuid,
    month: Month,
    message: Uuid,
    kind: i16,
    user: Uuid,
}

impl Reacted {
    fn begin(circle: Uuid, month: Month) -> Reacted {
        Reacted { circle, month, message: Uuid::nil(), kind: 0, user: Uuid::nil() }
    }

    fn parse(text: &str) -> Option<Reacted> {
        let parts: Vec<&str> = text.split(' ').collect();
        let [circle, month, message, kind, user] = parts[..] else { return None };
        Some(Reacted {
            circle: parse_id(circle)?,
            month: Month::of_day(month.parse().ok()?),
            message: parse_id(message)?,
            kind: kind.parse().ok()?,
            user: parse_id(user)?,
        })
    }

    fn render(self) -> String {
        let Reacted { circle, month, message, kind, user } = self;
        format!("{circle} {} {message} {kind} {user}", month.first_day())
    }
}

/// The reactions of somebody that have come to Postgres: the others do within seconds.
pub async fn reactions(mut reading: Reading<'_, '_>) -> Result<Part> {
    let Some(place) = Reacted::parse(reading.after) else {
        return next_circle(&mut reading, Uuid::nil()).await;
    };
    let Reacted { circle, month, message, kind, user: after } = place;
    let (first, last) = (month.first_id(), month.plus(1).first_id());
    let user = reading.user;
    let rows = reading
        .reader
        .query(REACTED, &[&circle, &first, &last, &message, &kind, &after, &user, &REACTIONS])
        .await?;
    let items = rows.iter().filter(|row| row.get::<_, Uuid>(2) == user && row.get(3));
    let items: Vec<Value> = items.map(|row| reaction(circle, row)).collect();
    let more = rows.last().filter(|row| row.get::<_, i64>(4) == REACTIONS);
    let after = match more {
        Some(row) => Reacted { message: row.get(0), kind: row.get(1), user: row.get(2), ..place }.render(),
        None if month <= Month::of(clock::now()) => Reacted::begin(circle, month.plus(1)).render(),
        None => {
            let next = next_circle(&mut reading, circle).await?;
            return Ok(Part { items, ..next });
        }
    };
    Ok(Part { items, after: Some(after) })
}

fn reaction(circle: Uuid, row: &Row) -> Value {
    let place: i16 = row.get(1);
    let kind = kind_of(place).map(Kind::as_str);
    let at: chrono::DateTime<chrono::Utc> = row.get(5);
    json!({"circle_id": circle, "message_id": row.get::<_, Uuid>(0), "kind": kind, "reacted_at": at})
}

/// Goes on with the next circle in which the person has reacted.
async fn next_circle(reading: &mut Reading<'_, '_>, after: Uuid) -> Result<Part> {
    let (mut month, last) = months_of(reading.user);
    let mut next: Option<Uuid> = None;
    while month <= last {
        let (begin, end) = (month.first_day(), month.plus(1).first_day());
        let rows = reading.reader.query(NEXT_CIRCLE, &[&reading.user, &begin, &end, &after]).await?;
        next = next.into_iter().chain(rows.first().map(|row| row.get(0))).min();
        month = month.plus(1);
    }
    let begin = |circle| Reacted::begin(circle, Month::of_id(circle).plus(-1)).render();
    Ok(Part { items: Vec::new(), after: next.map(begin) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_written() {
        let month = Month::parse("2026-11").unwrap();
        let posted = Posted {
            circle: Uuid::from_u128(7),
            day: NaiveDate::from_ymd_opt(2026, 11, 3).unwrap(),
            through: Uuid::from_u128(9),
            is_within: true,
            ..Posted::begin(month)
        };
        for place in [posted, Posted::begin(month)] {
            assert_eq!(Posted::parse(&place.render()), Some(place));
        }
        let reacted = Reacted {
            message: Uuid::from_u128(3),
            kind: 4,
            user: Uuid::from_u128(5),
            ..Reacted::begin(Uuid::from_u128(7), month)
        };
        assert_eq!(Reacted::parse(&reacted.render()), Some(reacted));
        assert_eq!((Posted::parse(""), Reacted::parse("")), (None, None));
    }

    #[test]
    fn no_message_is_read_twice() {
        let month = Month::parse("2026-11").unwrap();
        let day =
            |day| Posted { day: NaiveDate::from_ymd_opt(2026, 11, day).unwrap(), ..Posted::begin(month) };
        let (from, to) = day(3).bounds();
        assert!(from > day(2).bounds().0 && from < day(2).bounds().1 && to > day(4).bounds().0);
        // The next day begins after what the day before has looked at.
        let through = Uuid::from_u128(to.as_u128() - 1);
        assert_eq!(Posted { through, ..day(4) }.bounds().0, through);
        // The last minutes of a month's last day are the next month's to read.
        let last = day(30).bounds().1;
        assert_eq!(last, month.plus(1).first_id());
        let before = Posted { month: month.plus(1), ..day(30) };
        assert_eq!(before.bounds().0, month.plus(1).first_id());
    }
}
