//! Who is in a circle: joining, leaving, roles, removals and bans, invitations.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use optimist_shared::envelope::LIST_LIMIT;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{Key, Parameters};
use optimist_shared::session::{Role, hash_secret};
use serde::{Deserialize, Serialize};

use crate::circles::access::{circle_of, reader_of_circle};
use crate::circles::definition;
use crate::circles::standing::{Standing, is_moderator};
use crate::people::auth::TOKEN_KEYS;
use crate::people::person::Person;
use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{ListItem, Snapshot};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::keyed_hash;
use optimist_plane::http::body::{Body, json_response, to_json};
use optimist_plane::http::idempotency::{Answer, Claim, Idempotency};
use optimist_plane::http::loaded::respond_list;
use optimist_plane::http::page::{At, Cursor, page, parameters_of};
use optimist_plane::http::sent::Id;
use optimist_plane::http::served::{Served, on};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::postgres::write::WriteContext;
use optimist_plane::request::Caller;
use optimist_plane::transaction;

pub fn routes() -> Vec<Served> {
    vec![
        on("members.list", members),
        on("members.join", join),
        on("members.leave", leave),
        on("members.update", update),
        on("members.remove", remove),
        on("invites.create", invite),
    ]
}

#[derive(Serialize)]
struct Member {
    user: Person,
    role: String,
    joined_at: DateTime<Utc>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Join {
    invite: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    role: NewRole,
}

/// A role that one can be given.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct NewRole(Role);

impl TryFrom<String> for NewRole {
    type Error = &'static str;

    fn try_from(text: String) -> Result<NewRole, &'static str> {
        let role = Role::parse(&text).filter(|role| role.is_member());
        role.map(NewRole).ok_or("expected `owner`, `moderator` or `member`")
    }
}

/// For whoever has it, or for one person alone, who is told.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewInvite {
    user: Option<Id>,
}

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

const INSERT: &str = "-- members::insert
insert into memberships (circle_id, user_id, role) values ($1, $2, 'member')";

/// Another version, since what is shown changes; what the circle itself is was not updated.
const COUNT: &str = "-- members::count
update circles set member_count = member_count + $2::int, version = version + 1 where id = $1";

const DELETE: &str = "-- members::delete
delete from memberships where circle_id = $1 and user_id = $2";

const BAN: &str = "-- members::ban
insert into memberships (circle_id, user_id, role) select $1, id, 'banned' from users where id = $2
on conflict on constraint memberships_pkey do update set role = 'banned'";

const SET_ROLE: &str = "-- members::set_role
update memberships set role = $3 where circle_id = $1 and user_id = $2";

const SET_OWNER: &str = "-- members::set_owner
update circles set owner_id = $2, version = version + 1, updated_at = now() where id = $1";

const SELECT: &str = "-- members::select
select users.id, users.name, memberships.role, joined_at
from memberships join users on users.id = user_id where circle_id = $1 and user_id = $2";

const INSERT_INVITE: &str = "-- members::insert_invite
insert into invites (id, circle_id, token_hash, token_key, created_by, for_user, expires_at)
values ($1, $2, $3, $4, $5, $6, now() + interval '7 days')";

/// Someone's role in the circle, if any.
const INVITEE: &str = "-- members::invitee
select m.role from users left join memberships m on m.circle_id = $1 and m.user_id = users.id where users.id = $2";

const SELECT_INVITE: &str = "-- members::select_invite
select token_key, expires_at from invites where id = $1";

const USE_INVITE: &str = "-- members::use_invite
update invites set used_by = $3, used_at = now()
where token_hash = $1 and circle_id = $2 and used_at is null and expires_at > now()
  and coalesce(for_user, $3) = $3 returning id";

pub const STATEMENTS: &[&str] = &[
    LIST,
    INSERT,
    COUNT,
    DELETE,
    BAN,
    SET_ROLE,
    SET_OWNER,
    SELECT,
    INSERT_INVITE,
    INVITEE,
    SELECT_INVITE,
    USE_INVITE,
];

async fn members(State(app): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let page = page::<At<'m'>>(uri.query(), "cursor")?;
    let (circle, _) = reader_of_circle(&app, &caller).await?;
    match page.after {
        None => {
            let parameters = Parameters { circle: Some(circle), ..Parameters::default() };
            respond_list(&*read_through(&app, Key::CircleMembers, parameters).await?, &headers, page.limit)
        }
        Some(after) => respond_list(
            &load_page(&app, circle, Some(after), page.limit).await?.loaded,
            &headers,
            page.limit,
        ),
    }
}

