//! Notifications as their reader sees them: listed newest first, counted while unread, and marked as read.
//!
//! None is made here: [`crate::notifications::telling`] and [`crate::notifications::folding`] do that.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::digest;
use optimist_plane::http::body::{json_response, tagged, to_json};
use optimist_plane::http::page::{At, List, answer_page, no_query, page};
use optimist_plane::http::sent::Shown;
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::months::Month;
use optimist_plane::operation::links::{FIRST_ID, link};
use optimist_plane::request::Caller;
use optimist_plane::{describe, statements, transaction};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};
use schemars::JsonSchema;
use serde::Serialize;
use tokio_postgres::Row;

use crate::circles::definition::Name;
use crate::circles::invites::invite_token;
use crate::circles::standing::MemberRole;
use crate::notifications::counts::STATE;
use crate::notifications::kept::kept;
use crate::people::person::Person;

pub fn routes() -> Vec<Served> {
    vec![
        on("notifications.list", list)
            .says("What the caller is told of, newest first.")
            .notes(
                "Everyone in a circle of up to 200 members is told of its messages (`message`), in larger ones those whom a message \
                 names as `<@` id `>` (`mention`, in any circle; the first 20, and of an edit whom it names anew). Of a comment, those are told whom it names, and who \
                 wrote the message that it belongs to or commented on it lately (`comment`): `message_id` is that message, and the comments \
                 are one notification until it is read (`others` and one). Beyond 60 in ten minutes, or 500 a day, the rest is one \
                 notification that counts (`more`: `others` and one). Moderators are told of a message that was reported (`report`), who reported it that it stays (`dismissed`) or was removed (`upheld`), and \
                 its author that it was removed (`removed`). Reactions to a message are one notification until it is read, which moves up with each. `invite` is \
                 there while it can be used, and `circle` while the caller may know its name. Who leaves a circle keeps \
                 none of its notifications, and nobody keeps more than the newest 1,000, or one for more than 90 days.",
            )
            .answers::<List<Notification>>(200)
            .tagged()
            .pages("before")
            .links([link("notifications.read", &[("notification", FIRST_ID)])]),
        on("notifications.unread", unread)
            .says("How many of the caller's notifications are unread.")
            .answers::<Unread>(200)
            .tagged(),
        on("notifications.read", read).says("Mark a notification as read.").answers::<Unread>(200),
        on("notifications.read-all", read_all).says("Mark all notifications as read.").answers::<Unread>(200),
    ]
}

