//! Tells people of events: writes their notifications from the outbox, in its order.
//!
//! It does not tell of reactions: [`crate::notifications::folding`] folds those. It makes nobody forget anything:
//! [`crate::notifications::forgetting`] does.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use optimist_plane::error::Result;
use optimist_plane::outbox::event::{Done, Event};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use tokio_postgres::Row;

use crate::notifications::kept::months_of;
use crate::notifications::upkeep::evict;

/// People who are told of a message in one statement.
const AT_ONCE: i64 = 1_000;

/// Sorts before every person's id.
const BEFORE_ALL: Uuid = Uuid::nil();

statements! {
    /// Tells a circle's members after `$2` of a message, except its author; nobody, if it was deleted. Selects how many members
    /// that were, the last of them, and those who now have more than they keep.
    const MESSAGE: &str = "-- notifications::message, planned anew
with member as (
    select user_id, role from memberships where circle_id = $1 and user_id > $2 order by user_id limit $6),
told as (
    select user_id from member
    where role <> 'banned' and user_id <> $4
      and exists (select from messages where circle_id = $1 and id = $3 and deleted_at is null)
      and not exists (
          select from notifications n where n.user_id = member.user_id and n.month = id_month($3) and n.id = $3)),
counted as (
    insert into notification_counts as c (user_id, last_place, unread, held)
    select user_id, 1, 1, 1 from told order by user_id
    on conflict (user_id) do update
    set last_place = c.last_place + 1, unread = c.unread + 1, held = c.held + 1
    returning user_id, last_place, held),
noted as (
    insert into notifications (user_id, month, id, kind, circle_id, message_id, actor_id, place, created_at, updated_at)
    select user_id, id_month($3), $3, 'message', $1, $3, $4, last_place, $5, $5 from counted)
select count(*), (select user_id from member order by user_id desc limit 1),
    array(select user_id from counted where held > 1000)
from member";

    /// Tells all members of several messages' circles, as [`MESSAGE`] does of one; `$5` are the messages' months. Selects those
    /// who now have more than they keep.
    const MESSAGES: &str = "-- notifications::messages, planned anew
with message as (
    select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[]) as posted (circle_id, id, author_id, at)
    where exists (
        select from messages m
        where m.circle_id = posted.circle_id and m.id = posted.id and m.id = any($2) and deleted_at is null)),
told as (
    select user_id, id, circle_id, author_id, at, row_number() over (partition by user_id order by id) as nth
    from message join memberships m using (circle_id)
    where role <> 'banned' and user_id <> author_id
      and not exists (
          select from notifications n
          where n.user_id = m.user_id and n.month = id_month(message.id) and n.month = any($5::date[]) and n.id = message.id)),
counted as (
    insert into notification_counts as c (user_id, last_place, unread, held)
    select user_id, count(*), count(*), count(*) from told group by user_id order by user_id
    on conflict (user_id) do update
    set last_place = c.last_place + excluded.last_place, unread = c.unread + excluded.unread,
        held = c.held + excluded.held
    returning user_id, last_place, held),
noted as (
    insert into notifications (user_id, month, id, kind, circle_id, message_id, actor_id, place, created_at, updated_at)
    select user_id, id_month(id), id, 'message', circle_id, id, author_id,
        last_place - count(*) over (partition by user_id) + nth, at, at
    from told join counted using (user_id))
select user_id from counted where held > 1000";

    /// Changes what someone is told of their role, if they have not read it: changes of a role within a month are one
    /// notification.
    const ROLE_AGAIN: &str = "-- notifications::role_again, planned anew
with person as materialized (select read_through from notification_counts where user_id = $1 for update)
update notifications n set role = $4, actor_id = $3, updated_at = $5 from person
where n.user_id = $1 and n.month = id_month($6) and n.circle_id = $2 and n.kind = 'role' and n.read_at is null
  and n.place > read_through";

    const ROLE: &str = "-- notifications::role
with counted as (
    insert into notification_counts as c (user_id, last_place, unread, held)
    select user_id, 1, 1, 1 from memberships
    where circle_id = $3 and user_id = $1 and role <> 'banned' and user_id <> $4
    on conflict (user_id) do update
    set last_place = c.last_place + 1, unread = c.unread + 1, held = c.held + 1
    returning user_id, last_place, held),
noted as (
    insert into notifications (user_id, month, id, kind, circle_id, actor_id, role, place, created_at, updated_at)
    select user_id, id_month($2), $2, 'role', $3, $4, $5, last_place, $6, $6 from counted)
select user_id from counted where held > 1000";

    const INVITE: &str = "-- notifications::invite, planned anew
with counted as (
    insert into notification_counts as c (user_id, last_place, unread, held)
    select id, 1, 1, 1 from users
    where id = $1 and not exists (select from notifications where user_id = $1 and month = id_month($2) and id = $2)
    on conflict (user_id) do update
    set last_place = c.last_place + 1, unread = c.unread + 1, held = c.held + 1
    returning user_id, last_place, held),
noted as (
    insert into notifications (user_id, month, id, kind, circle_id, actor_id, invite_id, place, created_at, updated_at)
    select user_id, id_month($2), $2, 'invite', $3, $4, $2, last_place, $5, $5 from counted)
