//! Folds the reactions to a message into one notification of its author, until it is read: everyone who reacted is counted once.
//!
//! Someone who takes back all their reactions is taken out of it, and when nobody is left, the notification is removed. It runs
//! in the transaction that applies the reactions, and changes none of those.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use optimist_plane::error::Result;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use optimist_shared::reactions::KINDS;
use tokio_postgres::Row;

statements! {
    /// Finds or makes the unread notification of each message's author, and locks it. `least` and `greatest` are the ends of the
    /// range of people who reacted: if both are the author, nobody else did, and the author is not told. The author must still be
    /// in the circle; an author who is just leaving is waited for, since the leaving would not remove this notification.
    const NOTIFY: &str = "-- folding::notify
with told as (
    select m.author_id as user_id, r.* from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[])
        as r (circle_id, message_id, new_id, least, greatest)
    join messages m on m.circle_id = r.circle_id and m.id = r.message_id
        and (m.author_id <> r.least or m.author_id <> r.greatest)
    join memberships s on s.circle_id = r.circle_id and s.user_id = m.author_id and s.role <> 'banned'
    for share of s)
insert into notifications as n (user_id, id, kind, circle_id, message_id, actors, created_at, updated_at)
select user_id, new_id, 'reaction', circle_id, message_id, 0, now(), now()
from told order by user_id, circle_id, message_id
on conflict (user_id, circle_id, message_id) where kind = 'reaction' and read_at is null
    do update set updated_at = n.updated_at
returning user_id, id, circle_id, message_id";

    /// Finds the unread notifications of reactions to messages.
    const UNREAD: &str = "-- folding::unread
select n.user_id, n.id, n.circle_id, n.message_id from unnest($1::uuid[], $2::uuid[]) as r (circle_id, message_id)
join messages m on m.circle_id = r.circle_id and m.id = r.message_id
join notifications n on n.user_id = m.author_id and n.circle_id = r.circle_id and n.message_id = r.message_id
where n.kind = 'reaction' and n.read_at is null";

    /// Adds people to notifications. A person who is in one already changes nothing.
    const ADD: &str = "-- folding::add
insert into notification_actors (user_id, notification_id, actor_id, acted_at)
select user_id, notification_id, actor_id, now()
from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as r (user_id, notification_id, actor_id)
on conflict do nothing
returning user_id, notification_id";

    /// Removes people who have no reaction left. `is_on` is compared as a number so that the planner cannot use the index of the
    /// newest reactions: it holds all that are on, and would read everyone's to find one person's.
    const REMOVE: &str = "-- folding::remove
delete from notification_actors a
using unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[])
    as r (user_id, notification_id, actor_id, circle_id, message_id)
where a.user_id = r.user_id and a.notification_id = r.notification_id and a.actor_id = r.actor_id
  and not exists (
      select from reactions other where other.circle_id = r.circle_id and other.message_id = r.message_id
          and other.kind = any($6::smallint[]) and other.user_id = r.actor_id and other.is_on::integer = 1)
returning a.user_id, a.notification_id";

    /// Changes notifications' numbers of people, and shows the latest person of each.
    const SETTLE: &str = "-- folding::settle
update notifications n
set actors = n.actors + d.by,
    updated_at = case when d.by > 0 then now() else n.updated_at end,
    actor_id = coalesce(
        (select a.actor_id from notification_actors a where a.user_id = n.user_id and a.notification_id = n.id
         order by a.acted_at desc, a.actor_id limit 1), n.actor_id)
from unnest($1::uuid[], $2::uuid[], $3::integer[]) as d (user_id, id, by)
where n.user_id = d.user_id and n.id = d.id
returning n.user_id, n.id, n.actors, n.actors - d.by, n.read_at is null";

    const DROP: &str = "-- folding::drop
delete from notifications n using unnest($1::uuid[], $2::uuid[]) as d (user_id, id)
where n.user_id = d.user_id and n.id = d.id";

    const COUNT: &str = "-- folding::count
insert into notification_counts as c (user_id, unread)
select * from unnest($1::uuid[], $2::integer[]) as d (user_id, by) order by user_id
on conflict (user_id) do update set unread = c.unread + excluded.unread";

    const UNCOUNT: &str = "-- folding::uncount
