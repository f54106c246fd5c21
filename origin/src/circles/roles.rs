//! Roles, removals and bans: who may act on whom, and what happens to the membership.
//!
//! Joining and leaving by oneself are [`super::members`]'.

use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::session::Role;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::circles::access::{require_role, role_of};
use crate::circles::members::{Member, count, delete, touch};
use crate::circles::moved;
use crate::circles::quotas::check_bans;
use crate::circles::standing::{Standing, is_moderator};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{Body, json_response, to_json};
use optimist_plane::http::page::parameters_of;
use optimist_plane::http::sent::Refused;
use optimist_plane::http::served::{Served, on};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::Caller;
use optimist_plane::{describe, statements, transaction};

pub fn routes() -> Vec<Served> {
    vec![
        on("members.update", update)
            .says("Change a member's role.")
            .notes(
                "Moderators make members moderators, and may step down. Only the owner does more. The circle itself is handed over \
                 by `PUT /v1/circles/{circle}/ownership`.",
            )
            .takes::<Update>(json!({"role": "moderator"}))
            .answers::<Member>(200),
        on("members.remove", remove)
            .says("Remove a member, or ban someone.")
            .notes("Moderators act on members, the owner on everyone else.")
            .filter::<Also>("ban", "Also keeps them out, until the ban is lifted.")
            .refuses(&[ErrorCode::QuotaExceeded]),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "UpdateMember")]
struct Update {
    role: GivenRole,
}

/// A role that a member can be given by another.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct GivenRole(Role);

describe!(GivenRole, {"type": "string", "enum": ["moderator", "member"]});

impl TryFrom<String> for GivenRole {
    type Error = Refused;

    fn try_from(text: String) -> Result<GivenRole, Refused> {
        let role = Role::parse(&text).filter(|role| matches!(role, Role::Moderator | Role::Member));
        role.map(GivenRole).ok_or_else(|| Refused::new("must be `moderator` or `member`"))
    }
}

/// The schema of a parameter that is given as `true` or left out.
struct Also;

describe!(Also, {"type": "boolean", "enum": [true]});

statements! {
    const BAN: &str = "-- members::ban
insert into memberships (circle_id, user_id, role) select $1, id, 'banned' from users where id = $2 and status <> 'erased'
on conflict on constraint memberships_pkey do update set role = 'banned', joined_at = now()";

    const SET_ROLE: &str = "-- members::set_role
update memberships set role = $3 where circle_id = $1 and user_id = $2";

    const SET_OWNER: &str = "-- members::set_owner
update circles set owner_id = $2, version = version + 1, updated_at = now() where id = $1";

    const SELECT: &str = "-- members::select
select users.id, users.name, memberships.role, joined_at
from memberships join users on users.id = user_id where circle_id = $1 and user_id = $2";
}

async fn update(State(ctx): State<Ctx>, caller: Caller, body: Body<Update>) -> Result<Response> {
    let (circle, acting) = require_role(&ctx, &caller, is_moderator).await?;
    let user = caller.request.id(Id::User)?;
    let GivenRole(new) = body.value.role;
    let is_self = user == caller.user;
    check_role(acting, role_of(&ctx, circle, user).await?, is_self)?;
    let context = caller.writes("members::update", [circle, caller.user, user]);
    let member = transaction!(&ctx, context, |tx| {
        let standing = Standing::read(tx, circle, caller.user).await?;
        standing.require_moderator()?;
        let target = Standing::read(tx, circle, user).await?.role;
        check_role(standing.role, target, is_self)?;
        if target == new {
            tx.unchanged();
        } else {
            tx.execute(SET_ROLE, &[&circle, &user, &new.as_str()]).await?;
        }
        touch(tx, circle, user);
        let member = select(tx, circle, user).await?;
        tx.event("member.role", json!({"circle": circle, "user": user, "role": member.role}));
        Ok(member)
    })?;
    Ok(json_response(200, None, to_json(&member)?))
}

/// Makes a member the owner, and the owner a moderator. The transaction holds the circle's lock.
pub async fn hand_over(tx: &Tx, circle: Uuid, from: Uuid, to: Uuid) -> Result<()> {
    // First of the two: a circle never has two owners.
    tx.execute(SET_ROLE, &[&circle, &from, &Role::Moderator.as_str()]).await?;
    tx.execute(SET_OWNER, &[&circle, &to]).await?;
    tx.execute(SET_ROLE, &[&circle, &to, &Role::Owner.as_str()]).await.map(drop)
}

