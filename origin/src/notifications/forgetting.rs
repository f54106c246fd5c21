//! Removes notifications that are nobody's business any more: a circle's from who has left it, a deleted message's from everyone, an offer
//! that was taken back, and somebody's from who has blocked them. It follows the outbox, in its order, and works in parts.

use optimist_plane::error::Result;
use optimist_plane::outbox::event::{Done, Event};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use tokio_postgres::Row;

use crate::notifications::counts::{STATE, lock_counts};
use crate::notifications::folding;
use crate::notifications::kept::kept;
use crate::notifications::threads;

/// Notifications of one person, or members of one circle, that a statement looks at.
const AT_ONCE: i64 = 1_000;

/// Sorts before every id.
const BEFORE_ALL: Uuid = Uuid::nil();

statements! {
    /// Removes a person's notifications of a circle, after the id `$3` and of the months from `$6` to `$7`; if `$5` names a
    /// message, only those of it but of its comments; invitations only if `$8` says so. Selects how many it found, and the last one's id.
    const OF_PERSON: &str = "-- notifications::forget, planned anew
with person as materialized (select read_through from notification_counts where user_id = $1 for update),
old as (
    select month, id from notifications
    where user_id = $1 and circle_id = $2 and ($8 or kind <> 'invite') and month >= $6 and month <= $7 and id > $3
      and ($5::uuid is null or (message_id = $5 and kind <> 'comment'))
    order by month, id limit $4),
gone as (
    delete from notifications n using old, person
    where n.user_id = $1 and n.month = old.month and n.month >= $6 and n.month <= $7 and n.id = old.id
    returning n.month, n.id, n.kind, n.read_at is null and n.place > read_through as was_unread),
queued as (
    insert into notification_actors_gone (user_id, month, notification_id)
    select $1, month, id from gone where kind = 'reaction' on conflict do nothing),
counted as (
    update notification_counts c set held = c.held - less.held, unread = c.unread - less.unread
    from (select count(*)::integer as held, (count(*) filter (where was_unread))::integer as unread from gone) less
    where c.user_id = $1)
select count(*), (select id from old order by id desc limit 1) from old";

    /// The circle's members after `$2`, and whether they were told of the message `$3`.
    const TOLD: &str = "-- notifications::told, planned anew
with member as (
    select user_id from memberships where circle_id = $1 and user_id > $2 order by user_id limit $4),
told as (
    select n.user_id from notifications n join member using (user_id) where n.month = id_month($3) and n.id = $3 and n.kind <> 'comment')
select user_id, told.user_id is not null from member left join told using (user_id) order by user_id";

    /// Removes the notifications of the message `$2` from people whose counts are locked.
    const OF_MESSAGE: &str = "-- notifications::forget_message, planned anew
with gone as (
    delete from notifications n using notification_counts p
    where n.user_id = any($1::uuid[]) and p.user_id = n.user_id and n.month = id_month($2) and n.id = $2 and n.kind <> 'comment'
    returning n.user_id, (n.read_at is null and n.place > p.read_through)::integer as unread)
update notification_counts c set held = c.held - 1, unread = c.unread - gone.unread
from gone where c.user_id = gone.user_id";

    const OF_INVITE: &str = "-- notifications::forget_invite, planned anew
with person as materialized (select read_through from notification_counts where user_id = $1 for update),
gone as (
    delete from notifications n using person
    where n.user_id = $1 and n.month = id_month($2) and n.id = $2 and n.kind = 'invite'
    returning (n.read_at is null and n.place > read_through)::integer as unread)
update notification_counts c set held = c.held - 1, unread = c.unread - gone.unread from gone where c.user_id = $1";

    /// Removes what edits told people of the message `$3`: that it names them. Of the months from `$4` to `$5`; their counts are locked.
    const NAMING: &str = "-- notifications::forget_naming, planned anew (5,000 rows)
with gone as (
    delete from notifications n using notification_counts p
    where n.user_id = any($1::uuid[]) and p.user_id = n.user_id and n.circle_id = $2 and n.message_id = $3 and n.id <> $3
      and n.kind = 'mention' and n.month >= $4 and n.month <= $5
    returning n.user_id, (n.read_at is null and n.place > p.read_through)::integer as unread)
update notification_counts c set held = c.held - less.held, unread = c.unread - less.unread
from (select user_id, count(*)::integer as held, sum(unread)::integer as unread from gone group by user_id) less
where c.user_id = less.user_id";

    /// Removes what the person `$2` has told the person `$1`, of the months from `$3` to `$4`; but not of reactions.
    const OF_ACTOR: &str = "-- notifications::forget_actor, planned anew
with person as materialized (select read_through from notification_counts where user_id = $1 for update),
gone as (
    delete from notifications n using person
    where n.user_id = $1 and n.actor_id = $2 and n.month >= $3 and n.month <= $4 and n.kind <> 'reaction'
    returning n.read_at is null and n.place > read_through as was_unread)
update notification_counts c set held = c.held - less.held, unread = c.unread - less.unread
from (select count(*)::integer as held, (count(*) filter (where was_unread))::integer as unread from gone) less
where c.user_id = $1";

    /// Removes what told the person `$1` that the circle `$2` is offered to them, of the months from `$3` to `$4`.
    const OF_OFFER: &str = "-- notifications::forget_offer, planned anew
with person as materialized (select read_through from notification_counts where user_id = $1 for update),
gone as (
    delete from notifications n using person
    where n.user_id = $1 and n.circle_id = $2 and n.month >= $3 and n.month <= $4 and n.kind = 'offer'
    returning n.read_at is null and n.place > read_through as was_unread)
update notification_counts c set held = c.held - less.held, unread = c.unread - less.unread
from (select count(*)::integer as held, (count(*) filter (where was_unread))::integer as unread from gone) less
where c.user_id = $1";

    const AUTHOR: &str = "-- notifications::author, planned anew
select author_id from messages where circle_id = $1 and id = $2";
}