/// What a change of someone's membership makes stale.
fn touch(tx: &mut Tx, standing: &Standing, user: Uuid) {
    tx.touch(Key::Membership, standing.membership_of(user));
    tx.touch(Key::Circle, standing.keys());
    tx.touch(Key::CircleMembers, standing.keys());
}

async fn join(
    State(app): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<Join>,
) -> Result<Response> {
    let circle = circle_of(&caller)?;
    let idempotency = Idempotency::from_request(&headers, &caller.request, &body.bytes)?;
    let invite = body.value.invite.as_deref().map(parse_invite).transpose()?;
    let order = [circle, caller.user];
    let context = WriteContext {
        name: "members::join",
        request: &caller.request,
        actor: caller.actor(),
        order: &order,
    };
    let (status, circle, role) = transaction!(&app, context, |tx| {
        let standing = Standing::find(tx, circle, caller.user).await?;
        let is_member = standing.as_ref().is_some_and(|standing| standing.role.is_member());
        let answer = Answer { status: if is_member { 200 } else { 201 }, resource: circle };
        let claim = idempotency.claim(tx, &caller, answer).await?;
        let standing = standing.ok_or_else(no_entry)?;
        touch(tx, &standing, caller.user);
        if let Claim::Repeated(before) = claim {
            standing.require_reader().map_err(|_| no_entry())?;
            return Ok((before.status, definition::select(tx, circle).await?, standing.role));
        }
        if is_member {
            tx.unchanged();
            return Ok((answer.status, definition::select(tx, circle).await?, standing.role));
        }
        if standing.role == Role::Banned {
            return Err(no_entry());
        }
        if !standing.is_public {
            use_invite(tx, circle, caller.user, invite).await?;
        }
        standing.require_active()?;
        tx.execute(INSERT, &[&circle, &caller.user]).await?;
        tx.execute(COUNT, &[&circle, &1]).await?;
        tx.event("member.joined", serde_json::json!({"circle": circle, "user": caller.user}));
        Ok((answer.status, definition::select(tx, circle).await?, Role::Member))
    })?;
    circle.respond(status, role)
}

/// The same for no circle, a private one without a good invitation, and a ban: for strangers none of them exists.
fn no_entry() -> Error {
    Error::new(ErrorCode::NotFound).field("invite", "must be a valid invitation, if the circle is private")
}

fn parse_invite(text: &str) -> Result<[u8; 32]> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| Error::invalid("invite", "is not an invitation"))
}

/// Whether someone of one role may act on someone of another: moderators on members and strangers, the owner on all.
fn outranks(acting: Role, target: Role) -> bool {
    match acting {
        Role::Owner => target != Role::Owner,
        Role::Moderator => !matches!(target, Role::Owner | Role::Moderator),
        Role::Member | Role::None | Role::Banned => false,
    }
}

/// A moderator makes members moderators, and may step down; everything else is the owner's.
fn may_set_role(acting: Role, target: Role, new: Role, is_self: bool) -> bool {
    let by_moderator = outranks(acting, target) || (is_self && acting == Role::Moderator);
    acting == Role::Owner || (by_moderator && new != Role::Owner)
}

async fn use_invite(tx: &Tx, circle: Uuid, user: Uuid, invite: Option<[u8; 32]>) -> Result<()> {
    let invite = invite.ok_or_else(no_entry)?;
    let used = tx.query_opt(USE_INVITE, &[&hash_secret(&invite), &circle, &user]).await?;
    used.map(drop).ok_or_else(no_entry)
}

async fn leave(State(app): State<Ctx>, caller: Caller) -> Result<Response> {
    let circle = circle_of(&caller)?;
    let order = [circle, caller.user];
    let context = WriteContext {
        name: "members::leave",
        request: &caller.request,
        actor: caller.actor(),
        order: &order,
    };
    transaction!(&app, context, |tx| {
        let standing = Standing::read(tx, circle, caller.user).await?;
        standing.require_role(Role::is_member)?;
        if standing.role == Role::Owner {
            let detail = "The owner hands over the circle before leaving it.";
            return Err(Error::new(ErrorCode::Conflict).detail(detail));
        }
        tx.execute(DELETE, &[&circle, &caller.user]).await?;
        tx.execute(COUNT, &[&circle, &-1]).await?;
        touch(tx, &standing, caller.user);
        tx.event("member.left", serde_json::json!({"circle": circle, "user": caller.user}));
        Ok(())
    })?;
    Ok(axum::http::StatusCode::NO_CONTENT.into_response())
}

