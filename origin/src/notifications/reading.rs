//! Notifications as their reader sees them: newest first, how many are unread, and marking them as read.

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

use crate::circles::members::invite_token;
use crate::people::person::Person;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::digest;
use optimist_plane::http::body::{json_response, tagged, to_json};
use optimist_plane::http::page::Cursor as _;
use optimist_plane::http::page::{At, no_query, page};
use optimist_plane::http::served::{Served, on};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::postgres::write::WriteContext;
use optimist_plane::request::Caller;
use optimist_plane::transaction;

pub fn routes() -> Vec<Served> {
    vec![
        on("notifications.list", list),
        on("notifications.unread", unread),
        on("notifications.read", read),
        on("notifications.read-all", read_all),
    ]
}

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

pub const STATEMENTS: &[&str] = &[LIST, UNREAD, EXISTS, READ, READ_SOME];

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
