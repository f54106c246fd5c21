//! Counts posts, reactions and visits by circle, person and day, and their sums by circle and day. Days are UTC's: one circle has people
//! in many zones.
//!
//! It runs in transactions of others: of the projections, of the flushes, or of a visit that is written through.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use optimist_plane::error::Result;
use optimist_plane::outbox::event::Event;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_plane::write_behind::entry::Placed;
use optimist_shared::ids::Uuid;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::activity::visit::VisitEntry;

statements! {
    /// Begins the days of people who have none yet in a circle. Deleted accounts are left out, here and below.
    const BEGIN: &str = "-- activity::begin (2,500 rows)
insert into activity (circle_id, user_id, day, posts, comments, reactions, visits, last_seen_at)
select d.circle_id, d.user_id, d.day, d.posts, d.comments, d.reactions, d.visits::bit(288), d.last_seen_at
from unnest($1::uuid[], $2::uuid[], $3::date[], $4::integer[], $5::integer[], $6::integer[], $7::text[], $8::timestamptz[])
    as d (circle_id, user_id, day, posts, comments, reactions, visits, last_seen_at)
join users on users.id = d.user_id
order by d.circle_id, d.user_id, d.day
on conflict (circle_id, user_id, day) do nothing
returning circle_id, user_id, day";

    const ADD: &str = "-- activity::add (2,500 rows)
insert into activity as a (circle_id, user_id, day, posts, comments, reactions, visits, last_seen_at)
select d.circle_id, d.user_id, d.day, d.posts, d.comments, d.reactions, d.visits::bit(288), d.last_seen_at
from unnest($1::uuid[], $2::uuid[], $3::date[], $4::integer[], $5::integer[], $6::integer[], $7::text[], $8::timestamptz[])
    as d (circle_id, user_id, day, posts, comments, reactions, visits, last_seen_at)
join users on users.id = d.user_id
order by d.circle_id, d.user_id, d.day
on conflict (circle_id, user_id, day) do update
    set posts = a.posts + excluded.posts, comments = a.comments + excluded.comments, reactions = a.reactions + excluded.reactions,
        visits = a.visits | excluded.visits, last_seen_at = greatest(a.last_seen_at, excluded.last_seen_at)";

    /// Adds to the sums of circles' days, and of all their days.
    const ADD_SUMS: &str = "-- activity::add_sums (2,500 rows)
with given as materialized (
    select * from unnest($1::uuid[], $2::date[], $3::integer[], $4::integer[], $5::integer[], $6::integer[])
        as given (circle_id, day, posts, comments, reactions, people)),
day as (
    insert into activity_days as known (circle_id, day, part, posts, comments, reactions, people)
    select circle_id, day, $7, posts, comments, reactions, people from given order by circle_id, day
    on conflict (circle_id, day, part) do update
        set posts = known.posts + excluded.posts, comments = known.comments + excluded.comments,
            reactions = known.reactions + excluded.reactions, people = known.people + excluded.people)
insert into activity_totals as known (circle_id, part, comments, reactions)
select circle_id, $7, sum(comments), sum(reactions) from given group by circle_id order by circle_id
on conflict (circle_id, part) do update
    set comments = known.comments + excluded.comments, reactions = known.reactions + excluded.reactions";

    /// The people whose visits count: members of circles that are not archived.
    const MEMBERS: &str = "-- activity::members (2,500 rows)
select m.circle_id, m.user_id from memberships m
join unnest($1::uuid[], $2::uuid[]) as v (circle_id, user_id) using (circle_id, user_id)
join circles c on c.id = m.circle_id and c.archived_at is null
where m.role <> 'banned'";
}

/// Visits within the same slot of a day count as one. Milliseconds.
const SLOT_MS: i64 = 5 * 60 * 1000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const SLOTS: i64 = DAY_MS / SLOT_MS;

/// By which transactions sums are written: those of one part never wait for those of another. Erasures, which take off what they remove,
/// are a third part.
#[derive(Clone, Copy, Debug)]
#[repr(i16)]
enum Part {
    /// What follows from events, in order.
    Events = 0,
    /// Flushes, and what is written through in their place. A flush has its partitions for itself, and so their circles.
    Flushes = 1,
}

/// One person's activity in a circle on a day.
#[derive(Clone, Debug, Default)]
struct Deeds {
    /// With the comments among them.
    posts: i32,
    comments: i32,
    reactions: i32,
    /// The day's slots in which they visited.
    visits: BTreeSet<i64>,
    last_seen: DateTime<Utc>,
}

/// Deeds by circle, person and day.
type Days = BTreeMap<(Uuid, Uuid, NaiveDate), Deeds>;

fn deeds_of(days: &mut Days, circle: Uuid, user: Uuid, at: DateTime<Utc>) -> &mut Deeds {
    let deeds = days.entry((circle, user, at.date_naive())).or_default();
    deeds.last_seen = deeds.last_seen.max(at);
    deeds
}

