//! Activity: who posts, reacts and visits, by circle and day, off the path of the requests that it comes from.
//!
//! Posts are counted from the outbox, reactions where they come to Postgres, visits from the partition's stream. Days are
//! UTC's: one circle has people in many zones.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use chrono::{DateTime, NaiveDate, Utc};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Partition, Uuid, parse_id};
use optimist_shared::reactions::Promise;
use optimist_shared::visits::Visit;
use serde::Serialize;

use crate::app::{Ctx, Handlers, on};
use crate::body::sent::parse_day;
use crate::body::{digest, json_response, tagged, to_json};
use crate::circles::{Standing, is_moderator};
use crate::cursor::{Cursor, no_query, page};
use crate::error::{Error, Result};
use crate::members::Person;
use crate::notifications::folding::Change;
use crate::postgres::{Tx, WriteContext, transaction};
use crate::projections::Event;
use crate::redis::{Call, Items};
use crate::region::Mode;
use crate::request::Caller;
use crate::session::{reader_of_circle, require_member};
use crate::write_behind;

pub fn routes() -> Handlers {
    vec![on("visits.record", visit), on("activity.live", live), on("activity.history", history)]
}

/// Of people who are gone, nothing.
const ADD: &str = "-- activity::add
insert into activity as a (circle_id, user_id, day, posts, reactions, visits, last_seen_at)
select d.circle_id, d.user_id, d.day, d.posts, d.reactions, d.visits::bit(288), d.last_seen_at
from unnest($1::uuid[], $2::uuid[], $3::date[], $4::integer[], $5::integer[], $6::text[], $7::timestamptz[])
    as d (circle_id, user_id, day, posts, reactions, visits, last_seen_at)
join users on users.id = d.user_id
order by d.circle_id, d.user_id, d.day
on conflict (circle_id, user_id, day) do update
    set posts = a.posts + excluded.posts, reactions = a.reactions + excluded.reactions,
        visits = a.visits | excluded.visits, last_seen_at = greatest(a.last_seen_at, excluded.last_seen_at)";

/// Whose visits count: members of circles that live.
const MEMBERS: &str = "-- activity::members
select m.circle_id, m.user_id from memberships m
join unnest($1::uuid[], $2::uuid[]) as v (circle_id, user_id) using (circle_id, user_id)
join circles c on c.id = m.circle_id and c.archived_at is null
where m.role <> 'banned'";

const LIVE: &str = "-- activity::live
select count(*), coalesce(sum(posts), 0), coalesce(sum(reactions), 0), coalesce(sum(bit_count(visits)), 0)::bigint, max(last_seen_at)
from activity where circle_id = $1 and day = $2";

const HISTORY: &str = "-- activity::history
select day, user_id, users.name, posts, reactions, bit_count(visits), last_seen_at
from activity join users on users.id = user_id
where circle_id = $1 and day <= coalesce($2::date, 'infinity')
  and (day < coalesce($2::date, 'infinity') or user_id > $3::uuid)
order by day desc, user_id limit $4";

pub const STATEMENTS: &[&str] = &[ADD, MEMBERS, LIVE, HISTORY];

/// Two visits within these milliseconds of a day are one.
const SLOT_MS: i64 = 5 * 60 * 1000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const SLOTS: i64 = DAY_MS / SLOT_MS;

/// What one person did in a circle on a day.
#[derive(Clone, Debug, Default)]
struct Deeds {
    posts: i32,
    reactions: i32,
    /// In which of the day's slots.
    visits: BTreeSet<i64>,
    last_seen: DateTime<Utc>,
}

/// By circle, person and day.
type Days = BTreeMap<(Uuid, Uuid, NaiveDate), Deeds>;

fn deeds_of(days: &mut Days, circle: Uuid, user: Uuid, at: DateTime<Utc>) -> &mut Deeds {
    let deeds = days.entry((circle, user, at.date_naive())).or_default();
    deeds.last_seen = deeds.last_seen.max(at);
    deeds
}

