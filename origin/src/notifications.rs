//! Notifications: what someone is told of, newest first, and how many of them are unread.
//!
//! Written where their cause is: from the outbox, in order, and with reactions as those come to Postgres. Whoever leaves a
//! circle keeps none of it. Delivery is not here: this is the record.

pub mod folding;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use serde::Serialize;
use tokio_postgres::Row;

use crate::app::{Ctx, Handlers, on};
use crate::body::{digest, json_response, tagged, to_json};
use crate::cursor::{At, Cursor as _, no_query, page};
use crate::error::{Error, Result};
use crate::members::{Person, invite_token};
use crate::postgres::{Tx, WriteContext, transaction};
use crate::projections::{Done, Event};
use crate::request::Caller;

pub fn routes() -> Handlers {
    vec![
        on("notifications.list", list),
        on("notifications.unread", unread),
        on("notifications.read", read),
        on("notifications.read-all", read_all),
    ]
}

/// People who are told of a message in one statement.
const AT_ONCE: i64 = 2_000;

/// A circle's members after `$2` are told of a message, unless they wrote it, or it is gone.
const MESSAGE: &str = "-- notifications::message
with member as (
    select user_id from memberships where circle_id = $1 and role <> 'banned' and user_id > $2
    order by user_id limit $6),
noted as (
    insert into notifications (user_id, id, kind, circle_id, message_id, actor_id, created_at, updated_at)
    select user_id, $3, 'message', $1, $3, $4, $5, $5 from member
    where user_id <> $4 and exists (
        select from messages where circle_id = $1 and id = $3 and deleted_at is null)
    order by user_id
    on conflict do nothing returning user_id),
counted as (
    insert into notification_counts as c (user_id, unread) select user_id, 1 from noted order by user_id
    on conflict (user_id) do update set unread = c.unread + 1)
select count(*), (select user_id from member order by user_id desc limit 1) from member";

/// As [`MESSAGE`], of several messages, to all members of their circles.
const MESSAGES: &str = "-- notifications::messages
with message as (
    select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[]) as posted (circle_id, id, author_id, at)
    where exists (
        select from messages m where m.circle_id = posted.circle_id and m.id = posted.id and deleted_at is null)),
noted as (
    insert into notifications (user_id, id, kind, circle_id, message_id, actor_id, created_at, updated_at)
    select user_id, id, 'message', circle_id, id, author_id, at, at
    from message join memberships using (circle_id)
    where role <> 'banned' and user_id <> author_id
    order by user_id, id
    on conflict do nothing returning user_id)
insert into notification_counts as c (user_id, unread)
select user_id, count(*) from noted group by user_id order by user_id
on conflict (user_id) do update set unread = c.unread + excluded.unread";

const ROLE: &str = "-- notifications::role
with noted as (
    insert into notifications (user_id, id, kind, circle_id, actor_id, role, created_at, updated_at)
    select user_id, $2, 'role', $3, $4, $5, $6, $6 from memberships
    where circle_id = $3 and user_id = $1 and role <> 'banned' and user_id <> $4
    on conflict do nothing returning user_id)
insert into notification_counts as c (user_id, unread) select user_id, 1 from noted
on conflict (user_id) do update set unread = c.unread + 1";

const INVITE: &str = "-- notifications::invite
with noted as (
    insert into notifications (user_id, id, kind, circle_id, actor_id, invite_id, created_at, updated_at)
    select id, $2, 'invite', $3, $4, $2, $5, $5 from users where id = $1
    on conflict do nothing returning user_id)
insert into notification_counts as c (user_id, unread) select user_id, 1 from noted
on conflict (user_id) do update set unread = c.unread + 1";

const FORGET: &str = "-- notifications::forget
with gone as (
    delete from notifications where user_id = $1 and circle_id = $2 and kind <> 'invite' returning read_at)
update notification_counts set unread = unread - (select count(*) from gone where read_at is null)
where user_id = $1 and exists (select from gone where read_at is null)";

/// An invitation's key, while it can be used.
const LIST: &str = "-- notifications::list
select n.id, n.kind, n.circle_id, c.name as circle_name, n.message_id, n.actor_id, u.name as actor_name, n.actors, n.role,
    i.id as invite_id, i.token_key, n.created_at, n.updated_at, n.read_at is not null as is_read
