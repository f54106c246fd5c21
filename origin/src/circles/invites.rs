//! Invitations: moderators make, list and revoke them, and people use them up by joining.
//!
//! One can be used until it expires, while its maker may still invite (the view `usable_invites` says so). Joining itself is
//! [`super::members`]'.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{self, Uuid};
use optimist_shared::session::{Role, hash_secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::circles::access::require_role;
use crate::circles::definition::SAME_CIRCLE;
use crate::circles::quotas::check_invites;
use crate::circles::standing::{Standing, is_moderator};
use crate::people::person::Person;
use crate::people::secrets::TOKEN_KEYS;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::keyed_hash;
use optimist_plane::http::body::{Body, json_response, to_json};
use optimist_plane::http::idempotency::{Answer, Claim, Idempotency};
use optimist_plane::http::page::{Cursor, List, answer_page, page};
use optimist_plane::http::sent::{Id, Number, Refused};
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::operation::links::{FIRST_ID, ID, link};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::Caller;
use optimist_plane::{describe, statements, transaction};

pub fn routes() -> Vec<Served> {
    vec![
        on("invites.create", create)
            .says("Invite one person, or as many as `uses` says.")
            .notes("It is good for seven days, or as many as `days` says. With `user` nobody else may use it, and they are told.")
            .takes::<NewInvite>(json!({"uses": 20, "days": 14}))
            .answers::<NewlyMade>(201)
            .idempotent()
            .refuses(&[ErrorCode::QuotaExceeded])
            .links([
                link("members.join", &[SAME_CIRCLE]).with_body(&[("invite", "$response.body#/invite")]),
                link("invites.revoke", &[SAME_CIRCLE, ("invite", ID)]),
            ]),
        on("invites.list", list)
            .says("The invitations of a circle that can be used, newest first.")
            .notes("Without their secrets: those are told to their makers and to the invited.")
            .answers::<List<Invite>>(200)
            .tagged()
            .pages("cursor")
            .links([link("invites.revoke", &[SAME_CIRCLE, ("invite", FIRST_ID)])]),
        on("invites.revoke", revoke)
            .says("Revoke an invitation.")
            .notes("One that is used up, or revoked already, stays as it is."),
    ]
}

/// Days that an invitation is good for, unless its maker says otherwise.
const DAYS: i16 = 7;

/// For whoever has it, or for one person alone, who is told.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CreateInvite")]
struct NewInvite {
    user: Option<Id>,
    /// How many people may join with it; 1 if it is not given.
    uses: Option<Number<1, 100>>,
    /// How long it is good for; 7 if it is not given.
    days: Option<Number<1, 30>>,
}

/// An invitation as its maker gets it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CreatedInvite")]
struct NewlyMade {
    id: Uuid,
    /// The secret that its user joins with.
    invite: String,
    expires_at: Time,
}

/// An invitation as moderators see it.
#[derive(Serialize, JsonSchema)]
struct Invite {
    id: Uuid,
    created_by: Person,
    /// The one person who may use it; null if anyone may.
    user: Option<Person>,
    /// How many people may join with it.
    #[schemars(range(min = 1, max = 100))]
    uses: i16,
    /// How many have.
    #[schemars(range(min = 0, max = 99))]
    used: i16,
    created_at: Time,
    expires_at: Time,
}

impl Invite {
    /// From: id, maker_id, maker_name, user_id, user_name, uses, used, created_at, expires_at.
    fn from_row(row: &Row) -> Invite {
        let user: Option<Uuid> = row.get("user_id");
        Invite {
            id: row.get("id"),
            created_by: Person { id: row.get("maker_id"), name: row.get("maker_name") },
            user: user.map(|id| Person { id, name: row.get("user_name") }),
            uses: row.get("uses"),
            used: row.get("used"),
            created_at: row.get("created_at"),
            expires_at: row.get("expires_at"),
        }
    }
}

/// An invitation as it is sent: base64url of 32 bytes.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub struct InviteToken([u8; 32]);

describe!(InviteToken, {"type": "string", "pattern": "^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$"});

impl TryFrom<String> for InviteToken {
    type Error = Refused;

    fn try_from(text: String) -> Result<InviteToken, Refused> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(InviteToken).ok_or_else(|| Refused::new("is not an invitation"))
    }
}

/// Before the invitation with this id: ids are in the order of their making.
struct Before(Uuid);

impl Cursor for Before {
    const KIND: char = 'i';

    fn render(&self) -> String {
        self.0.to_string()
    }

    fn parse(text: &str) -> Option<Before> {
        ids::parse_id(text).map(Before)
    }
}

statements! {
    const INSERT_INVITE: &str = "-- members::insert_invite
insert into invites (id, circle_id, token_hash, token_key, created_by, for_user, uses, expires_at)
values ($1, $2, $3, $4, $5, $6, $7, now() + make_interval(days => $8::smallint))";

    /// Someone's role in the circle, if any.
    const INVITEE: &str = "-- members::invitee
select m.role from users left join memberships m on m.circle_id = $1 and m.user_id = users.id
where users.id = $2 and users.status <> 'erased'";

    const SELECT_INVITE: &str = "-- members::select_invite
select token_key, expires_at from invites where id = $1";

    const FIND_INVITE: &str = "-- members::find_invite
select from usable_invites where token_hash = $1 and circle_id = $2 and coalesce(for_user, $3) = $3";

    const USE_INVITE: &str = "-- members::use_invite
update invites set used = used + 1, used_by = $3, used_at = case when used + 1 >= uses then now() end
where id = (select id from usable_invites where token_hash = $1 and circle_id = $2 and coalesce(for_user, $3) = $3)
  and used_at is null and revoked_at is null returning id";

    const LIST: &str = "-- invites::list
select i.id, maker.id as maker_id, maker.name as maker_name, invited.id as user_id, invited.name as user_name,
    i.uses, i.used, i.created_at, i.expires_at
from usable_invites i
join users maker on maker.id = i.created_by
left join users invited on invited.id = i.for_user
where i.circle_id = $1 and i.id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
order by i.id desc limit $3";

    const EXISTS: &str = "-- invites::exists
select from invites where circle_id = $1 and id = $2";

    const REVOKE: &str = "-- invites::revoke
update invites set revoked_at = now() where circle_id = $1 and id = $2 and used_at is null and revoked_at is null
returning for_user";

    /// A day after its end no repeated request shows an invitation again.
    pub const CLEAN: &str = "-- invites::clean
with gone as (
    delete from invites where id = any(array(
        select id from invites where expires_at < now() - interval '1 day' order by expires_at limit $1))
    returning id)
select count(*) from gone";
}

