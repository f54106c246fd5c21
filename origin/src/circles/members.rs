//! The members of a circle: listed, joining, leaving.
//!
//! Roles, removals and bans are [`super::roles`]', invitations [`super::invites`]'.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use optimist_shared::envelope::LIST_LIMIT;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::keys::{BoundKey, Key};
use optimist_shared::session::Role;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_postgres::Row;

use crate::circles::access::{reader_of_circle, require_role};
use crate::circles::definition::{CircleWithRole, SAME_CIRCLE, select};
use crate::circles::invites::{InviteToken, find_invite, no_entry, use_invite};
use crate::circles::moved;
use crate::circles::quotas::check_circles;
use crate::circles::standing::{MemberRole, Standing};
use crate::people::person::Person;
use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{ListItem, Snapshot, id_of};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{Body, to_json};
use optimist_plane::http::idempotency::{Answer, Claim, Idempotency};
use optimist_plane::http::loaded::respond_list;
use optimist_plane::http::page::{At, Cursor, List, page};
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::limits::charge::give_back_unused;
use optimist_plane::operation::links::link;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::Caller;
use optimist_plane::{statements, transaction};

pub fn routes() -> Vec<Served> {
    const FIRST_USER: (&str, &str) = ("user", "$response.body#/items/0/user/id");
    vec![
        on("members.list", members)
            .says("The members of a circle, longest first.")
            .answers::<List<Member>>(200)
            .tagged()
            .pages("cursor")
            .links([link("members.update", &[SAME_CIRCLE, FIRST_USER]), link("users.get", &[FIRST_USER])]),
        on("members.join", join)
            .says("Join a circle.")
            .notes(
                "A private circle takes an invitation, and so does one whose `join_policy` is not `open`: joining uses it. \
                 Who is a member already is answered 200, and charged nothing. A person is in at most 500 circles: a further one is refused with 422 `quota-exceeded`.",
            )
            .takes::<Join>(json!({"invite": "2e-Mbyg5T80-LWFzEni780EHJ3LSA0aF80nLFQ5H-gg"}))
            .answers::<CircleWithRole>(201)
            .also(200, "A member already.")
            .tagged()
            .idempotent()
            .refuses(&[ErrorCode::Forbidden, ErrorCode::Conflict, ErrorCode::QuotaExceeded])
            .links([link("messages.list", &[SAME_CIRCLE]), link("members.leave", &[SAME_CIRCLE])]),
        on("members.leave", leave).says("Leave a circle.").notes("The owner hands the circle over first."),
    ]
}

#[derive(Serialize, JsonSchema)]
pub struct Member {
    user: Person,
    #[schemars(with = "MemberRole")]
    pub role: String,
    joined_at: Time,
}