update notification_counts c set unread = c.unread - d.by
from unnest($1::uuid[], $2::integer[]) as d (user_id, by) where c.user_id = d.user_id";
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

/// Tells the messages' authors, in the transaction that changed the reactions.
pub async fn fold(tx: &Tx, changes: &[Change]) -> Result<()> {
    // How many people more or fewer, by the notification's owner and id.
    let mut by: BTreeMap<(Uuid, Uuid), i32> = BTreeMap::new();
    for row in remove(tx, changes).await? {
        *by.entry(row).or_default() -= 1;
    }
    for row in add(tx, changes).await? {
        *by.entry(row).or_default() += 1;
    }
    if by.is_empty() {
        return Ok(());
    }
    let (users, ids): (Vec<Uuid>, Vec<Uuid>) = by.keys().copied().unzip();
    let deltas: Vec<i32> = by.values().copied().collect();
    let (mut unread, mut gone) = (BTreeMap::<Uuid, i32>::new(), (Vec::new(), Vec::new()));
    for row in tx.query(SETTLE, &[&users, &ids, &deltas]).await? {
        let (user, id): (Uuid, Uuid) = (row.get(0), row.get(1));
        let (actors, before, is_unread): (i32, i32, bool) = (row.get(2), row.get(3), row.get(4));
        if actors <= 0 {
            gone.0.push(user);
            gone.1.push(id);
        }
        if is_unread {
            *unread.entry(user).or_default() += i32::from(actors > 0) - i32::from(before > 0);
        }
    }
    if !gone.0.is_empty() {
        tx.execute(DROP, &[&gone.0, &gone.1]).await?;
    }
    for (sql, sign) in [(COUNT, 1), (UNCOUNT, -1)] {
        let changed = unread.iter().filter(|(_, by)| **by * sign > 0);
        let (users, counts): (Vec<Uuid>, Vec<i32>) = changed.map(|(user, by)| (*user, by * sign)).unzip();
        if !users.is_empty() {
            tx.execute(sql, &[&users, &counts]).await?;
        }
    }
    Ok(())
}

/// An author's id, and the id of one of their notifications.
type Noted = (Uuid, Uuid);
/// A circle's id, and the id of one of its messages.
type InCircle = (Uuid, Uuid);

/// Adds the people whose reactions are new. Returns a notification once for each person that it gained.
async fn add(tx: &Tx, changes: &[Change]) -> Result<Vec<Noted>> {
    let on = || changes.iter().filter(|change| change.is_on && !change.was_on);
    let mut people: BTreeMap<InCircle, (Uuid, Uuid)> = BTreeMap::new();
    for Change { circle, message, user, .. } in on().copied() {
        let (least, greatest) = people.entry((circle, message)).or_insert((user, user));
        (*least, *greatest) = ((*least).min(user), (*greatest).max(user));
    }
    if people.is_empty() {
        return Ok(Vec::new());
    }
    let (circles, messages): (Vec<Uuid>, Vec<Uuid>) = people.keys().copied().unzip();
    let (least, greatest): (Vec<Uuid>, Vec<Uuid>) = people.values().copied().unzip();
    let ids: Vec<Uuid> = messages.iter().map(|_| Uuid::now_v7()).collect();
    let rows = tx.query(NOTIFY, &[&circles, &messages, &ids, &least, &greatest]).await?;
    let [authors, notifications, actors, ..] = columns(on(), &noted(&rows));
    let rows = tx.query(ADD, &[&authors, &notifications, &actors]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Removes the people whose reactions are gone. Returns a notification once for each person that it lost.
async fn remove(tx: &Tx, changes: &[Change]) -> Result<Vec<Noted>> {
    let off = || changes.iter().filter(|change| change.was_on && !change.is_on);
    let messages: BTreeSet<InCircle> = off().map(|change| (change.circle, change.message)).collect();
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let (circles, messages): (Vec<Uuid>, Vec<Uuid>) = messages.into_iter().unzip();
    let rows = tx.query(UNREAD, &[&circles, &messages]).await?;
    let [authors, notifications, actors, circles, messages] = columns(off(), &noted(&rows));
    let kinds: Vec<i16> = (1..).take(KINDS.len()).collect();
    let rows = tx.query(REMOVE, &[&authors, &notifications, &actors, &circles, &messages, &kinds]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
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