async fn update(State(app): State<Ctx>, caller: Caller, body: Body<Update>) -> Result<Response> {
    let circle = circle_of(&caller)?;
    let user = caller.request.path.user.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    let new = body.value.role.0;
    let order = [circle, caller.user, user];
    let context = WriteContext {
        name: "members::update",
        request: &caller.request,
        actor: caller.actor(),
        order: &order,
    };
    let member = transaction!(&app, context, |tx| {
        let standing = Standing::read(tx, circle, caller.user).await?;
        standing.require_moderator()?;
        let target = Standing::read(tx, circle, user).await?.role;
        if !target.is_member() {
            return Err(Error::new(ErrorCode::NotFound).field("user", "is not a member of this circle"));
        }
        if !may_set_role(standing.role, target, new, user == caller.user) {
            return Err(Error::new(ErrorCode::Forbidden).detail("Only the owner may do that."));
        }
        if target == Role::Owner && new != Role::Owner {
            let detail = "The owner hands over the circle by making someone else its owner.";
            return Err(Error::new(ErrorCode::Conflict).detail(detail));
        }
        if target == new {
            tx.unchanged();
        } else {
            if new == Role::Owner {
                // First of the two: a circle never has two owners.
                tx.execute(SET_ROLE, &[&circle, &caller.user, &Role::Moderator.as_str()]).await?;
                tx.execute(SET_OWNER, &[&circle, &user]).await?;
                tx.touch(Key::Membership, standing.membership_of(caller.user));
            }
            tx.execute(SET_ROLE, &[&circle, &user, &new.as_str()]).await?;
        }
        touch(tx, &standing, user);
        let row = tx.query_one(SELECT, &[&circle, &user]).await?;
        let member = member(&row);
        tx.event("member.role", serde_json::json!({"circle": circle, "user": user, "role": member.role}));
        Ok(member)
    })?;
    Ok(json_response(200, None, to_json(&member)?))
}

async fn remove(State(app): State<Ctx>, caller: Caller, uri: Uri) -> Result<Response> {
    let circle = circle_of(&caller)?;
    let user = caller.request.path.user.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    let mut ban = None;
    for (name, value) in parameters_of(uri.query())? {
        ban = match (name.as_str(), value.as_str()) {
            ("ban", "true") => Some(true),
            ("ban", "false") => Some(false),
            ("ban", _) => return Err(Error::new(ErrorCode::BadRequest).field(name, "must be true or false")),
            _ => {
                let reason = "is not a parameter of this endpoint";
                return Err(Error::new(ErrorCode::BadRequest).field(name, reason));
            }
        };
    }
    let order = [circle, caller.user, user];
    let context = WriteContext {
        name: "members::remove",
        request: &caller.request,
        actor: caller.actor(),
        order: &order,
    };
    transaction!(&app, context, |tx| {
        let standing = Standing::read(tx, circle, caller.user).await?;
        standing.require_moderator()?;
        let target = Standing::read(tx, circle, user).await?.role;
        if user == caller.user || !outranks(standing.role, target) {
            return Err(Error::new(ErrorCode::Forbidden).detail("You may not remove them."));
        }
        touch(tx, &standing, user);
        // A ban is lifted only by name: whoever merely removes a member must not undo what another has just done.
        match (ban, target) {
            (Some(true), Role::Banned) | (None, Role::Banned) | (None | Some(false), Role::None) => {
                tx.unchanged();
            }
            (Some(true), _) => {
                if tx.execute(BAN, &[&circle, &user]).await? == 0 {
                    return Err(Error::new(ErrorCode::NotFound).field("user", "does not exist"));
                }
            }
            (None | Some(false), _) => drop(tx.execute(DELETE, &[&circle, &user]).await?),
        }
        if target.is_member() {
            tx.execute(COUNT, &[&circle, &-1]).await?;
        }
        tx.event("member.removed", serde_json::json!({"circle": circle, "user": user, "ban": ban}));
        Ok(())
    })?;
    Ok(axum::http::StatusCode::NO_CONTENT.into_response())
}