async fn add(tx: &Tx, days: &Days) -> Result<()> {
    if days.is_empty() {
        return Ok(());
    }
    let (mut circles, mut users, mut dates) = (Vec::new(), Vec::new(), Vec::new());
    for (circle, user, day) in days.keys() {
        circles.push(*circle);
        users.push(*user);
        dates.push(*day);
    }
    let column = |of: fn(&Deeds) -> i32| -> Vec<i32> { days.values().map(of).collect() };
    let seen: Vec<DateTime<Utc>> = days.values().map(|deeds| deeds.last_seen).collect();
    let (posts, reactions) = (column(|deeds| deeds.posts), column(|deeds| deeds.reactions));
    let bits =
        |deeds: &Deeds| (0..SLOTS).map(|slot| if deeds.visits.contains(&slot) { '1' } else { '0' }).collect();
    let visits: Vec<String> = days.values().map(bits).collect();
    tx.execute(ADD, &[&circles, &users, &dates, &posts, &reactions, &visits, &seen]).await.map(drop)
}

/// Counts posts: a projection of the outbox.
pub async fn follow(tx: &Tx, events: &[Event]) -> Result<()> {
    let mut days = Days::new();
    for event in events.iter().filter(|event| event.kind == "message.posted") {
        if let (Some(circle), Some(user)) = (event.id("circle"), event.actor) {
            deeds_of(&mut days, circle, user, event.at).posts += 1;
        }
    }
    add(tx, &days).await
}

/// Counts reactions that were made, in the transaction that makes them.
pub async fn reacted(tx: &Tx, changes: &[Change]) -> Result<()> {
    let mut days = Days::new();
    for change in changes.iter().filter(|change| change.is_on && !change.was_on) {
        deeds_of(&mut days, change.circle, change.user, change.at).reactions += 1;
    }
    add(tx, &days).await
}

/// A visit, as it stands in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VisitEntry {
    pub user: Uuid,
    pub circle: Uuid,
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
}

impl VisitEntry {
    /// From an entry's value, as the script writes it, and the milliseconds of its id.
    pub fn parse(value: &str, at_ms: i64) -> Option<VisitEntry> {
        let (user, circle) = value.split_once(' ')?;
        Some(VisitEntry { user: parse_id(user)?, circle: parse_id(circle)?, at_ms })
    }
}

/// Counts visits, several in five minutes as one, however often they come.
pub async fn visited(tx: &Tx, visits: &[VisitEntry]) -> Result<()> {
    if visits.is_empty() {
        return Ok(());
    }
    let members = members(tx, visits).await?;
    let mut days = Days::new();
    for visit in visits.iter().filter(|visit| members.contains(&(visit.circle, visit.user))) {
        if let Some(at) = DateTime::from_timestamp_millis(visit.at_ms) {
            let slot = visit.at_ms.rem_euclid(DAY_MS) / SLOT_MS;
            deeds_of(&mut days, visit.circle, visit.user, at).visits.insert(slot);
        }
    }
    add(tx, &days).await
}