impl Member {
    /// From: id, name, role, joined_at.
    pub fn from_row(row: &Row) -> Member {
        Member {
            user: Person { id: row.get("id"), name: row.get("name") },
            role: row.get("role"),
            joined_at: row.get("joined_at"),
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Join {
    invite: Option<InviteToken>,
}

statements! {
    const LIST: &str = "-- members::list
select seen, m.* from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select users.id, users.name, memberships.role, joined_at
    from memberships join users on users.id = user_id
    where circle_id = $1 and memberships.role <> 'banned'
      and (joined_at, user_id)
          > (coalesce($2::timestamptz, '-infinity'), coalesce($3::uuid, '00000000-0000-0000-0000-000000000000'))
    order by joined_at, user_id limit $4) m on true
order by joined_at, id";

    /// Whoever joins has nothing unread yet.
    const INSERT: &str = "-- members::insert
with joined as (
    insert into memberships (circle_id, user_id, role) select $1, id, 'member' from users where id = $2 and status <> 'erased'
    returning user_id)
insert into read_markers (circle_id, user_id, number) select $1, user_id, last_number from circles, joined where circles.id = $1";

    /// The version moves, since the circle shows its count; `updated_at` stays, since its definition did not change. The day is that of
    /// the change itself, which has the circle's lock: days follow each other as changes do.
    const COUNT: &str = "-- members::count
with counted as (
    update circles set member_count = member_count + $2::int, version = version + 1 where id = $1 returning member_count)
insert into member_days as known (circle_id, day, joined, departed, members)
select $1, (clock_timestamp() at time zone 'UTC')::date, greatest($2, 0), greatest(-$2, 0), member_count from counted
on conflict (circle_id, day) do update
    set joined = known.joined + excluded.joined, departed = known.departed + excluded.departed, members = excluded.members";

    const DELETE: &str = "-- members::delete
delete from memberships where circle_id = $1 and user_id = $2";
}

async fn members(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let page = page::<At<'m'>>(uri.query(), "cursor")?;
    let (circle, _) = reader_of_circle(&ctx, &caller).await?;
    match page.after {
        None => {
            let loaded = read_through(&ctx, Key::circle_members(circle)).await?;
            respond_list(&loaded, &headers, page.limit)
        }
        Some(after) => {
            let loaded = load_page(&ctx, circle, Some(after), page.limit).await?.loaded;
            respond_list(&loaded, &headers, page.limit)
        }
    }
}

async fn join(
    State(ctx): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<Join>,
) -> Result<Response> {
    let circle = caller.request.id(Id::Circle)?;
    let idempotency = Idempotency::from_request(&headers, &caller.request, &body.bytes)?;
    let Join { invite } = body.value;
    let standing = Standing::before_locks(&ctx, circle, caller.user).await?.ok_or_else(no_entry)?;
    match standing.role {
        Role::Banned => return Err(no_entry()),
        Role::None if standing.is_by_invitation() => {
            let found = find_invite(&ctx, circle, caller.user, invite).await;
            found.map_err(|error| uninvited(&standing, error))?;
        }
        _ => {}
    }
    let context = caller.writes("members::join", [circle, caller.user]);
    let (status, circle, role) = transaction!(&ctx, context, |tx| {
        let standing = Standing::find(tx, circle, caller.user).await?;
        let is_member = standing.as_ref().is_some_and(|standing| standing.role.is_member());
        let answer = Answer { status: if is_member { 200 } else { 201 }, resource: circle };
        let claim = idempotency.claim(tx, &caller, answer).await?;
        let standing = standing.ok_or_else(no_entry)?;
        touch(tx, circle, caller.user);
        if let Claim::Repeated(before) = claim {
            standing.require_reader().map_err(|_| no_entry())?;
            return Ok((before.status, select(tx, circle).await?, standing.role));
        }
        if is_member {
            tx.unchanged();
            return Ok((answer.status, select(tx, circle).await?, standing.role));
        }
        if standing.role == Role::Banned {
            return Err(no_entry());
        }
        if standing.is_by_invitation() {
            let used = use_invite(tx, circle, caller.user, invite).await;
            used.map_err(|error| uninvited(&standing, error))?;
        }
        standing.require_active()?;
        enter(tx, circle, caller.user).await?;
        Ok((answer.status, select(tx, circle).await?, Role::Member))
    })?;
    if status == 201 {
        moved::joined(&ctx, caller.user).await;
    }
    if status == 200 {
        give_back_unused(&ctx, &caller, idempotency.key()).await;
    }
    circle.respond(status, role)
}

/// Makes a person, of whom the transaction holds the lock, a member.
pub async fn enter(tx: &mut Tx, circle: Uuid, user: Uuid) -> Result<()> {
    check_circles(tx, user).await?;
    if tx.execute(INSERT, &[&circle, &user]).await.map_err(member_already)? == 0 {
        // The account is erased.
        return Err(Error::new(ErrorCode::NotFound));
    }
    count(tx, circle, 1).await?;
    tx.event("member.joined", json!({"circle": circle, "user": user}));
    Ok(())
}

/// Why someone without a good invitation may not come in. Who may read the circle may know that it is by invitation.
fn uninvited(standing: &Standing, error: Error) -> Error {
    if !standing.is_public || error.code != ErrorCode::NotFound {
        return error;
    }
    let detail = match standing.is_on_request() {
        true => "One asks to join this circle, or has an invitation.",
        false => "One joins this circle by invitation.",
    };
    Error::new(ErrorCode::Forbidden).detail(detail).field("invite", "must be a valid invitation")
}

/// 409 for someone who has become a member in the meantime.
fn member_already(error: Error) -> Error {
    if error.violates("memberships_pkey") {
        return Error::new(ErrorCode::Conflict).field("user", "is a member already");
    }
    error
}

async fn leave(State(ctx): State<Ctx>, caller: Caller) -> Result<Response> {
    let (circle, _) = require_role(&ctx, &caller, Role::is_member).await?;
    let context = caller.writes("members::leave", [circle, caller.user]);
    transaction!(&ctx, context, |tx| {
        let standing = Standing::read(tx, circle, caller.user).await?;
        standing.require_role(Role::is_member)?;
        if standing.role == Role::Owner {
            let detail = "The owner hands over the circle before leaving it.";
            return Err(Error::new(ErrorCode::Conflict).detail(detail));
        }
        delete(tx, circle, caller.user).await?;
        count(tx, circle, -1).await?;
        touch(tx, circle, caller.user);
        tx.event("member.left", json!({"circle": circle, "user": caller.user}));
        Ok(())
    })?;
    moved::left(&ctx, circle, caller.user).await;
    Ok(axum::http::StatusCode::NO_CONTENT.into_response())
}

/// Touches the keys that a change of someone's membership makes stale.
pub fn touch(tx: &mut Tx, circle: Uuid, user: Uuid) {
    tx.touch(Key::membership(user, circle));
    tx.touch(Key::my_circles(user));
    tx.touch(Key::read_marker(circle, user));
    tx.touch(Key::circle(circle));
    tx.touch(Key::circle_members(circle));
}

/// Changes the number of members that the circle shows, and the day's.
pub async fn count(tx: &Tx, circle: Uuid, by: i32) -> Result<()> {
    tx.execute(COUNT, &[&circle, &by]).await.map(drop)
}

/// Ends a membership, or a ban.
pub async fn delete(tx: &Tx, circle: Uuid, user: Uuid) -> Result<()> {
    tx.execute(DELETE, &[&circle, &user]).await.map(drop)
}

pub async fn load_members(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    load_page(ctx, id_of(&key, Id::Circle)?, None, LIST_LIMIT).await
}

async fn load_page(ctx: &Ctx, circle: Uuid, after: Option<At<'m'>>, limit: usize) -> Result<Snapshot> {
    let (time, id) = (after.map(|at| at.time), after.map(|at| at.id));
    let rows = ctx.db.query(LIST, &[&circle, &time, &id, &(limit as i64 + 1)]).await?;
    Snapshot::page(&rows, limit, false, |row| {
        let member = Member::from_row(row);
        let at = At::<'m'> { time: member.joined_at.0, id: member.user.id };
        Ok(ListItem { id: None, cursor: at.encode(), json: to_json(&member)? })
    })
}
