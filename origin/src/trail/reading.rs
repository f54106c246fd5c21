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
use optimist_plane::http::page::{Cursor, answer_report, limit, page, parameters_of};
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
            .answers::<Trail>(200)
            .pages("before")
            .filter::<Id>("circle", "What was done in this circle alone.")
            .filter::<Id>("user", "What was done to this account alone.")
            .filter::<Id>("actor", "What this person did alone."),
        on("me.audit", mine)
            .says("What happened to the caller's account, and what the caller did to circles and roles, newest first.")
            .notes("What people write, react to or read is not in it. Read replicas answer it: `as_of` says of when.")
            .answers::<Trail>(200)
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

    /// The months that the trail has, and those that are archived. They are asked for after the records: a month that left in between is
    /// one of the latter, and so is one that has just come back.
    const MONTHS: &str = "-- trail::months
select (month_begin(leaf) at time zone 'UTC')::date, false from leaves('audit') leaf
union all
select month, true from archived
where name = 'audit'
  and (state in ('leaving', 'detached', 'dropped') or state = 'restored' and changed_at > now() - interval '1 minute')
order by 1 desc";
}

/// A page of the trail, as [`answer_report`] renders it.
#[derive(JsonSchema)]
#[schemars(rename = "AuditRecordReport")]
#[expect(dead_code, reason = "it is a description alone")]
struct Trail {
    items: Vec<Record>,
    /// The cursor of the page that follows.
    next: Option<String>,
    /// Everything that was acknowledged by then is shown; of later changes some may be.
    as_of: Time,
    /// Records of before this moment are archived, of a month at least. Left out unless the page reaches them.
    #[schemars(with = "Time", skip_serializing_if = "Option::is_none")]
    archived_before: Option<Time>,
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
pub struct Place {
    pub at: DateTime<Utc>,
    pub xid: u64,
    pub seq: i64,
}

impl Place {
    /// After all records of a moment.
    pub fn end_of(at: DateTime<Utc>) -> Place {
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
    /// The first month that it can have records of: that of the id, whose owner did not exist before.
    fn first_month(self) -> Option<Month> {
        match self {
            Part::All => None,
            Part::Circle(id) | Part::User(id) | Part::Actor(id) | Part::Own(id) => Some(Month::of_id(id)),
        }
    }

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
    let start = before.filter(|before| before.at <= newest.at).unwrap_or(newest);
    let mut before = start;
    let mut reader = ctx.reader();
    let mut months: Option<Months> = None;
    let (mut rows, mut is_whole) = (Vec::new(), false);
    for step in 1.. {
        // A statement reads two months, so that it touches two partitions.
        let first = Month::of(before.at).plus(-1);
        rows.extend(part.read(&mut reader, first.begins(), before, limit + 1 - rows.len()).await?);
        if rows.len() > limit || (step >= STEPS && !rows.is_empty()) {
            break;
        }
        let known = match months.take() {
            Some(known) => known,
            None => Months::of(&reader.query(MONTHS, &[]).await?),
        };
        let Months { held, .. } = months.insert(known);
        let Some(older) = held.iter().find(|month| **month < first) else {
            is_whole = true;
            break;
        };
        before = Place::end_of(older.plus(1).begins() - TimeDelta::microseconds(1));
    }
    let records = rows.iter().take(limit).map(Record::from_row).collect::<Result<Vec<_>>>()?;
    // A month that is not over is not archived, so a page of this month alone reaches none.
    if months.is_none() && Month::of(start.at) < Month::of(clock::now()) {
        months = Some(Months::of(&reader.query(MONTHS, &[]).await?));
    }
    let last = records.last().filter(|_| !is_whole).map(|record| record.place.at);
    let before = months.and_then(|months| months.archived_before(part.first_month(), start.at, last));
    answer_report(records, !is_whole, before.map(Month::begins), reader.as_of()?, |record| record.place)
}

/// The trail's months, the newest first.
struct Months {
    held: Vec<Month>,
    archived: Vec<Month>,
}

impl Months {
    /// From rows of month and whether it is archived.
    fn of(rows: &[Row]) -> Months {
        let (archived, held): (Vec<&Row>, _) = rows.iter().partition(|row| row.get::<_, bool>(1));
        let months =
            |rows: Vec<&Row>| rows.iter().map(|row| Month::of_day(row.get::<_, NaiveDate>(0))).collect();
        Months { held: months(held), archived: months(archived) }
    }

    /// The month after the newest archived one, from `first` on, that a page passes from `start` down to `last`, or to the end.
    fn archived_before(
        &self,
        first: Option<Month>,
        start: DateTime<Utc>,
        last: Option<DateTime<Utc>>,
    ) -> Option<Month> {
        let is_passed = |month: &&Month| {
            first.is_none_or(|first| **month >= first)
                && month.begins() <= start
                && last.is_none_or(|last| month.plus(1).begins() > last)
        };
        self.archived.iter().find(is_passed).map(|month| month.plus(1))
    }
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
    fn a_page_tells_of_the_newest_archived_month_that_it_passes() {
        let month = |number| Month::of_day(NaiveDate::from_ymd_opt(2025, number, 1).unwrap());
        let at = |number| month(number).begins() + Days::new(9);
        let months =
            Months { held: vec![month(9), month(8), month(4)], archived: vec![month(6), month(5), month(2)] };
        assert_eq!(months.archived_before(None, at(9), Some(at(8))), None);
        assert_eq!(months.archived_before(None, at(9), Some(at(4))), Some(month(7)));
        assert_eq!(months.archived_before(None, at(5), None), Some(month(6)));
        assert_eq!(months.archived_before(None, at(4), None), Some(month(3)), "and so a client goes on");
        assert_eq!(months.archived_before(None, at(1), None), None);
        assert_eq!(months.archived_before(Some(month(6)), at(9), None), Some(month(7)));
        assert_eq!(months.archived_before(Some(month(7)), at(9), None), None, "there was nobody yet");
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
