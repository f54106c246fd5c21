//! Folds the reactions to a message into one notification of its author, until it is read or its month is over: everyone who
//! reacted is counted once.
//!
//! Someone who takes back all their reactions is taken out of it, and when nobody is left, the notification is removed. It runs
//! in the transaction that applies the reactions, and changes none of those.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use optimist_plane::clock;
use optimist_plane::error::Result;
use optimist_plane::months::{Month, spans};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use optimist_shared::reactions::KINDS;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::deliveries::planning::{New, plan};
use crate::notifications::kept::months_of;
use crate::notifications::upkeep::evict;

statements! {
    /// Locks the counts of the messages' authors, in their order, before anything of theirs changes.
    const LOCK: &str = "-- folding::lock, planned anew (5,100 rows)
select from notification_counts where user_id in (
    select (
        select m.author_id from messages m where m.circle_id = r.circle_id and m.id = r.message_id and in_spans(m.id, $3))
    from unnest($1::uuid[], $2::uuid[]) as r (circle_id, message_id))
order by user_id for update";

    /// Makes the unread notification of each message's author, if this month has none. `least` and `greatest` are the ends of the
    /// range of people who reacted: if both are the author, nobody else did, and the author is not told. The author must still be
    /// in the circle; an author who is just leaving is waited for, since the leaving would not remove this notification. Selects
    /// those that are new. Where tables are not in partitions yet, one of an earlier month stands in the way as well.
    const NOTIFY: &str = "-- folding::notify, planned anew (2,500 rows)
with told as (
    select m.author_id as user_id, r.* from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[])
        as r (circle_id, message_id, new_id, least, greatest)
    cross join lateral (
        select author_id from messages where circle_id = r.circle_id and id = r.message_id and in_spans(id, $6) offset 0) m
    join memberships s on s.circle_id = r.circle_id and s.user_id = m.author_id and s.role <> 'banned'
    where (m.author_id <> r.least or m.author_id <> r.greatest)
      and not exists (select from notification_preferences p where p.user_id = m.author_id and p.in_app & 4 = 0)
    for share of s),
person as (
    insert into notification_counts as c (user_id, last_place, unread)
    select user_id, count(*), 0 from told group by user_id order by user_id
    on conflict (user_id) do update set last_place = c.last_place + excluded.last_place
    returning user_id, last_place, read_round)
insert into notifications as n
    (user_id, month, id, kind, circle_id, message_id, actors, place, read_round, created_at, updated_at)
select user_id, id_month(new_id), new_id, 'reaction', circle_id, message_id, 0,
    last_place + 1 - row_number() over (partition by user_id order by message_id desc), read_round, now(), now()
from told join person using (user_id) order by user_id, circle_id, message_id
on conflict do nothing
returning user_id, id, circle_id";

    /// How many of people's new notifications are delivered: of more they find the record.
    const ALLOW: &str = "-- folding::allow (2,500 rows)
update notification_counts c
set told = may_tell(c.burst, c.burst_at, c.daily, c.daily_at, d.n),
    burst = told_since(c.burst, c.burst_at, '10 minutes') + may_tell(c.burst, c.burst_at, c.daily, c.daily_at, d.n),
    burst_at = case when c.burst_at > now() - interval '10 minutes' then c.burst_at else now() end,
    daily = told_since(c.daily, c.daily_at, '1 day') + may_tell(c.burst, c.burst_at, c.daily, c.daily_at, d.n),
    daily_at = case when c.daily_at > now() - interval '1 day' then c.daily_at else now() end
from unnest($1::uuid[], $2::integer[]) as d (user_id, n) where c.user_id = d.user_id
returning c.user_id, c.told";

    /// Finds the newest unread notification of reactions to each message, of the months `$3`, and locks it.
    const UNREAD: &str = "-- folding::unread, planned anew (6,000 rows)
