//! The trail as administrators read it, of a circle, an account or whoever acted, and as each person reads their own part.
//!
//! Replicas answer: the newest seconds may be missing, and `as_of` says so.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use optimist_plane::clock;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::page::{Cursor, Report, answer_report, limit, page, parameters_of};
use optimist_plane::http::sent::Id;
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::months::Month;
use optimist_plane::postgres::replicas::Reader;
use optimist_plane::request::Caller;
use optimist_plane::statements;
use optimist_shared::envelope::DEFAULT_LIMIT;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Uuid, parse_sent_id};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio_postgres::Row;

pub fn routes() -> Vec<Served> {
    vec![
        on("admin.audit", audit)
            .says("Who did what to an account, a circle or a role, newest first. For administrators.")
            .notes("At most one filter; without one, everything. Read replicas answer it: `as_of` says of when.")
            .answers::<Report<Record>>(200)
            .pages("before")
            .filter::<Id>("circle", "What was done in this circle alone.")
            .filter::<Id>("user", "What was done to this account alone.")
            .filter::<Id>("actor", "What this person did alone."),
        on("me.audit", mine)
            .says("What happened to the caller's account, and what the caller did to circles and roles, newest first.")
            .notes("What people write, react to or read is not in it. Read replicas answer it: `as_of` says of when.")
            .answers::<Report<Record>>(200)
            .pages("before"),
    ]
}

statements! {
    /// Of the moments from `$2` to `$3`, before the place `$3`, `$4`, `$5`.
    const OF_CIRCLE: &str = "-- trail::of_circle, planned anew
select at, xid::text, seq, kind, actor, circle_id, user_id, payload from audit
where circle_id = $1 and at >= $2 and at <= $3 and (at, xid, seq) < ($3, $4::text::xid8, $5)
order by at desc, xid desc, seq desc limit $6";

    const OF_USER: &str = "-- trail::of_user, planned anew
select at, xid::text, seq, kind, actor, circle_id, user_id, payload from audit
where user_id = $1 and at >= $2 and at <= $3 and (at, xid, seq) < ($3, $4::text::xid8, $5)
order by at desc, xid desc, seq desc limit $6";

    const OF_ACTOR: &str = "-- trail::of_actor, planned anew
select at, xid::text, seq, kind, actor, circle_id, user_id, payload from audit
where actor = $1 and at >= $2 and at <= $3 and (at, xid, seq) < ($3, $4::text::xid8, $5)
order by at desc, xid desc, seq desc limit $6";

    const OF_ALL: &str = "-- trail::of_all, planned anew
select at, xid::text, seq, kind, actor, circle_id, user_id, payload from audit
where at >= $1 and at <= $2 and (at, xid, seq) < ($2, $3::text::xid8, $4)
order by at desc, xid desc, seq desc limit $5";

    /// Rows of both kinds; what a person did to their own account is both.
    const OWN: &str = "-- trail::own, planned anew
select at, xid::text, seq, kind, actor, circle_id, user_id, payload from (
    (select * from audit
     where user_id = $1 and at >= $2 and at <= $3 and (at, xid, seq) < ($3, $4::text::xid8, $5)
     order by at desc, xid desc, seq desc limit $6)
    union
    (select * from audit
     where actor = $1 and at >= $2 and at <= $3 and (at, xid, seq) < ($3, $4::text::xid8, $5)
     order by at desc, xid desc, seq desc limit $6)) as own
order by at desc, own.xid desc, seq desc limit $6";

    /// The months that the trail has.
    const MONTHS: &str = "-- trail::months
select (month_begin(leaf) at time zone 'UTC')::date from leaves('audit') leaf order by 1 desc";
}

/// A record of the trail.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditRecord")]
struct Record {
    at: Time,
    /// What was done: `member.role`, `session.opened`.
    kind: String,
    /// Who did it. Null if nobody was signed in for it: a log-in, or the service's operator.
    actor: Option<Uuid>,
    /// In which circle, or to which.
    circle: Option<Uuid>,
    /// To whom.
    user: Option<Uuid>,
    /// What else there is to say of the kind: the role, the session, the invitation.
    details: Map<String, Value>,
    #[serde(skip)]
    place: Place,
}