select user_id from counted where held > 1000";

    /// The number of members of each circle.
    const MEMBERS: &str = "-- notifications::members
select id, member_count from circles where id = any($1)";
}

/// Tells circles' members of messages: of several at once if few people are concerned, or of one, [`AT_ONCE`] members at a time.
/// `after` is the last member whom an earlier pass told of the first message.
pub async fn tell_of_messages(tx: &Tx, events: &[Event], after: Option<Uuid>) -> Result<Done> {
    if after.is_none() && events.len() > 1 {
        let several = messages_to_few(tx, events).await?;
        if several.messages.len() > 1 {
            return tell_of(tx, &several).await;
        }
    }
    let Some(event) = events.first() else { return Ok(Done { events: 0, written: 0, up_to: None }) };
    match Posted::of(event) {
        Some(message) => tell_everyone(tx, &message, after).await,
        None => Ok(Done { events: 1, written: 0, up_to: None }),
    }
}

/// Tells the person that the first event is about.
pub async fn tell_of_event(tx: &Tx, events: &[Event]) -> Result<Done> {
    let Some(event) = events.first() else { return Ok(Done { events: 0, written: 0, up_to: None }) };
    let written = match event.id("circle") {
        Some(circle) => tell(tx, event, circle).await?,
        None => 0,
    };
    Ok(Done { events: 1, written, up_to: None })
}

/// A message that was posted.
struct Posted {
    circle: Uuid,
    id: Uuid,
    author: Uuid,
    at: DateTime<Utc>,
}

impl Posted {
    fn of(event: &Event) -> Option<Posted> {
        let (circle, id) = (event.id("circle")?, event.id("message")?);
        Some(Posted { circle, id, author: event.actor?, at: event.at })
    }
}

/// Messages, and about how many people they go to together.
struct Several {
    messages: Vec<Posted>,
    people: i64,
}

/// The first messages that together go to no more people than are told at once.
async fn messages_to_few(tx: &Tx, events: &[Event]) -> Result<Several> {
    let messages: Vec<Posted> = events.iter().map_while(Posted::of).collect();
    let circles: Vec<Uuid> = messages.iter().map(|message| message.circle).collect();
    let rows = tx.query(MEMBERS, &[&circles]).await?;
    let members: HashMap<Uuid, i32> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut several = Several { messages: Vec::new(), people: 0 };
    for message in messages {
        // The size of a deleted circle is unknown.
        let people =
            several.people + members.get(&message.circle).map_or(AT_ONCE + 1, |count| i64::from(*count));
        if people > AT_ONCE {
            break;
        }
        several.people = people;
        several.messages.push(message);
    }
    Ok(several)
}

async fn tell_of(tx: &Tx, Several { messages, people }: &Several) -> Result<Done> {
    let ids = |of: fn(&Posted) -> Uuid| -> Vec<Uuid> { messages.iter().map(of).collect() };
    let at: Vec<DateTime<Utc>> = messages.iter().map(|message| message.at).collect();
    let (circles, authors) = (ids(|message| message.circle), ids(|message| message.author));
    let posted = ids(|message| message.id);
    let rows = tx.query(MESSAGES, &[&circles, &posted, &authors, &at, &months_of(&posted)]).await?;
    evict(tx, &people_in(&rows)).await?;
    Ok(Done { events: messages.len(), written: people.cast_unsigned(), up_to: None })
}

async fn tell_everyone(tx: &Tx, message: &Posted, after: Option<Uuid>) -> Result<Done> {
    let Posted { circle, id, author, at } = message;
    let after = after.unwrap_or(BEFORE_ALL);
    let row = tx.query_one(MESSAGE, &[circle, &after, id, author, at, &AT_ONCE]).await?;
    let (count, last): (i64, Option<Uuid>) = (row.get(0), row.get(1));
    evict(tx, &row.get::<_, Vec<Uuid>>(2)).await?;
    let up_to = last.filter(|_| count == AT_ONCE);
    Ok(Done { events: usize::from(up_to.is_none()), written: count.max(0).cast_unsigned(), up_to })
}

/// Tells someone of their role, or of an invitation. Returns about how many rows that were.
async fn tell(tx: &Tx, event: &Event, circle: Uuid) -> Result<u64> {
    let (Some(user), Some(actor)) = (event.id("user"), event.actor) else { return Ok(0) };
    let rows = match (event.kind.as_str(), event.text("role"), event.id("invite")) {
        ("member.role", Some(role), _) => {
            let id = Uuid::now_v7();
            if tx.execute(ROLE_AGAIN, &[&user, &circle, &actor, &role, &event.at, &id]).await? > 0 {
                return Ok(1);
            }
            tx.query(ROLE, &[&user, &id, &circle, &actor, &role, &event.at]).await?
        }
        ("invite.created", _, Some(invite)) => {
            tx.query(INVITE, &[&user, &invite, &circle, &actor, &event.at]).await?
        }
        _ => return Ok(0),
    };
    evict(tx, &people_in(&rows)).await?;
    Ok(1)
}

fn people_in(rows: &[Row]) -> Vec<Uuid> {
    rows.iter().map(|row| row.get(0)).collect()
}