from notifications n
left join circles c on c.id = n.circle_id
left join users u on u.id = n.actor_id
left join invites i on i.id = n.invite_id and i.used_at is null and i.expires_at > now()
where n.user_id = $1
  and (n.updated_at, n.id) < (coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
order by n.updated_at desc, n.id desc limit $4";

const UNREAD: &str = "-- notifications::unread
select unread from notification_counts where user_id = $1";

const EXISTS: &str = "-- notifications::exists
select from notifications where user_id = $1 and id = $2";

const READ: &str = "-- notifications::read
with read as (
    update notifications set read_at = now() where user_id = $1 and id = $2 and read_at is null returning id)
update notification_counts set unread = unread - 1 where user_id = $1 and exists (select from read)";

/// Fifty at a time, since each is a change in six indexes: whoever has thousands must not run into a time-out.
const READ_SOME: &str = "-- notifications::read_some
with unread as (
    select id from notifications where user_id = $1 and read_at is null order by id limit 50 for update),
read as (
    update notifications n set read_at = now() from unread where n.user_id = $1 and n.id = unread.id returning n.id)
update notification_counts set unread = unread - (select count(*) from read)
where user_id = $1 and exists (select from read)";

/// Old ones, whether read or not.
pub const CLEAN: &str = "-- notifications::clean
with old as (
    select user_id, id from notifications where updated_at < now() - interval '90 days' limit $1),
gone as (
    delete from notifications n using old
    where n.user_id = old.user_id and n.id = old.id and n.updated_at < now() - interval '90 days'
    returning n.user_id, n.read_at),
counted as (
    update notification_counts c set unread = c.unread - less.by
    from (select user_id, count(*) as by from gone where read_at is null group by user_id) less
    where c.user_id = less.user_id)
select count(*) from gone";

pub const STATEMENTS: &[&str] =
    &[MESSAGE, MESSAGES, ROLE, INVITE, FORGET, LIST, UNREAD, EXISTS, READ, READ_SOME, CLEAN];

/// Whom events are told, and what: a projection of the outbox. One of them, or messages to few.
pub async fn follow(tx: &Tx, events: &[Event], after: Option<Uuid>) -> Result<Done> {
    let several = if after.is_none() { messages_to_few(events) } else { Vec::new() };
    if several.len() > 1 {
        return tell_of(tx, &several).await;
    }
    let Some(event) = events.first() else { return Ok(Done { events: 0, written: 0, up_to: None }) };
    let written = match (Message::of(event), event.id("circle")) {
        (Some(message), _) => return tell_everyone(tx, &message, after).await,
        (None, Some(circle)) => tell(tx, event, circle).await?,
        (None, None) => 0,
    };
    Ok(Done { events: 1, written, up_to: None })
}

/// A message that was posted.
struct Message {
    circle: Uuid,
    id: Uuid,
    author: Uuid,
    at: DateTime<Utc>,
    members: Option<i32>,
}

impl Message {
    fn of(event: &Event) -> Option<Message> {
        let (circle, id) = (event.id("circle")?, event.id("message")?);
        let author = event.actor.unwrap_or_default();
        (event.kind == "message.posted").then_some(Message {
            circle,
            id,
            author,
            at: event.at,
            members: event.members,
        })
    }
}

/// As many messages as come first, one after another, and go to no more people together than are told at once.
fn messages_to_few(events: &[Event]) -> Vec<Message> {
    let mut people = 0;
    let go_to_few = |message: &Message| {
        people += message.members.map_or(AT_ONCE + 1, i64::from);
        people <= AT_ONCE
    };
    events.iter().map_while(Message::of).take_while(go_to_few).collect()
}

async fn tell_of(tx: &Tx, messages: &[Message]) -> Result<Done> {
    let ids = |of: fn(&Message) -> Uuid| -> Vec<Uuid> { messages.iter().map(of).collect() };
    let at: Vec<DateTime<Utc>> = messages.iter().map(|message| message.at).collect();
    let (circles, authors) = (ids(|message| message.circle), ids(|message| message.author));
    tx.execute(MESSAGES, &[&circles, &ids(|message| message.id), &authors, &at]).await?;
    let people: i64 = messages.iter().filter_map(|message| message.members).map(i64::from).sum();
    Ok(Done { events: messages.len(), written: people.max(0).cast_unsigned(), up_to: None })
}

async fn tell_everyone(tx: &Tx, message: &Message, after: Option<Uuid>) -> Result<Done> {
    let Message { circle, id, author, at, .. } = message;
    let row = tx.query_one(MESSAGE, &[circle, &after.unwrap_or_default(), id, author, at, &AT_ONCE]).await?;
    let (count, last): (i64, Option<Uuid>) = (row.get(0), row.get(1));
    let up_to = last.filter(|_| count == AT_ONCE);
    Ok(Done { events: usize::from(up_to.is_none()), written: count.max(0).cast_unsigned(), up_to })
}

/// Tells whom an event is about. How many.
async fn tell(tx: &Tx, event: &Event, circle: Uuid) -> Result<u64> {
    let actor = event.actor.unwrap_or_default();
    match event.kind.as_str() {
        "member.role" => {
            if let (Some(user), Some(role)) = (event.id("user"), event.text("role")) {
                tx.execute(ROLE, &[&user, &Uuid::now_v7(), &circle, &actor, &role, &event.at]).await?;
            }
        }
        "invite.created" => {
            if let (Some(user), Some(invite)) = (event.id("user"), event.id("invite")) {
                tx.execute(INVITE, &[&user, &invite, &circle, &actor, &event.at]).await?;
            }
        }
        // Told of what came before; of what comes after a return, anew.
        "member.left" | "member.removed" => {
            if let Some(user) = event.id("user") {
                tx.execute(FORGET, &[&user, &circle]).await?;
            }
        }
        _ => return Ok(0),
    }
    Ok(1)
}

#[derive(Serialize)]
struct Circle {
    id: Uuid,
    name: String,
}

/// A notification as its reader sees it.
#[derive(Serialize)]
struct Notification {
    id: Uuid,
    kind: String,
    circle: Option<Circle>,
    message_id: Option<Uuid>,
    actor: Option<Person>,
    /// How many more did it.
    others: i32,
    role: Option<String>,
    invite: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    read: bool,
}

impl Notification {
    fn from_row(app: &Ctx, row: &Row) -> Notification {
        let named = |id: &str, name: &str| {
            Some((row.get::<_, Option<Uuid>>(id)?, row.get::<_, Option<String>>(name)?))
        };
        let invite =
            match (row.get::<_, Option<Uuid>>("invite_id"), row.get::<_, Option<String>>("token_key")) {
                // One whose key is gone cannot be used; the others are shown all the same.
                (Some(invite), Some(key)) => invite_token(app, &key, invite).ok(),
                _ => None,
            };
        Notification {
            id: row.get("id"),
            kind: row.get("kind"),
            circle: named("circle_id", "circle_name").map(|(id, name)| Circle { id, name }),
            message_id: row.get("message_id"),
            actor: named("actor_id", "actor_name").map(|(id, name)| Person { id, name }),
            others: (row.get::<_, i32>("actors") - 1).max(0),
            role: row.get("role"),
            invite: invite.map(|token| URL_SAFE_NO_PAD.encode(token)),
            created_at: row.get("created_at"),
            updated_at: row.get("updated_at"),
            read: row.get("is_read"),
        }
    }
}

async fn list(State(app): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let page = page::<At<'t'>>(uri.query(), "before")?;
    let (time, id) = (page.after.map(|at| at.time), page.after.map(|at| at.id));
    let rows = app.db.query(LIST, &[&caller.user, &time, &id, &(page.limit as i64 + 1)]).await?;
    let items: Vec<Notification> =
        rows.iter().take(page.limit).map(|row| Notification::from_row(&app, row)).collect();
    let last = items.last().filter(|_| rows.len() > page.limit);
    let next = last.map(|last| At::<'t'> { time: last.updated_at, id: last.id }.encode());
    let json = to_json(&serde_json::json!({"items": items, "next": next}))?;
    Ok(tagged(&headers, &digest(&[&json]), "", json))
}

async fn unread(State(app): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let row = app.db.query_opt(UNREAD, &[&caller.user]).await?;
    let json = unread_json(row.as_ref())?;
    Ok(tagged(&headers, &digest(&[&json]), "", json))
}

/// Who was never told of anything has no row.
fn unread_json(row: Option<&Row>) -> Result<Vec<u8>> {
    to_json(&serde_json::json!({"unread": row.map_or(0, |row| row.get::<_, i32>(0))}))
}

async fn read(State(app): State<Ctx>, caller: Caller) -> Result<Response> {
    let id = caller.request.path.notification.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    mark(&app, &caller, Some(id)).await
}

async fn read_all(State(app): State<Ctx>, caller: Caller) -> Result<Response> {
    mark(&app, &caller, None).await
}

/// Marks one as read, or all.
async fn mark(app: &Ctx, caller: &Caller, id: Option<Uuid>) -> Result<Response> {
    let order = [caller.user];
    let context = WriteContext {
        name: "notifications::read",
        request: &caller.request,
        actor: caller.actor(),
        order: &order,
    };
    let json = transaction!(app, context, |tx| {
        let changed = match id {
            Some(id) => {
                let known = tx.query_opt(EXISTS, &[&caller.user, &id]).await?;
                known.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
                tx.execute(READ, &[&caller.user, &id]).await?
            }
            None => read_each(tx, caller.user).await?,
        };
        if changed == 0 {
            tx.unchanged();
        }
        tx.event("notification.read", serde_json::json!({"notification": id}));
        unread_json(tx.query_opt(UNREAD, &[&caller.user]).await?.as_ref())
    })?;
    Ok(json_response(200, None, json))
}

/// In how many steps.
async fn read_each(tx: &Tx, user: Uuid) -> Result<u64> {
    let mut changed = 0;
    while tx.execute(READ_SOME, &[&user]).await? > 0 {
        changed += 1;
    }
    Ok(changed)
}