/// An invitation was taken back: whoever it was for has nothing to see there any more.
pub async fn forget_invite(tx: &Tx, events: &[Event]) -> Result<Done> {
    if let Some((user, invite)) =
        events.first().and_then(|event| Some((event.id("user")?, event.id("invite")?)))
    {
        tx.changes(STATE, [user]);
        tx.execute(OF_INVITE, &[&user, &invite]).await?;
    }
    Ok(ONE)
}

/// An offer was taken back, or declined: it stands no longer.
pub async fn forget_offer(tx: &Tx, events: &[Event]) -> Result<Done> {
    let offer = events.first().and_then(|event| Some((event.id("user")?, event.id("circle")?)));
    let Some((user, circle)) = offer else { return Ok(ONE) };
    tx.changes(STATE, [user]);
    let mut written = 0;
    for (first, last) in kept().stretches() {
        let (first, last) = (first.first_day(), last.first_day());
        written += tx.execute(OF_OFFER, &[&user, &circle, &first, &last]).await?;
    }
    Ok(Done { written, ..ONE })
}

/// Somebody was blocked: what they have told the blocker is withdrawn.
pub async fn forget_actor(tx: &Tx, events: &[Event]) -> Result<Done> {
    let people = events.first().and_then(|event| Some((event.id("user")?, event.id("other")?)));
    let Some((user, other)) = people else { return Ok(ONE) };
    tx.changes(STATE, [user]);
    let mut written = folding::take_out(tx, user, other).await?;
    for (first, last) in kept().stretches() {
        let (first, last) = (first.first_day(), last.first_day());
        written += tx.execute(OF_ACTOR, &[&user, &other, &first, &last]).await?;
    }
    Ok(Done { written, ..ONE })
}