async fn add(tx: &Tx, part: Part, days: &Days) -> Result<()> {
    let begun: BTreeSet<(Uuid, Uuid, NaiveDate)> = insert(tx, BEGIN, days.iter())
        .await?
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    insert(tx, ADD, days.iter().filter(|(key, _)| !begun.contains(*key))).await?;
    let mut sums: BTreeMap<(Uuid, NaiveDate), Sums> = BTreeMap::new();
    for (key, deeds) in days {
        let (circle, _, day) = key;
        let people = i32::from(begun.contains(key));
        // One more visit of somebody who was there already changes no sum.
        if deeds.posts + deeds.reactions + people > 0 {
            let sum = sums.entry((*circle, *day)).or_default();
            sum.posts += deeds.posts;
            sum.comments += deeds.comments;
            sum.reactions += deeds.reactions;
            sum.people += people;
        }
    }
    add_sums(tx, part, &sums).await
}

/// Runs [`BEGIN`] or [`ADD`].
async fn insert<'a>(
    tx: &Tx,
    sql: &'static str,
    days: impl Iterator<Item = (&'a (Uuid, Uuid, NaiveDate), &'a Deeds)>,
) -> Result<Vec<Row>> {
    let (keys, deeds): (Vec<&(Uuid, Uuid, NaiveDate)>, Vec<&Deeds>) = days.unzip();
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let circles: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
    let users: Vec<Uuid> = keys.iter().map(|key| key.1).collect();
    let dates: Vec<NaiveDate> = keys.iter().map(|key| key.2).collect();
    let column = |of: fn(&Deeds) -> i32| -> Vec<i32> { deeds.iter().map(|deeds| of(deeds)).collect() };
    let seen: Vec<DateTime<Utc>> = deeds.iter().map(|deeds| deeds.last_seen).collect();
    let (posts, comments) = (column(|deeds| deeds.posts), column(|deeds| deeds.comments));
    let reactions = column(|deeds| deeds.reactions);
    let bits = |deeds: &&Deeds| {
        (0..SLOTS).map(|slot| if deeds.visits.contains(&slot) { '1' } else { '0' }).collect()
    };
    let visits: Vec<String> = deeds.iter().map(bits).collect();
    tx.query(sql, &[&circles, &users, &dates, &posts, &comments, &reactions, &visits, &seen]).await
}

/// What is added to a circle's day.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    posts: i32,
    comments: i32,
    reactions: i32,
    /// Whose first deeds of the day these are.
    people: i32,
}

async fn add_sums(tx: &Tx, part: Part, sums: &BTreeMap<(Uuid, NaiveDate), Sums>) -> Result<()> {
    if sums.is_empty() {
        return Ok(());
    }
    let (circles, dates): (Vec<Uuid>, Vec<NaiveDate>) = sums.keys().copied().unzip();
    let column = |of: fn(&Sums) -> i32| -> Vec<i32> { sums.values().map(of).collect() };
    let (posts, comments) = (column(|sums| sums.posts), column(|sums| sums.comments));
    let (reactions, people) = (column(|sums| sums.reactions), column(|sums| sums.people));
    let part = part as i16;
    let parameters: [&(dyn ToSql + Sync); 7] =
        [&circles, &dates, &posts, &comments, &reactions, &people, &part];
    tx.execute(ADD_SUMS, &parameters).await.map(drop)
}

/// Counts the posts that these events tell of.
pub async fn posted(tx: &Tx, events: &[Event]) -> Result<()> {
    let mut days = Days::new();
    for event in events {
        if let (Some(circle), Some(user)) = (event.id("circle"), event.actor) {
            let deeds = deeds_of(&mut days, circle, user, event.at);
            deeds.posts += 1;
            deeds.comments += i32::from(event.id("parent").is_some());
        }
    }
    add(tx, Part::Events, &days).await
}

/// Counts reactions in the transaction that makes them: each one's circle, its person and its time.
pub async fn reacted(tx: &Tx, made: impl Iterator<Item = (Uuid, Uuid, DateTime<Utc>)>) -> Result<()> {
    let mut days = Days::new();
    for (circle, user, at) in made {
        deeds_of(&mut days, circle, user, at).reactions += 1;
    }
    add(tx, Part::Flushes, &days).await
}

/// Counts the visits that partitions' streams hold.
pub async fn apply_visits(tx: &Tx, placed: &[Placed<'_>]) -> Result<()> {
    let visits = placed.iter().filter_map(|placed| VisitEntry::parse(placed.value, placed.at.0));
    visited(tx, &visits.collect::<Vec<_>>()).await
}

/// Counts visits, those of one person within the same five minutes as one. Counting a visit again changes nothing.
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
    add(tx, Part::Flushes, &days).await
}

async fn members(tx: &Tx, visits: &[VisitEntry]) -> Result<BTreeSet<(Uuid, Uuid)>> {
    let named: BTreeSet<(Uuid, Uuid)> = visits.iter().map(|visit| (visit.circle, visit.user)).collect();
    let (circles, users): (Vec<Uuid>, Vec<Uuid>) = named.into_iter().unzip();
    let rows = tx.query(MEMBERS, &[&circles, &users]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