impl Record {
    fn from_row(row: &Row) -> Result<Record> {
        let place = Place::from_row(row)?;
        let mut details = match row.get(7) {
            Value::Object(details) => details,
            _ => Map::new(),
        };
        details.remove("circle");
        details.remove("user");
        Ok(Record {
            at: Time(place.at),
            kind: row.get(3),
            actor: row.get(4),
            circle: row.get(5),
            user: row.get(6),
            details,
            place,
        })
    }
}

/// A record's place: its moment, its transaction, and its place among that transaction's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    at: DateTime<Utc>,
    xid: u64,
    seq: i64,
}

impl Place {
    /// After all records of a moment.
    fn end_of(at: DateTime<Utc>) -> Place {
        Place { at, xid: u64::MAX, seq: i64::MAX }
    }

    fn from_row(row: &Row) -> Result<Place> {
        let xid: &str = row.get(1);
        let xid = xid.parse().map_err(|why| Error::internal("trail", &why))?;
        Ok(Place { at: row.get(0), xid, seq: row.get(2) })
    }
}

impl Cursor for Place {
    const KIND: char = 't';

    fn render(&self) -> String {
        format!("{}:{}:{}", self.at.timestamp_micros(), self.xid, self.seq)
    }

    fn parse(text: &str) -> Option<Place> {
        /// The end of the year 9999.
        const LATEST_MICROS: i64 = 253_402_300_799_999_999;
        let (micros, row) = text.split_once(':')?;
        let (xid, seq) = row.split_once(':')?;
        let micros = micros.parse().ok().filter(|micros| (0..=LATEST_MICROS).contains(micros))?;
        let at = DateTime::from_timestamp_micros(micros)?;
        Some(Place { at, xid: xid.parse().ok()?, seq: seq.parse().ok().filter(|seq| *seq >= 0)? })
    }
}

/// The part of the trail that an answer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    All,
    Circle(Uuid),
    User(Uuid),
    Actor(Uuid),
    /// What was done to a person, and what the person did.
    Own(Uuid),
}

impl Part {
    /// Records before a place, as far back as `from`.
    async fn read(
        self,
        reader: &mut Reader<'_>,
        from: DateTime<Utc>,
        before: Place,
        most: usize,
    ) -> Result<Vec<Row>> {
        let (sql, id) = match self {
            Part::All => (OF_ALL, None),
            Part::Circle(circle) => (OF_CIRCLE, Some(circle)),
            Part::User(user) => (OF_USER, Some(user)),
            Part::Actor(actor) => (OF_ACTOR, Some(actor)),
            Part::Own(user) => (OWN, Some(user)),
        };
        let Place { at, xid, seq } = before;
        let (xid, most) = (xid.to_string(), most as i64);
        match id {
            Some(id) => reader.query(sql, &[&id, &from, &at, &xid, &seq, &most]).await,
            None => reader.query(sql, &[&from, &at, &xid, &seq, &most]).await,
        }
    }
}

/// What administrators ask for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    part: Part,
    before: Option<Place>,
    limit: usize,
}

impl Asked {
    fn parse(query: Option<&str>) -> Result<Asked> {
        let mut asked = Asked { part: Part::All, before: None, limit: DEFAULT_LIMIT };
        for (name, value) in parameters_of(query)? {
            let refused = |reason: &str| Error::new(ErrorCode::BadRequest).field(name.clone(), reason);
            let part: fn(Uuid) -> Part = match name.as_str() {
                "limit" => {
                    asked.limit = limit(&value)?;
                    continue;
                }
                "before" => {
                    let before =
                        Place::decode(&value).ok_or_else(|| refused("is not a cursor of this list"))?;
                    asked.before = Some(before);
                    continue;
                }
                "circle" => Part::Circle,
                "user" => Part::User,
                "actor" => Part::Actor,
                _ => return Err(refused("is not a parameter of this list")),
            };
            if asked.part != Part::All {
                return Err(refused("is one filter too many"));
            }
            asked.part = part(parse_sent_id(&value).ok_or_else(|| refused("must be an id: a UUID"))?);
        }
        Ok(asked)
    }
}