select n.user_id, n.id, n.circle_id, n.message_id
from unnest($1::uuid[], $2::uuid[]) as r (circle_id, message_id)
cross join lateral (
    select author_id from messages where circle_id = r.circle_id and id = r.message_id and in_spans(id, $4) offset 0) m
join notification_counts c on c.user_id = m.author_id
join notifications n on n.user_id = m.author_id and n.circle_id = r.circle_id and n.message_id = r.message_id
    and n.read_round = c.read_round and n.month = any($3::date[])
where n.kind = 'reaction' and n.read_at is null
order by n.month for update of n";

    /// Adds people to notifications. A person who is in one already changes nothing.
    const ADD: &str = "-- folding::add (2,500 rows)
insert into notification_actors (user_id, month, notification_id, actor_id, acted_at)
select user_id, id_month(notification_id), notification_id, actor_id, now()
from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as r (user_id, notification_id, actor_id)
on conflict do nothing
returning user_id, notification_id";

    /// Removes people who have no reaction left. `$7` are the notifications' months. `is_on` is compared as a number, so that the
    /// planner cannot use an index of the newest, where it would read everyone's to find one person's.
    const REMOVE: &str = "-- folding::remove, planned anew (2,500 rows)
delete from notification_actors a
using unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[])
    as r (user_id, notification_id, actor_id, circle_id, message_id)
where (a.user_id, a.month, a.notification_id, a.actor_id) = (r.user_id, id_month(r.notification_id), r.notification_id, r.actor_id)
  and a.month = any($7::date[])
  and (
      select true from reactions other where other.circle_id = r.circle_id and other.message_id = r.message_id
          and in_spans(other.message_id, $8) and other.kind = any($6::smallint[]) and other.user_id = r.actor_id
          and other.is_on::integer = 1 limit 1) is null
returning a.user_id, a.notification_id";

    /// Changes notifications' numbers of people, and shows the latest person of each.
    const SETTLE: &str = "-- folding::settle, planned anew (2,500 rows)
update notifications n
set actors = n.actors + d.by,
    updated_at = case when d.by > 0 then now() else n.updated_at end,
    actor_id = coalesce(
        (select a.actor_id from notification_actors a
         where a.user_id = n.user_id and a.month = n.month and a.month = any($4::date[]) and a.notification_id = n.id
           and a.acted_at is not null
         order by a.acted_at desc limit 1), n.actor_id)
from unnest($1::uuid[], $2::uuid[], $3::integer[]) as d (user_id, id, by)
where n.user_id = d.user_id and n.month = id_month(d.id) and n.month = any($4::date[]) and n.id = d.id
returning n.user_id, n.id, n.actors, n.actors - d.by, n.read_at is null";

    const DROP: &str = "-- folding::drop, planned anew (2,500 rows)
delete from notifications n using unnest($1::uuid[], $2::uuid[]) as d (user_id, id)
where n.user_id = d.user_id and n.month = id_month(d.id) and n.month = any($3::date[]) and n.id = d.id";

    /// Changes numbers of notifications. Selects those who now have more than they keep.
    const COUNT: &str = "-- folding::count (2,500 rows)
with counted as (
    update notification_counts c set unread = c.unread + d.unread, held = c.held + d.held
    from unnest($1::uuid[], $2::integer[], $3::integer[]) as d (user_id, unread, held) where c.user_id = d.user_id
    returning c.user_id, c.held)
select user_id from counted where held > 1000";
}

/// How one reaction changed.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub circle: Uuid,
    pub message: Uuid,
    pub user: Uuid,
    pub at: DateTime<Utc>,
    pub was_on: bool,
    pub is_on: bool,
}

/// How one person's numbers of notifications change.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Numbers {
    unread: i32,
    held: i32,
}

