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

use crate::deliveries::planning::{New, plan};
use crate::notifications::counts::lock_counts;
use crate::notifications::kept::{kept, months_of};
use crate::notifications::upkeep::evict;

statements! {
    const AUTHORS: &str = "-- folding::authors, planned anew (5,100 rows)
select m.author_id, m.circle_id, m.id from unnest($1::uuid[], $2::uuid[]) as r (circle_id, message_id)
cross join lateral (
    select id, circle_id, author_id from messages where circle_id = r.circle_id and id = r.message_id and in_spans(id, $3) offset 0) m";

    /// Which of these people are told nothing of which others.
    const SILENCED: &str = "-- folding::silenced (5,000 rows)
select r.person, r.actor from unnest($1::uuid[], $2::uuid[]) as r (person, actor) where is_silenced(r.person, r.actor)";

    /// Which of these messages are there still, and their authors in the circles. An author who is just leaving is waited for, and a
    /// message that is just being deleted: neither would remove a notification that comes later.
    const STAYS: &str = "-- folding::stays, planned anew (5,000 rows)
select m.circle_id, m.id from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as r (circle_id, user_id, message_id)
join memberships s on s.circle_id = r.circle_id and s.user_id = r.user_id and s.role <> 'banned'
cross join lateral (
    select id, circle_id from messages where circle_id = r.circle_id and id = r.message_id and in_spans(id, $4) and deleted_at is null
    for share) m
order by m.id for share of s";

    /// Makes the unread notification of each message's author, if this month has none. Selects those that are new. Where tables are
    /// not in partitions yet, one of an earlier month stands in the way as well.
    const NOTIFY: &str = "-- folding::notify (2,500 rows)
with unwilling as materialized (
    select user_id from notification_preferences where user_id = any($1) and in_app & 4 = 0),
told as (
    select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[]) as r (user_id, circle_id, message_id, new_id)
    where user_id not in (select user_id from unwilling)),
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
returning user_id, id, circle_id, message_id";

    /// How many of people's new notifications are delivered: of more they find the record.
    const ALLOW: &str = "-- folding::allow (2,500 rows)
with moment as materialized (select now() as at)
update notification_counts c
set told = may_tell(c.burst, c.burst_at, c.daily, c.daily_at, d.n, at),
    burst = told_since(c.burst, c.burst_at, '10 minutes', at) + may_tell(c.burst, c.burst_at, c.daily, c.daily_at, d.n, at),
    burst_at = case when at - c.burst_at < interval '10 minutes' then c.burst_at else at end,
    daily = told_since(c.daily, c.daily_at, '1 day', at) + may_tell(c.burst, c.burst_at, c.daily, c.daily_at, d.n, at),
    daily_at = case when at - c.daily_at < interval '1 day' then c.daily_at else at end
from unnest($1::uuid[], $2::integer[]) as d (user_id, n), moment where c.user_id = d.user_id
returning c.user_id, c.told";

    /// Finds the newest unread notification of reactions to each message, of the months `$4`.
    const UNREAD: &str = "-- folding::unread, planned anew (6,000 rows)
select n.user_id, n.id, n.circle_id, n.message_id
from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as r (user_id, circle_id, message_id)
join notification_counts c on c.user_id = r.user_id
join notifications n on n.user_id = c.user_id and n.circle_id = r.circle_id and n.message_id = r.message_id
    and n.read_round = c.read_round and n.month = any($4::date[])
where n.kind = 'reaction' and n.read_at is null
order by n.month";

    /// Adds people to notifications. A person who is in one already changes nothing.
    const ADD: &str = "-- folding::add (2,500 rows)
insert into notification_actors (user_id, month, notification_id, actor_id, acted_at)
select user_id, id_month(notification_id), notification_id, actor_id, now()
from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as r (user_id, notification_id, actor_id)
on conflict do nothing
returning user_id, notification_id";

    /// Which people have no reaction left to a message. `is_on` is compared as a number, so that the planner cannot use an index of
    /// the newest, where it would read everyone's to find one person's.
    const WITHOUT: &str = "-- folding::without, planned anew (2,500 rows)
select r.message_id, r.user_id from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as r (circle_id, message_id, user_id)
where (
    select true from reactions other where other.circle_id = r.circle_id and other.message_id = r.message_id
        and in_spans(other.message_id, $5) and other.kind = any($4::smallint[]) and other.user_id = r.user_id
        and other.is_on::integer = 1 limit 1) is null";

    /// Removes people from notifications, whose months are `$4`.
    const REMOVE: &str = "-- folding::remove, planned anew (2,500 rows)
delete from notification_actors a
using unnest($1::uuid[], $2::uuid[], $3::uuid[]) as r (user_id, notification_id, actor_id)
where (a.user_id, a.month, a.notification_id, a.actor_id) = (r.user_id, id_month(r.notification_id), r.notification_id, r.actor_id)
  and a.month = any($4::date[])