statements! {
    /// Of the months from `$3` to `$2`. Nothing moves a notification out of its month, so the month comes first in the order.
    /// `token_key` is there while the reader can use the invitation, `circle_name` while they may know the circle.
    const LIST: &str = "-- notifications::list, planned anew
select n.id, n.kind, n.circle_id, c.name as circle_name, n.message_id, n.actor_id, u.name as actor_name, n.actors, n.role,
    i.id as invite_id, i.token_key, n.created_at, n.updated_at,
    n.read_at is not null or n.place <= r.read_through as is_read
from notifications n
join notification_counts r on r.user_id = n.user_id
left join memberships m on m.circle_id = n.circle_id and m.user_id = n.user_id
left join lateral (
    select id, token_key from usable_invites where id = n.invite_id and m.role is null limit 1) i on true
left join circles c on c.id = n.circle_id and m.role is distinct from 'banned'
    and (m.role is not null or i.id is not null or (c.visibility = 'public' and c.archived_at is null))
left join users u on u.id = n.actor_id
where n.user_id = $1 and n.month <= $2 and n.month >= $3
  and (n.month, n.updated_at, n.id)
      < ($2, coalesce($4::timestamptz, 'infinity'), coalesce($5::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
order by n.month desc, n.updated_at desc, n.id desc limit $6";

    const UNREAD: &str = "-- notifications::unread
select unread from notification_counts where user_id = $1";

    const EXISTS: &str = "-- notifications::exists, planned anew
select from notifications where user_id = $1 and month = id_month($2) and id = $2";

    const READ: &str = "-- notifications::read, planned anew
with person as materialized (select read_through from notification_counts where user_id = $1 for update),
read as (
    update notifications n set read_at = now() from person
    where n.user_id = $1 and n.month = id_month($2) and n.id = $2 and n.read_at is null and n.place > read_through
    returning n.id)
update notification_counts set unread = unread - 1 where user_id = $1 and exists (select from read)";

    /// Moves the mark up to which all are read. Reactions begin new notifications from then on.
    const READ_ALL: &str = "-- notifications::read_all
update notification_counts set read_through = last_place, read_round = read_round + 1, unread = 0
where user_id = $1 and unread > 0";
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NamedCircle")]
struct Circle {
    id: Uuid,
    #[schemars(with = "Shown<Name>")]
    name: String,
}

/// The schema of a notification's kind.
struct Kind;

describe!(Kind, {"type": "string", "enum": ["message", "mention", "comment", "reaction", "role", "offer", "invite", "more", "report", "upheld", "dismissed", "removed"]});

/// A notification as its reader sees it.
#[derive(Serialize, JsonSchema)]
struct Notification {
    id: Uuid,
    #[schemars(with = "Kind")]
    kind: String,
    circle: Option<Circle>,
    message_id: Option<Uuid>,
    actor: Option<Person>,
    /// How many more did it.
    #[schemars(range(min = 0))]
    others: i32,
    #[schemars(with = "Option<MemberRole>")]
    role: Option<String>,
    invite: Option<String>,
    created_at: Time,
    updated_at: Time,
    read: bool,
}

impl Notification {
    fn from_row(ctx: &Ctx, row: &Row) -> Notification {
        let named = |id: &str, name: &str| {
            Some((row.get::<_, Option<Uuid>>(id)?, row.get::<_, Option<String>>(name)?))
        };
        let invite =
            match (row.get::<_, Option<Uuid>>("invite_id"), row.get::<_, Option<String>>("token_key")) {
                // An invitation whose key is gone cannot be used; the notification is shown all the same.
                (Some(invite), Some(key)) => invite_token(ctx, &key, invite).ok(),
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

/// Up to `limit` notifications, of two months at a time, so that a statement touches two partitions.
async fn newest(ctx: &Ctx, user: Uuid, after: Option<At<'t'>>, limit: usize) -> Result<Vec<Row>> {
    let kept = kept();
    let after = after.filter(|at| Month::of_id(at.id) <= kept.newest);
    let (mut time, mut id) = (after.map(|at| at.time), after.map(|at| at.id));
    let mut month = id.map_or(kept.newest, Month::of_id);
    let mut rows = Vec::new();
    while month >= kept.oldest && rows.len() < limit {
        let (to, from) = (month.first_day(), month.plus(-1).first_day());
        let missing = (limit - rows.len()) as i64;
        rows.extend(ctx.db.query(LIST, &[&user, &to, &from, &time, &id, &missing]).await?);
        (time, id, month) = (None, None, month.plus(-2));
    }
    Ok(rows)
}

async fn list(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let page = page::<At<'t'>>(uri.query(), "before")?;
    let rows = newest(&ctx, caller.user, page.after, page.limit + 1).await?;
    let items: Vec<Notification> =
        rows.iter().take(page.limit).map(|row| Notification::from_row(&ctx, row)).collect();
    let position = |last: &Notification| At::<'t'> { time: last.updated_at.0, id: last.id };
    answer_page(&headers, items, rows.len() > page.limit, position)
}

async fn unread(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let row = ctx.db.query_opt(UNREAD, &[&caller.user]).await?;
    let json = unread_json(row.as_ref())?;
    Ok(tagged(&headers, &digest(&[&json]), "", json))
}

#[derive(Serialize, JsonSchema)]
struct Unread {
    /// Unread notifications.
    #[schemars(range(min = 0))]
    unread: i32,
}

/// Someone who was never told of anything has no row.
fn unread_json(row: Option<&Row>) -> Result<Vec<u8>> {
    to_json(&Unread { unread: row.map_or(0, |row| row.get(0)) })
}

async fn read(State(ctx): State<Ctx>, caller: Caller) -> Result<Response> {
    let id = caller.request.id(Id::Notification)?;
    mark(&ctx, &caller, Some(id)).await
}

async fn read_all(State(ctx): State<Ctx>, caller: Caller) -> Result<Response> {
    mark(&ctx, &caller, None).await
}

/// Marks one as read, or all.
async fn mark(ctx: &Ctx, caller: &Caller, id: Option<Uuid>) -> Result<Response> {
    let context = caller.writes("notifications::read", [caller.user]);
    let json = transaction!(ctx, context, |tx| {
        let changed = match id {
            Some(id) => {
                let known = tx.query_opt(EXISTS, &[&caller.user, &id]).await?;
                known.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
                tx.execute(READ, &[&caller.user, &id]).await?
            }
            None => tx.execute(READ_ALL, &[&caller.user]).await?,
        };
        if changed == 0 {
            tx.unchanged();
        }
        tx.changes(STATE, [caller.user]);
        tx.event("notification.read", serde_json::json!({"notification": id}));
        unread_json(tx.query_opt(UNREAD, &[&caller.user]).await?.as_ref())
    })?;
    Ok(json_response(200, None, json))
}
