//! Counts posts, reactions and visits by circle, person and day. Days are UTC's: one circle has people in many zones.
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

use crate::activity::visit::VisitEntry;

statements! {
    /// Deleted accounts are left out.
    const ADD: &str = "-- activity::add (2,500 rows)
insert into activity as a (circle_id, user_id, day, posts, reactions, visits, last_seen_at)
select d.circle_id, d.user_id, d.day, d.posts, d.reactions, d.visits::bit(288), d.last_seen_at
from unnest($1::uuid[], $2::uuid[], $3::date[], $4::integer[], $5::integer[], $6::text[], $7::timestamptz[])
    as d (circle_id, user_id, day, posts, reactions, visits, last_seen_at)
join users on users.id = d.user_id
order by d.circle_id, d.user_id, d.day
on conflict (circle_id, user_id, day) do update
    set posts = a.posts + excluded.posts, reactions = a.reactions + excluded.reactions,
        visits = a.visits | excluded.visits, last_seen_at = greatest(a.last_seen_at, excluded.last_seen_at)";

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

/// One person's activity in a circle on a day.
#[derive(Clone, Debug, Default)]
struct Deeds {
    posts: i32,
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

/// Counts the posts that these events tell of.
pub async fn posted(tx: &Tx, events: &[Event]) -> Result<()> {
    let mut days = Days::new();
    for event in events {
        if let (Some(circle), Some(user)) = (event.id("circle"), event.actor) {
            deeds_of(&mut days, circle, user, event.at).posts += 1;
        }
    }
    add(tx, &days).await
}

/// Counts reactions in the transaction that makes them: each one's circle, its person and its time.
pub async fn reacted(tx: &Tx, made: impl Iterator<Item = (Uuid, Uuid, DateTime<Utc>)>) -> Result<()> {
    let mut days = Days::new();
    for (circle, user, at) in made {
        deeds_of(&mut days, circle, user, at).reactions += 1;
    }
    add(tx, &days).await
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
    add(tx, &days).await
}

async fn members(tx: &Tx, visits: &[VisitEntry]) -> Result<BTreeSet<(Uuid, Uuid)>> {
    let named: BTreeSet<(Uuid, Uuid)> = visits.iter().map(|visit| (visit.circle, visit.user)).collect();
    let (circles, users): (Vec<Uuid>, Vec<Uuid>) = named.into_iter().unzip();
    let rows = tx.query(MEMBERS, &[&circles, &users]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