/// Someone left the circle of the first event, or was removed: they lose what they were told before; after a return they are
/// told anew. Invitations stay, unless the person is banned and can use none. `after` is the last notification that an earlier
/// pass removed.
pub async fn forget_circle(tx: &Tx, events: &[Event], after: Option<Uuid>) -> Result<Done> {
    let Some(event) = events.first() else { return Ok(ONE) };
    match (event.id("user"), event.id("circle")) {
        (Some(user), Some(circle)) => {
            let which = if event.is("ban") { Which::All } else { Which::ButInvitations };
            forget(tx, user, circle, after, which).await
        }
        _ => Ok(ONE),
    }
}

/// Which of a person's notifications of a circle.
#[derive(Clone, Copy)]
enum Which {
    All,
    ButInvitations,
    OfMessage(Uuid),
}

/// Removes a person's notifications of a circle.
async fn forget(tx: &Tx, user: Uuid, circle: Uuid, after: Option<Uuid>, which: Which) -> Result<Done> {
    tx.changes(STATE, [user]);
    let (message, invites) = match which {
        Which::All => (None, true),
        Which::ButInvitations => (None, false),
        Which::OfMessage(message) => (Some(message), false),
    };
    let after = after.unwrap_or(BEFORE_ALL);
    let mut written = 0;
    for (first, last) in kept().stretches().filter(|(_, last)| last.plus(1).first_id() > after) {
        let (first, last) = (first.first_day(), last.first_day());
        let row = tx
            .query_one(OF_PERSON, &[&user, &circle, &after, &AT_ONCE, &message, &first, &last, &invites])
            .await?;
        let done = done(&row);
        written += done.written;
        if done.up_to.is_some() {
            return Ok(Done { written, ..done });
        }
    }
    Ok(Done { written, ..ONE })
}

/// The message of the first event was deleted. `after` is the last member whom an earlier pass reached.
pub async fn forget_message(tx: &Tx, events: &[Event], after: Option<Uuid>) -> Result<Done> {
    let Some((circle, message)) =
        events.first().and_then(|event| Some((event.id("circle")?, event.id("message")?)))
    else {
        return Ok(ONE);
    };
    if after.is_none()
        && let Some(row) = tx.query_opt(AUTHOR, &[&circle, &message]).await?
    {
        // Those of reactions, of which only the author was told: one until it is read, so there are few.
        forget(tx, row.get(0), circle, None, Which::OfMessage(message)).await?;
    }
    if let Some(event) = events.first().filter(|_| after.is_none()) {
        forget_naming(tx, event, circle, message).await?;
        if let Some(parent) = event.id("parent") {
            threads::forget(tx, circle, parent, message).await?;
        }
    }
    let after = after.unwrap_or(BEFORE_ALL);
    let members = tx.query(TOLD, &[&circle, &after, &message, &AT_ONCE]).await?;
    let told: Vec<Uuid> = members.iter().filter(|row| row.get(1)).map(|row| row.get(0)).collect();
    if !told.is_empty() {
        lock_counts(tx, &told).await?;
        tx.execute(OF_MESSAGE, &[&told, &message]).await?;
    }
    let up_to = members.last().filter(|_| members.len() == AT_ONCE as usize).map(|row| row.get(0));
    Ok(Done { events: usize::from(up_to.is_none()), written: members.len() as u64, up_to })
}

/// The message names some people no longer: they lose what an edit told them. What the message itself told them stays.
pub async fn forget_naming(tx: &Tx, event: &Event, circle: Uuid, message: Uuid) -> Result<()> {
    let people = event.ids("unnamed");
    if people.is_empty() {
        return Ok(());
    }
    lock_counts(tx, &people).await?;
    for (first, last) in kept().stretches() {
        let (first, last) = (first.first_day(), last.first_day());
        tx.execute(NAMING, &[&people, &circle, &message, &first, &last]).await?;
    }
    Ok(())
}

/// One event without consequences.
const ONE: Done = Done { events: 1, written: 0, up_to: None };

/// From how many were looked at, and the last of them.
fn done(row: &Row) -> Done {
    let (count, last): (i64, Option<Uuid>) = (row.get(0), row.get(1));
    let up_to = last.filter(|_| count == AT_ONCE);
    Done { events: usize::from(up_to.is_none()), written: count.max(0).cast_unsigned(), up_to }
}