async fn audit(State(ctx): State<Ctx>, _: Caller, uri: Uri) -> Result<Response> {
    let Asked { part, before, limit } = Asked::parse(uri.query())?;
    answer(&ctx, part, before, limit).await
}

async fn mine(State(ctx): State<Ctx>, caller: Caller, uri: Uri) -> Result<Response> {
    let page = page::<Place>(uri.query(), "before")?;
    answer(&ctx, Part::Own(caller.user), page.after, page.limit).await
}

/// Statements that a page takes, unless they have found nothing: one for two months.
const STEPS: usize = 8;

async fn answer(ctx: &Ctx, part: Part, before: Option<Place>, limit: usize) -> Result<Response> {
    // Clocks differ, but not by a day.
    let newest = Place::end_of(clock::now() + Days::new(1));
    let mut before = before.filter(|before| before.at <= newest.at).unwrap_or(newest);
    let mut reader = ctx.reader();
    let mut months: Option<Vec<Month>> = None;
    let (mut rows, mut is_whole) = (Vec::new(), false);
    for step in 1.. {
        // A statement reads two months, so that it touches two partitions.
        let first = Month::of(before.at).plus(-1);
        rows.extend(part.read(&mut reader, begin(first), before, limit + 1 - rows.len()).await?);
        if rows.len() > limit || (step >= STEPS && !rows.is_empty()) {
            break;
        }
        if months.is_none() {
            let held = reader.query(MONTHS, &[]).await?;
            months = Some(held.iter().map(|row| Month::of_day(row.get::<_, NaiveDate>(0))).collect());
        }
        let Some(older) = months.iter().flatten().find(|month| **month < first) else {
            is_whole = true;
            break;
        };
        before = Place::end_of(begin(older.plus(1)) - TimeDelta::microseconds(1));
    }
    let records = rows.iter().take(limit).map(Record::from_row).collect::<Result<Vec<_>>>()?;
    answer_report(records, !is_whole, reader.as_of()?, |record| record.place)
}

fn begin(month: Month) -> DateTime<Utc> {
    month.first_day().and_hms_opt(0, 0, 0).unwrap_or_default().and_utc()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_place_round_trips_and_has_one_spelling(
            micros in 0..253_402_300_799_999_999i64,
            xid: u64,
            seq in 0..i64::MAX,
            noise in "(t:)?[0-9+-]{0,20}:[0-9+-]{0,20}:[0-9+-]{0,20}|\\PC*",
        ) {
            let place = Place { at: DateTime::from_timestamp_micros(micros).unwrap(), xid, seq };
            prop_assert_eq!(Place::decode(&place.encode()), Some(place));
            if let Some(parsed) = Place::parse(&noise) {
                prop_assert_eq!(Place::decode(&parsed.encode()), Some(parsed));
            }
        }

        #[test]
        fn a_query_is_a_part_or_refused(query in "((limit|before|circle|user|actor)=[0-9a-f%-]{0,36}&?){0,4}|\\PC*") {
            match Asked::parse(Some(&query)) {
                Ok(asked) => prop_assert!((1..=100).contains(&asked.limit)),
                Err(error) => prop_assert_eq!(error.code, ErrorCode::BadRequest),
            }
        }
    }

    #[test]
    fn a_query_names_one_part() {
        let part = |query: &str| Asked::parse(Some(query)).ok().map(|asked| asked.part);
        let id = Uuid::from_u128(7);
        assert_eq!(part(""), Some(Part::All));
        assert_eq!(part(&format!("circle={id}")), Some(Part::Circle(id)));
        assert_eq!(part(&format!("user={id}&limit=5")), Some(Part::User(id)));
        assert_eq!(part(&format!("actor={id}")), Some(Part::Actor(id)));
        for bad in [format!("circle={id}&user={id}"), "user=x".to_owned(), "from=1".to_owned()] {
            assert_eq!(part(&bad), None, "{bad}");
        }
    }
}