/// Tells the messages' authors, in the transaction that changed the reactions.
pub async fn fold(tx: &Tx, changes: &[Change]) -> Result<()> {
    let changed = changes.iter().filter(|change| change.was_on != change.is_on);
    let messages: BTreeSet<InCircle> = changed.map(|change| (change.circle, change.message)).collect();
    if messages.is_empty() {
        return Ok(());
    }
    let (circles, messages): (Vec<Uuid>, Vec<Uuid>) = messages.into_iter().unzip();
    tx.query(LOCK, &[&circles, &messages, &spans(&messages)]).await?;
    // How many people more or fewer, by the notification's owner and id.
    let mut by: BTreeMap<Noted, i32> = BTreeMap::new();
    for row in remove(tx, changes).await? {
        *by.entry(row).or_default() -= 1;
    }
    let added = add(tx, changes).await?;
    for row in added.gained {
        *by.entry(row).or_default() += 1;
    }
    let mut numbers: BTreeMap<Uuid, Numbers> = BTreeMap::new();
    for (user, id) in added.new {
        numbers.entry(user).or_default().held += 1;
        // One whom its only person left again, within these changes, is removed.
        by.entry((user, id)).or_default();
    }
    if by.is_empty() {
        return Ok(());
    }
    settle(tx, &by, &mut numbers).await?;
    numbers.retain(|_, change| *change != Numbers::default());
    if numbers.is_empty() {
        return Ok(());
    }
    let users: Vec<Uuid> = numbers.keys().copied().collect();
    let (unread, held): (Vec<i32>, Vec<i32>) =
        numbers.values().map(|change| (change.unread, change.held)).unzip();
    let rows = tx.query(COUNT, &[&users, &unread, &held]).await?;
    let over: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    evict(tx, &over).await.map(drop)
}

/// Changes how many people are in each notification, and removes those that nobody is left in.
async fn settle(tx: &Tx, by: &BTreeMap<Noted, i32>, numbers: &mut BTreeMap<Uuid, Numbers>) -> Result<()> {
    let (users, ids): (Vec<Uuid>, Vec<Uuid>) = by.keys().copied().unzip();
    let deltas: Vec<i32> = by.values().copied().collect();
    let mut gone = (Vec::new(), Vec::new());
    for row in tx.query(SETTLE, &[&users, &ids, &deltas, &months_of(&ids)]).await? {
        let (user, id): Noted = (row.get(0), row.get(1));
        let (actors, before, is_unread): (i32, i32, bool) = (row.get(2), row.get(3), row.get(4));
        let change = numbers.entry(user).or_default();
        if actors <= 0 {
            change.held -= 1;
            gone.0.push(user);
            gone.1.push(id);
        }
        if is_unread {
            change.unread += i32::from(actors > 0) - i32::from(before > 0);
        }
    }
    if gone.0.is_empty() {
        return Ok(());
    }
    // They have no people left to remove.
    tx.execute(DROP, &[&gone.0, &gone.1, &months_of(&gone.1)]).await.map(drop)
}

/// An author's id, and the id of one of their notifications.
type Noted = (Uuid, Uuid);
/// A circle's id, and the id of one of its messages.
type InCircle = (Uuid, Uuid);

#[derive(Default)]
struct Added {
    /// Notifications that were made.
    new: Vec<Noted>,
    /// A notification once for each person that it gained.
    gained: Vec<Noted>,
}

/// Adds the people whose reactions are new.
async fn add(tx: &Tx, changes: &[Change]) -> Result<Added> {
    let on = || changes.iter().filter(|change| change.is_on && !change.was_on);
    let mut people: BTreeMap<InCircle, (Uuid, Uuid)> = BTreeMap::new();
    for Change { circle, message, user, .. } in on().copied() {
        let (least, greatest) = people.entry((circle, message)).or_insert((user, user));
        (*least, *greatest) = ((*least).min(user), (*greatest).max(user));
    }
    if people.is_empty() {
        return Ok(Added::default());
    }
    let (circles, messages): (Vec<Uuid>, Vec<Uuid>) = people.keys().copied().unzip();
    let (least, greatest): (Vec<Uuid>, Vec<Uuid>) = people.values().copied().unzip();
    let ids: Vec<Uuid> = messages.iter().map(|_| Uuid::now_v7()).collect();
    let rows = tx.query(NOTIFY, &[&circles, &messages, &ids, &least, &greatest, &spans(&messages)]).await?;
    let new = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    deliver(tx, &rows).await?;
    let rows = unread(tx, &circles, &messages).await?;
    let [authors, notifications, actors, ..] = columns(on(), &noted(&rows));
    let rows = tx.query(ADD, &[&authors, &notifications, &actors]).await?;
    Ok(Added { new, gained: rows.iter().map(|row| (row.get(0), row.get(1))).collect() })
}