async fn create(
    State(ctx): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<NewInvite>,
) -> Result<Response> {
    let (circle, _) = require_role(&ctx, &caller, is_moderator).await?;
    let NewInvite { user, uses, days } = body.value;
    let user = user.map(|Id(user)| user);
    let (uses, days) = (uses.map_or(1, |Number(uses)| uses), days.map_or(DAYS, |Number(days)| days));
    if user.is_some() && uses > 1 {
        return Err(Error::invalid("uses", "is 1 for an invitation of one person"));
    }
    let idempotency = Idempotency::from_request(&headers, &caller.request, &body.bytes)?;
    let new = Uuid::now_v7();
    let context = caller.writes("members::invite", [circle]);
    let invite = transaction!(&ctx, context, |tx| {
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
                check_invites(tx, circle).await?;
                let key = &ctx.config.keys(TOKEN_KEYS).first;
                let token = invite_token(&ctx, key, new)?;
                let hash = hash_secret(&token);
                let parameters: [&(dyn ToSql + Sync); 8] =
                    [&new, &circle, &hash, key, &caller.user, &user, &uses, &days];
                tx.execute(INSERT_INVITE, &parameters).await?;
                tx.event("invite.created", json!({"circle": circle, "invite": new, "user": user}));
                new
            }
        };
        let row = tx.query_one(SELECT_INVITE, &[&id]).await?;
        let token = invite_token(&ctx, &row.get::<_, String>(0), id)?;
        Ok(NewlyMade { id, invite: URL_SAFE_NO_PAD.encode(token), expires_at: row.get(1) })
    })?;
    Ok(json_response(201, None, to_json(&invite)?))
}

async fn list(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let page = page::<Before>(uri.query(), "cursor")?;
    let (circle, _) = require_role(&ctx, &caller, is_moderator).await?;
    let before = page.after.map(|Before(id)| id);
    let rows = ctx.db.query(LIST, &[&circle, &before, &(page.limit as i64 + 1)]).await?;
    let items: Vec<Invite> = rows.iter().take(page.limit).map(Invite::from_row).collect();
    answer_page(&headers, items, rows.len() > page.limit, |last| Before(last.id))
}

async fn revoke(State(ctx): State<Ctx>, caller: Caller) -> Result<Response> {
    let (circle, _) = require_role(&ctx, &caller, is_moderator).await?;
    let invite = caller.request.id(ids::Id::Invite)?;
    let context = caller.writes("invites::revoke", [circle]);
    transaction!(&ctx, context, |tx| {
        Standing::read(tx, circle, caller.user).await?.require_moderator()?;
        let known = tx.query_opt(EXISTS, &[&circle, &invite]).await?;
        known.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
        let revoked = tx.query_opt(REVOKE, &[&circle, &invite]).await?;
        if revoked.is_none() {
            tx.unchanged();
        }
        let user: Option<Uuid> = revoked.and_then(|row| row.get(0));
        tx.event("invite.revoked", json!({"circle": circle, "invite": invite, "user": user}));
        Ok(())
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
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

/// An invitation's secret, derived from its id: a repeated request gets the same one, though only its hash is stored.
pub fn invite_token(ctx: &Ctx, key_id: &str, invite: Uuid) -> Result<[u8; 32]> {
    let key = ctx.config.keys(TOKEN_KEYS).get(key_id);
    let key = key
        .ok_or_else(|| Error::internal("token keys", &"a key that invitations were derived with is gone"))?;
    Ok(keyed_hash(key, &[b"invite", invite.as_bytes()]))
}

/// Refuses before the locks as [`use_invite`] does under them.
pub async fn find_invite(ctx: &Ctx, circle: Uuid, user: Uuid, invite: Option<InviteToken>) -> Result<()> {
    let InviteToken(invite) = invite.ok_or_else(no_entry)?;
    let found = ctx.db.query_opt(FIND_INVITE, &[&hash_secret(&invite), &circle, &user]).await?;
    found.map(drop).ok_or_else(no_entry)
}

/// Uses an invitation, up if this is its last use. 404 if there is none, or it is not good for this circle and person.
pub async fn use_invite(tx: &Tx, circle: Uuid, user: Uuid, invite: Option<InviteToken>) -> Result<()> {
    let InviteToken(invite) = invite.ok_or_else(no_entry)?;
    let used = tx.query_opt(USE_INVITE, &[&hash_secret(&invite), &circle, &user]).await?;
    used.map(drop).ok_or_else(no_entry)
}

/// One answer for a circle that does not exist, a private one without a good invitation, and a ban, so that a stranger
/// cannot tell them apart.
pub fn no_entry() -> Error {
    Error::new(ErrorCode::NotFound).field("invite", "must be a valid invitation, if the circle is private")
}