returning a.user_id, a.notification_id";

    /// Takes the person `$2` out of the person `$1`'s notifications of the months from `$3` to `$4`.
    const TAKE_OUT: &str = "-- folding::take_out, planned anew (2,000 rows)
delete from notification_actors a using notifications n
where n.user_id = $1 and n.month >= $3 and n.month <= $4 and n.kind = 'reaction'
  and a.user_id = $1 and a.month = n.month and a.month >= $3 and a.month <= $4 and a.notification_id = n.id and a.actor_id = $2
returning a.user_id, a.notification_id";

    /// Changes notifications' numbers of people, and shows the latest person of each.
    const SETTLE: &str = "-- folding::settle, planned anew (2,500 rows)
with moment as materialized (select now() as at)
update notifications n
set actors = n.actors + d.by,
    updated_at = case when d.by > 0 then moment.at else n.updated_at end,
    actor_id = coalesce(
        (select a.actor_id from notification_actors a
         where a.user_id = n.user_id and a.month = n.month and a.month = any($4::date[]) and a.notification_id = n.id
           and a.acted_at is not null
         order by a.acted_at desc limit 1), n.actor_id)
from unnest($1::uuid[], $2::uuid[], $3::integer[]) as d (user_id, id, by), moment
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

impl Change {
    fn of(&self) -> InCircle {
        (self.circle, self.message)
    }
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
    let messages: BTreeSet<InCircle> = changed.map(Change::of).collect();
    if messages.is_empty() {
        return Ok(());
    }
    let (circles, messages): (Vec<Uuid>, Vec<Uuid>) = messages.into_iter().unzip();
    let rows = tx.query(AUTHORS, &[&circles, &messages, &spans(&messages)]).await?;
    let authors: Authors = rows.iter().map(|row| ((row.get(1), row.get(2)), row.get(0))).collect();
    let people: BTreeSet<Uuid> = authors.values().copied().collect();
    // Before anything of theirs changes.
    lock_counts(tx, &people.into_iter().collect::<Vec<Uuid>>()).await?;
    // How many people more or fewer, by the notification's owner and id.
    let mut by: BTreeMap<Noted, i32> = BTreeMap::new();
    for row in remove(tx, changes, &authors).await? {
        *by.entry(row).or_default() -= 1;
    }
    let added = add(tx, changes, &authors).await?;
    for row in added.gained {
        *by.entry(row).or_default() += 1;
    }
    let mut numbers: BTreeMap<Uuid, Numbers> = BTreeMap::new();
    for (user, id) in added.new {
        numbers.entry(user).or_default().held += 1;
        // One whom its only person left again, within these changes, is removed.
        by.entry((user, id)).or_default();
    }
    count(tx, &by, numbers).await
}

/// Takes somebody out of what a person is told of reactions: the person has blocked them. Returns how many rows that changed.
pub async fn take_out(tx: &Tx, user: Uuid, actor: Uuid) -> Result<u64> {
    lock_counts(tx, &[user]).await?;
    let mut changed = 0;
    for (first, last) in kept().stretches() {
        let rows = tx.query(TAKE_OUT, &[&user, &actor, &first.first_day(), &last.first_day()]).await?;
        changed += rows.len() as u64;
        let by = rows.iter().map(|row| ((row.get(0), row.get(1)), -1)).collect();
        count(tx, &by, BTreeMap::new()).await?;
    }
    Ok(changed)
}