/// Plans the deliveries of new notifications, from rows of user, notification and circle.
async fn deliver(tx: &Tx, rows: &[Row]) -> Result<()> {
    let mut by: BTreeMap<Uuid, i32> = BTreeMap::new();
    for row in rows {
        *by.entry(row.get(0)).or_default() += 1;
    }
    if by.is_empty() {
        return Ok(());
    }
    let (users, counts): (Vec<Uuid>, Vec<i32>) = by.into_iter().unzip();
    let allowed = tx.query(ALLOW, &[&users, &counts]).await?;
    let mut left: BTreeMap<Uuid, i32> = allowed.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut new = Vec::new();
    for row in rows {
        let user: Uuid = row.get(0);
        if let Some(left) = left.get_mut(&user).filter(|left| **left > 0) {
            *left -= 1;
            new.push(New { user, id: row.get(1), kind: "reaction", circle: row.get(2) });
        }
    }
    plan(tx, &new).await
}

/// Removes the people whose reactions are gone. Returns a notification once for each person that it lost.
async fn remove(tx: &Tx, changes: &[Change]) -> Result<Vec<Noted>> {
    let off = || changes.iter().filter(|change| change.was_on && !change.is_on);
    let messages: BTreeSet<InCircle> = off().map(|change| (change.circle, change.message)).collect();
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let (circles, messages): (Vec<Uuid>, Vec<Uuid>) = messages.into_iter().unzip();
    let rows = unread(tx, &circles, &messages).await?;
    let [authors, notifications, actors, circles, messages] = columns(off(), &noted(&rows));
    let kinds: Vec<i16> = (1..).take(KINDS.len()).collect();
    let (months, spans) = (months_of(&notifications), spans(&messages));
    let parameters: [&(dyn ToSql + Sync); 8] =
        [&authors, &notifications, &actors, &circles, &messages, &kinds, &months, &spans];
    let rows = tx.query(REMOVE, &parameters).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The unread notifications of reactions to messages, in which people are counted now: those of this month and the last. (A
/// reaction that is taken back later leaves an older notification as it is.)
async fn unread(tx: &Tx, circles: &[Uuid], messages: &[Uuid]) -> Result<Vec<Row>> {
    let month = Month::of(clock::now());
    let months: Vec<NaiveDate> = [month.plus(-1), month].map(Month::first_day).into();
    tx.query(UNREAD, &[&circles, &messages, &months, &spans(messages)]).await
}

/// Maps messages to their notifications, from rows of user, notification, circle and message.
fn noted(rows: &[Row]) -> BTreeMap<InCircle, Noted> {
    rows.iter().map(|row| ((row.get(2), row.get(3)), (row.get(0), row.get(1)))).collect()
}

/// Columns of the changes that somebody else is told of: authors, notifications, people who reacted, circles, messages.
fn columns<'a>(
    changes: impl Iterator<Item = &'a Change>,
    noted: &BTreeMap<InCircle, Noted>,
) -> [Vec<Uuid>; 5] {
    let mut columns: [Vec<Uuid>; 5] = Default::default();
    for Change { circle, message, user, .. } in changes {
        let Some((author, notification)) = noted.get(&(*circle, *message)) else { continue };
        if author != user {
            for (column, id) in columns.iter_mut().zip([author, notification, user, circle, message]) {
                column.push(*id);
            }
        }
    }
    columns
}