async fn members(tx: &Tx, visits: &[VisitEntry]) -> Result<BTreeSet<(Uuid, Uuid)>> {
    let named: BTreeSet<(Uuid, Uuid)> = visits.iter().map(|visit| (visit.circle, visit.user)).collect();
    let (circles, users): (Vec<Uuid>, Vec<Uuid>) = named.into_iter().unzip();
    let rows = tx.query(MEMBERS, &[&circles, &users]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Notes a visit where the edge could not.
async fn visit(State(app): State<Ctx>, caller: Caller) -> Result<Response> {
    let circle = caller.request.path.circle.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    require_member(&app, &caller, circle).await?;
    if app.region.mode() == Mode::Fenced
        && let Some(promise) = visit_live(&app, &caller, circle).await?
    {
        return Ok(json_response(202, None, Visit::answer(promise)));
    }
    // Without Redis at once; an entry for the same five minutes that is still in a stream counts no second time.
    let order = [circle];
    let context = WriteContext {
        name: "activity::visit",
        request: &caller.request,
        actor: caller.actor(),
        order: &order,
    };
    transaction!(&app, context, |tx| {
        Standing::read(tx, circle, caller.user).await?.require_member()?;
        let at_ms = Utc::now().timestamp_millis();
        visited(tx, &[VisitEntry { user: caller.user, circle, at_ms }]).await?;
        // No key holds visits, and no one learns of one.
        tx.unchanged();
        Ok(())
    })?;
    Ok(json_response(202, None, Visit::answer(Promise::Postgres)))
}

/// `None` if Redis cannot be asked.
async fn visit_live(app: &Ctx, caller: &Caller, circle: Uuid) -> Result<Option<Promise>> {
    /// Opened, and over again before it was used: hardly twice.
    const ROUNDS: u32 = 3;
    let partition = Partition::of(circle);
    let parameters = caller.request.path.with_session(Some(caller.user), None);
    let visit = Visit::new(&parameters).ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    for _ in 0..ROUNDS {
        let script = &app.cache.redis.scripts.visit;
        let call = Call { script, keys: visit.keys(), arguments: visit.arguments() };
        let Ok(values) = app.cache.redis.call(&[call]).await else { return Ok(None) };
        let outcome = Items::new(values.into_iter().next().unwrap_or(::redis::Value::Nil)).text();
        match outcome.as_str() {
            "done" => return Ok(Some(Promise::Redis)),
            "closed" if write_behind::open_patiently(app, partition).await? => {}
            "full" if write_behind::flush_all_of(app, partition).await? => {}
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// The circle in the path, for its moderators.
async fn moderated(app: &Ctx, caller: &Caller) -> Result<Uuid> {
    let (circle, role) = reader_of_circle(app, caller).await?;
    if is_moderator(role) { Ok(circle) } else { Err(Error::new(ErrorCode::Forbidden)) }
}

/// Brings what waits to Postgres; somebody else may be at it.
async fn flush(app: &Ctx, circle: Uuid) -> Result<()> {
    const ROUNDS: u32 = 20;
    const AGAIN: Duration = Duration::from_millis(25);
    for _ in 0..ROUNDS {
        // Without Redis nothing waits that could be reached.
        if app.region.mode() != Mode::Fenced || write_behind::flush_all_of(app, Partition::of(circle)).await?
        {
            break;
        }
        tokio::time::sleep(AGAIN).await;
    }
    Ok(())
}

#[derive(Serialize)]
struct Live {
    day: NaiveDate,
    people: i64,
    posts: i64,
    reactions: i64,
    visits: i64,
    last_seen_at: Option<DateTime<Utc>>,
}

/// Today's, with what waits in the stream: it is flushed first.
async fn live(State(app): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let circle = moderated(&app, &caller).await?;
    flush(&app, circle).await?;
    let day = Utc::now().date_naive();
    let row = app.db.query_opt(LIVE, &[&circle, &day]).await?;
    let row = row.ok_or_else(|| Error::internal("activity", &"a sum without a row"))?;
    let live = Live {
        day,
        people: row.get(0),
        posts: row.get(1),
        reactions: row.get(2),
        visits: row.get(3),
        last_seen_at: row.get(4),
    };
    let json = to_json(&live)?;
    Ok(tagged(&headers, &digest(&[&json]), "", json))
}

#[derive(Serialize)]
struct Day {
    day: NaiveDate,
    user: Person,
    posts: i32,
    reactions: i32,
    visits: i64,
    last_seen_at: DateTime<Utc>,
}

/// After this person on this day.
#[derive(Clone, Copy, Debug, PartialEq)]
struct OnDay(NaiveDate, Uuid);

impl Cursor for OnDay {
    const KIND: char = 'a';

    fn render(&self) -> String {
        format!("{}:{}", self.0, self.1)
    }

    fn parse(text: &str) -> Option<OnDay> {
        let (day, user) = text.split_once(':')?;
        Some(OnDay(parse_day(day)?, parse_id(user)?))
    }
}

async fn history(State(app): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let page = page::<OnDay>(uri.query(), "cursor")?;
    let circle = moderated(&app, &caller).await?;
    let (day, user) = (page.after.map(|after| after.0), page.after.map(|after| after.1));
    let rows = app.db.query(HISTORY, &[&circle, &day, &user, &(page.limit as i64 + 1)]).await?;
    let items: Vec<Day> = rows
        .iter()
        .take(page.limit)
        .map(|row| Day {
            day: row.get(0),
            user: Person { id: row.get(1), name: row.get(2) },
            posts: row.get(3),
            reactions: row.get(4),
            visits: row.get(5),
            last_seen_at: row.get(6),
        })
        .collect();
    let last = items.last().filter(|_| rows.len() > page.limit);
    let next = last.map(|last| OnDay(last.day, last.user.id).encode());
    let json = to_json(&serde_json::json!({"items": items, "next": next}))?;
    Ok(tagged(&headers, &digest(&[&json]), "", json))
}