/// Changes how many people are in notifications, and with that the numbers of people's notifications.
async fn count(tx: &Tx, by: &BTreeMap<Noted, i32>, mut numbers: BTreeMap<Uuid, Numbers>) -> Result<()> {
    if by.is_empty() {
        return Ok(());
    }
    settle(tx, by, &mut numbers).await?;
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
/// The authors of messages.
type Authors = BTreeMap<InCircle, Uuid>;

#[derive(Default)]
struct Added {
    /// Notifications that were made.
    new: Vec<Noted>,
    /// A notification once for each person that it gained.
    gained: Vec<Noted>,
}

/// Adds the people whose reactions are new.
async fn add(tx: &Tx, changes: &[Change], authors: &Authors) -> Result<Added> {
    let silenced = silenced(tx, changes, authors).await?;
    let is_silenced = |change: &Change| {
        authors.get(&change.of()).is_some_and(|author| silenced.contains(&(*author, change.user)))
    };
    let on = || changes.iter().filter(|change| change.is_on && !change.was_on && !is_silenced(change));
    // To which others have reacted than their author.
    let to_tell = |change: &&Change| authors.get(&change.of()).is_some_and(|author| *author != change.user);
    let mut messages: BTreeSet<InCircle> = on().filter(to_tell).map(Change::of).collect();
    if messages.is_empty() {
        return Ok(Added::default());
    }
    // Their authors' counts are locked: nobody else makes or removes one of these.
    let mut noted = noted(&unread(tx, &messages, authors).await?);
    let month = Month::of_id(Uuid::now_v7());
    messages.retain(|message| noted.get(message).is_none_or(|(_, id)| Month::of_id(*id) != month));
    let made = notify(tx, &messages, authors).await?;
    let new = made.values().copied().collect();
    noted.extend(made);
    let [people, notifications, actors, ..] = columns(on(), &noted);
    let rows = tx.query(ADD, &[&people, &notifications, &actors]).await?;
    Ok(Added { new, gained: rows.iter().map(|row| (row.get(0), row.get(1))).collect() })
}

/// Authors, and those who reacted and of whom they are not told.
async fn silenced(tx: &Tx, changes: &[Change], authors: &Authors) -> Result<BTreeSet<(Uuid, Uuid)>> {
    let on = changes.iter().filter(|change| change.is_on && !change.was_on);
    let pairs: BTreeSet<(Uuid, Uuid)> =
        on.filter_map(|change| Some((*authors.get(&change.of())?, change.user))).collect();
    if pairs.is_empty() {
        return Ok(pairs);
    }
    let (people, actors): (Vec<Uuid>, Vec<Uuid>) = pairs.into_iter().unzip();
    let rows = tx.query(SILENCED, &[&people, &actors]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Makes notifications of messages that have none.
async fn notify(
    tx: &Tx,
    messages: &BTreeSet<InCircle>,
    authors: &Authors,
) -> Result<BTreeMap<InCircle, Noted>> {
    if messages.is_empty() {
        return Ok(BTreeMap::new());
    }
    let found = messages.iter().filter_map(|message| Some([message.0, *authors.get(message)?, message.1]));
    let [circles, people, posts] = unzip(found);
    let rows = tx.query(STAYS, &[&circles, &people, &posts, &spans(&posts)]).await?;
    let stays = rows.iter().map(|row| (row.get(0), row.get(1)));
    let told = stays.filter_map(|message: InCircle| Some([*authors.get(&message)?, message.0, message.1]));
    let [people, circles, posts] = unzip(told);
    let ids: Vec<Uuid> = posts.iter().map(|_| Uuid::now_v7()).collect();
    let rows = tx.query(NOTIFY, &[&people, &circles, &posts, &ids]).await?;
    deliver(tx, &rows).await?;
    Ok(noted(&rows))
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
async fn remove(tx: &Tx, changes: &[Change], authors: &Authors) -> Result<Vec<Noted>> {
    let off = || changes.iter().filter(|change| change.was_on && !change.is_on);
    let messages: BTreeSet<InCircle> = off().map(Change::of).collect();
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let noted = noted(&unread(tx, &messages, authors).await?);
    let [.., people, circles, messages] = columns(off(), &noted);
    let kinds: Vec<i16> = (1..).take(KINDS.len()).collect();
    let rows = tx.query(WITHOUT, &[&circles, &messages, &people, &kinds, &spans(&messages)]).await?;
    let without: BTreeSet<(Uuid, Uuid)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let gone = off().filter(|change| without.contains(&(change.message, change.user)));
    let [people, notifications, actors, ..] = columns(gone, &noted);
    if people.is_empty() {
        return Ok(Vec::new());
    }
    let rows = tx.query(REMOVE, &[&people, &notifications, &actors, &months_of(&notifications)]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The unread notifications of reactions to messages, in which people are counted now: those of this month and the last. (A
/// reaction that is taken back later leaves an older notification as it is.)
async fn unread(tx: &Tx, messages: &BTreeSet<InCircle>, authors: &Authors) -> Result<Vec<Row>> {
    let found = messages.iter().filter_map(|message| Some([*authors.get(message)?, message.0, message.1]));
    let [people, circles, messages] = unzip(found);
    let month = Month::of(clock::now());
    let months: Vec<NaiveDate> = [month.plus(-1), month].map(Month::first_day).into();
    tx.query(UNREAD, &[&people, &circles, &messages, &months]).await
}

/// Maps messages to their notifications, from rows of user, notification, circle and message.
fn noted(rows: &[Row]) -> BTreeMap<InCircle, Noted> {
    rows.iter().map(|row| ((row.get(2), row.get(3)), (row.get(0), row.get(1)))).collect()
}

/// The columns of rows.
fn unzip<const N: usize>(rows: impl Iterator<Item = [Uuid; N]>) -> [Vec<Uuid>; N] {
    let mut columns = std::array::from_fn(|_| Vec::new());
    for row in rows {
        for (column, value) in columns.iter_mut().zip(row) {
            column.push(value);
        }
    }
    columns
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
