//! Folds the comments of a thread into one notification for each of its followers, until that is read or its month is over. It counts the
//! comments; one that is deleted is taken off, and with the last one the notification goes.
//!
//! It runs where the outbox is followed, so one comment comes after the other.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use optimist_plane::error::Result;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;

use crate::notifications::counts::lock_counts;
use crate::notifications::kept::months_of;
use crate::notifications::recipients::Recipient;

statements! {
    /// Adds comments to people's unread notifications of their threads, of the months `$7` of the comments' ids `$6`.
    const AGAIN: &str = "-- threads::again, planned anew (3,000 rows)
update notifications n set actors = n.actors + c.n, actor_id = c.actor_id, updated_at = c.at
from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::uuid[], $5::timestamptz[], $6::uuid[])
    as c (user_id, message_id, n, actor_id, at, id), notification_counts p
where n.user_id = c.user_id and p.user_id = c.user_id and n.message_id = c.message_id and n.month = id_month(c.id)
  and n.month = any($7::date[]) and n.kind = 'comment' and n.read_at is null and n.place > p.read_through
returning n.user_id, n.message_id";

    /// A comment's author, and who follows its thread.
    const FOLLOWERS: &str = "-- threads::followers, planned anew
select c.author_id, p.followers || p.author_id from messages c
join messages p on p.circle_id = c.circle_id and p.id = c.parent_id and p.id = $3
where c.circle_id = $1 and c.id = $2";

    /// Takes the comment `$3` off people's unread notifications of its thread, where it is counted: not where it named them.
    const LESS: &str = "-- threads::less, planned anew
update notifications n set actors = n.actors - 1 from notification_counts p
where n.user_id = any($1::uuid[]) and p.user_id = n.user_id and n.message_id = $2 and n.month = id_month($3) and n.id <= $3
  and n.kind = 'comment' and n.read_at is null and n.place > p.read_through
  and not exists (select from notifications named
      where named.user_id = n.user_id and named.month = id_month($3) and named.id = $3 and named.kind = 'mention')
returning n.user_id, n.id, n.actors";

    /// Removes notifications, one of each person, of the months `$3`.
    const GONE: &str = "-- threads::gone, planned anew
with gone as (
    delete from notifications n using unnest($1::uuid[], $2::uuid[]) as d (user_id, id), notification_counts p
    where n.user_id = d.user_id and p.user_id = n.user_id and n.month = id_month(d.id) and n.month = any($3::date[]) and n.id = d.id
    returning n.user_id, (n.read_at is null and n.place > p.read_through)::integer as unread)
update notification_counts c set held = c.held - 1, unread = c.unread - gone.unread
from gone where c.user_id = gone.user_id";
}

/// Folds the comments among what people are to be told. Returns what is left: to be told anew.
pub async fn fold(tx: &Tx, people: Vec<Recipient>) -> Result<Vec<Recipient>> {
    let (comments, mut left): (Vec<_>, Vec<_>) = people.into_iter().partition(|one| one.kind == "comment");
    if comments.is_empty() {
        return Ok(left);
    }
    let mut folded: BTreeMap<(Uuid, Option<Uuid>), Recipient> = BTreeMap::new();
    for one in comments {
        // In the order of their ids.
        let known = folded.entry((one.user, one.message)).or_insert(Recipient { count: 0, ..one });
        *known = Recipient { id: known.id, count: known.count + one.count, ..one };
    }
    let users: BTreeSet<Uuid> = folded.keys().map(|(user, _)| *user).collect();
    lock_counts(tx, &users.into_iter().collect::<Vec<_>>()).await?;
    let ids = |of: fn(&Recipient) -> Uuid| -> Vec<Uuid> { folded.values().map(of).collect() };
    let counts: Vec<i32> = folded.values().map(|one| one.count).collect();
    let at: Vec<DateTime<Utc>> = folded.values().map(|one| one.at).collect();
    let (users, first) = (ids(|one| one.user), ids(|one| one.id));
    let (threads, actors): (Vec<Option<Uuid>>, Vec<Option<Uuid>>) =
        folded.values().map(|one| (one.message, one.actor)).unzip();
    let months = months_of(&first);
    for row in tx.query(AGAIN, &[&users, &threads, &counts, &actors, &at, &first, &months]).await? {
        folded.remove(&(row.get(0), row.get(1)));
    }
    left.extend(folded.into_values());
    Ok(left)
}

/// Takes a comment that was deleted off the notifications of those who follow its thread.
pub async fn forget(tx: &Tx, circle: Uuid, parent: Uuid, comment: Uuid) -> Result<()> {
    let Some(row) = tx.query_opt(FOLLOWERS, &[&circle, &comment, &parent]).await? else { return Ok(()) };
    let (author, mut people): (Uuid, Vec<Uuid>) = (row.get(0), row.get(1));
    people.retain(|person| *person != author);
    if people.is_empty() {
        return Ok(());
    }
    lock_counts(tx, &people).await?;
    let rows = tx.query(LESS, &[&people, &parent, &comment]).await?;
    let empty = rows
        .iter()
        .filter(|row| row.get::<_, i32>(2) <= 0)
        .map(|row| (row.get::<_, Uuid>(0), row.get::<_, Uuid>(1)));
    let (users, ids): (Vec<Uuid>, Vec<Uuid>) = empty.unzip();
    if !users.is_empty() {
        tx.execute(GONE, &[&users, &ids, &months_of(&ids)]).await?;
    }
    Ok(())
}