pub fn not_a_member() -> Error {
    Error::new(ErrorCode::NotFound).field("user", "is not a member of this circle")
}

/// A member as they are in this transaction.
pub async fn select(tx: &Tx, circle: Uuid, user: Uuid) -> Result<Member> {
    tx.query_one(SELECT, &[&circle, &user]).await.map(|row| Member::from_row(&row))
}

async fn remove(State(ctx): State<Ctx>, caller: Caller, uri: Uri) -> Result<Response> {
    let (circle, acting) = require_role(&ctx, &caller, is_moderator).await?;
    let user = caller.request.id(Id::User)?;
    let also_bans = also_bans(uri.query())?;
    let is_self = user == caller.user;
    let before = role_of(&ctx, circle, user).await?;
    check_removal(acting, before, is_self)?;
    // Nobody is locked, or told, who is not in the circle: a moderator may name anyone.
    let concerned = before.is_member().then_some(user);
    let order: Vec<Uuid> = [circle, caller.user].into_iter().chain(concerned).collect();
    let context = caller.writes("members::remove", order);
    transaction!(&ctx, context, |tx| {
        let standing = Standing::read(tx, circle, caller.user).await?;
        standing.require_moderator()?;
        let target = Standing::read(tx, circle, user).await?.role;
        check_removal(standing.role, target, is_self)?;
        if target.is_member() && concerned.is_none() {
            return Err(Error::new(ErrorCode::Conflict).detail("They have joined at this moment: try again."));
        }
        touch(tx, circle, user);
        // A removal lifts no ban: a moderator who removes a member must not undo another's ban of a moment ago.
        match (also_bans, target) {
            (_, Role::Banned) | (false, Role::None) => tx.unchanged(),
            (true, _) => {
                check_bans(tx, circle).await?;
                if tx.execute(BAN, &[&circle, &user]).await? == 0 {
                    return Err(Error::new(ErrorCode::NotFound).field("user", "does not exist"));
                }
            }
            (false, _) => delete(tx, circle, user).await?,
        }
        if target.is_member() {
            count(tx, circle, -1).await?;
        }
        let was_member = target.is_member();
        tx.event(
            "member.removed",
            json!({"circle": circle, "user": user, "ban": also_bans, "member": was_member}),
        );
        Ok(())
    })?;
    moved::left(&ctx, circle, user).await;
    Ok(axum::http::StatusCode::NO_CONTENT.into_response())
}

/// Whether someone of one role may give someone of another a new role. Asked before the locks, and again under them.
fn check_role(acting: Role, target: Role, is_self: bool) -> Result<()> {
    if !target.is_member() {
        return Err(not_a_member());
    }
    if !may_set_role(acting, target, is_self) {
        return Err(Error::new(ErrorCode::Forbidden).detail("Only the owner may do that."));
    }
    if target == Role::Owner {
        let detail = "The owner hands over the circle by offering it to somebody.";
        return Err(Error::new(ErrorCode::Conflict).detail(detail));
    }
    Ok(())
}

/// Whether someone of one role may remove or ban someone of another. Asked before the locks, and again under them.
fn check_removal(acting: Role, target: Role, is_self: bool) -> Result<()> {
    if is_self || !outranks(acting, target) {
        return Err(Error::new(ErrorCode::Forbidden).detail("You may not remove them."));
    }
    Ok(())
}

/// Whether the query asks for a ban: `ban=true`, or nothing.
fn also_bans(query: Option<&str>) -> Result<bool> {
    let mut also_bans = false;
    for (name, value) in parameters_of(query)? {
        also_bans = match (name.as_str(), value.as_str()) {
            ("ban", "true") => true,
            ("ban", _) => {
                return Err(Error::new(ErrorCode::BadRequest).field(name, "must be true, or left out"));
            }
            _ => {
                let reason = "is not a parameter of this endpoint";
                return Err(Error::new(ErrorCode::BadRequest).field(name, reason));
            }
        };
    }
    Ok(also_bans)
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
fn may_set_role(acting: Role, target: Role, is_self: bool) -> bool {
    acting == Role::Owner || outranks(acting, target) || (is_self && acting == Role::Moderator)
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
    fn moderators_make_members_moderators_and_may_step_down() {
        assert!(may_set_role(Role::Owner, Role::Moderator, false));
        assert!(may_set_role(Role::Moderator, Role::Member, false));
        assert!(may_set_role(Role::Moderator, Role::Moderator, true));
        assert!(!may_set_role(Role::Moderator, Role::Moderator, false));
        assert!(!may_set_role(Role::Member, Role::Member, true));
    }
}