async fn invite(
    State(app): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<NewInvite>,
) -> Result<Response> {
    let circle = circle_of(&caller)?;
    let user = body.value.user.map(|Id(user)| user);
    let idempotency = Idempotency::from_request(&headers, &caller.request, &body.bytes)?;
    let new = Uuid::now_v7();
    let order = [circle];
    let context = WriteContext {
        name: "members::invite",
        request: &caller.request,
        actor: caller.actor(),
        order: &order,
    };
    let (token, expires_at) = transaction!(&app, context, |tx| {
        let claim = idempotency.claim(tx, &caller, Answer { status: 201, resource: new }).await?;
        let standing = Standing::read(tx, circle, caller.user).await?;
        standing.require_role(is_moderator)?;
        let id = match claim {
            Claim::Repeated(before) => before.resource,
            Claim::First => {
                standing.require_active()?;
                if let Some(user) = user {
                    check_invitee(tx, circle, user).await?;
                }
                let key = &app.config.keys(TOKEN_KEYS).first;
                let token = invite_token(&app, key, new)?;
                tx.execute(INSERT_INVITE, &[&new, &circle, &hash_secret(&token), key, &caller.user, &user])
                    .await?;
                let payload = serde_json::json!({"circle": circle, "invite": new, "user": user});
                tx.event("invite.created", payload);
                new
            }
        };
        let row = tx.query_one(SELECT_INVITE, &[&id]).await?;
        let expires_at: DateTime<Utc> = row.get(1);
        Ok((invite_token(&app, &row.get::<_, String>(0), id)?, expires_at))
    })?;
    let body = serde_json::json!({"invite": URL_SAFE_NO_PAD.encode(token), "expires_at": expires_at});
    Ok(json_response(201, None, to_json(&body)?))
}

async fn check_invitee(tx: &Tx, circle: Uuid, user: Uuid) -> Result<()> {
    let row = tx.query_opt(INVITEE, &[&circle, &user]).await?;
    let row = row.ok_or_else(|| Error::invalid("user", "does not exist"))?;
    match row.get::<_, Option<String>>(0).as_deref().and_then(Role::parse) {
        None => Ok(()),
        Some(Role::Banned) => Err(Error::invalid("user", "is banned from this circle")),
        Some(_) => Err(Error::invalid("user", "is a member already")),
    }
}

/// Derived, so that a repetition renders the same one though only its hash is stored.
pub fn invite_token(app: &Ctx, key_id: &str, invite: Uuid) -> Result<[u8; 32]> {
    let key = app.config.keys(TOKEN_KEYS).get(key_id);
    let key = key
        .ok_or_else(|| Error::internal("token keys", &"a key that invitations were derived with is gone"))?;
    Ok(keyed_hash(key, &[b"invite", invite.as_bytes()]))
}

fn member(row: &tokio_postgres::Row) -> Member {
    Member {
        user: Person { id: row.get("id"), name: row.get("name") },
        role: row.get("role"),
        joined_at: row.get("joined_at"),
    }
}

pub async fn load_members(app: &Ctx, parameters: &Parameters) -> Result<Snapshot> {
    load_page(app, parameters.circle.unwrap_or_default(), None, LIST_LIMIT).await
}

async fn load_page(app: &Ctx, circle: Uuid, after: Option<At<'m'>>, limit: usize) -> Result<Snapshot> {
    let (time, id) = (after.map(|at| at.time), after.map(|at| at.id));
    let rows = app.db.query(LIST, &[&circle, &time, &id, &(limit as i64 + 1)]).await?;
    Snapshot::page(&rows, limit, |row| {
        let member = member(row);
        let at = At::<'m'> { time: member.joined_at, id: member.user.id };
        Ok(ListItem { id: None, cursor: at.encode(), json: to_json(&member)? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moderators_act_on_members_only_and_nobody_on_the_owner() {
        assert!(outranks(Role::Owner, Role::Moderator));
        assert!(outranks(Role::Moderator, Role::Member));
        assert!(outranks(Role::Moderator, Role::None));
        assert!(!outranks(Role::Moderator, Role::Moderator));
        assert!(!outranks(Role::Moderator, Role::Owner));
        assert!(!outranks(Role::Owner, Role::Owner));
        assert!(!outranks(Role::Member, Role::None));
    }

    #[test]
    fn ownership_is_the_owners_to_give() {
        assert!(may_set_role(Role::Owner, Role::Member, Role::Owner, false));
        assert!(may_set_role(Role::Moderator, Role::Member, Role::Moderator, false));
        assert!(may_set_role(Role::Moderator, Role::Moderator, Role::Member, true));
        assert!(!may_set_role(Role::Moderator, Role::Member, Role::Owner, false));
        assert!(!may_set_role(Role::Moderator, Role::Moderator, Role::Owner, true));
        assert!(!may_set_role(Role::Moderator, Role::Moderator, Role::Member, false));
    }
}
