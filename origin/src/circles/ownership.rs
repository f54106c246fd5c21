//! Handing a circle over: its owner offers it to a member, who accepts.
//!
//! Other roles are given without asking, see [`super::roles`].

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Days, Utc};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{Body, json_response, to_json};
use optimist_plane::http::page::no_query;
use optimist_plane::http::sent::Id;
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::operation::links::link;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::Caller;
use optimist_plane::{statements, transaction};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::session::Role;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_postgres::Row;

use crate::circles::access::{require_role, role_of};
use crate::circles::definition::SAME_CIRCLE;
use crate::circles::members::{Member, touch};
use crate::circles::roles::{hand_over, not_a_member, select};
use crate::circles::standing::Standing;
use crate::people::person::Person;

/// Days that an offer stands.
const DAYS: u64 = 7;

pub fn routes() -> Vec<Served> {
    vec![
        on("ownership.offer", offer)
            .says("Offer the circle to a member.")
            .notes("They are told. The offer stands for seven days. Another takes its place; it ends when either of the two leaves.")
            .takes::<ToWhom>(json!({"user": "0190a0a0-0000-7000-8000-000000000001"}))
            .answers::<Offer>(200)
            .refuses(&[ErrorCode::Conflict])
            .links([link("ownership.withdraw", &[SAME_CIRCLE])]),
        on("ownership.get", get)
            .says("To whom the circle is offered.")
            .notes("For the owner, and for whom it is offered to: for others there is none.")
            .answers::<Offer>(200),
        on("ownership.withdraw", withdraw)
            .says("Take the offer back, or decline it.")
            .notes("For the two whom it is about."),
        on("ownership.accept", accept)
            .says("Become the owner of a circle that is offered to one.")
            .notes("The former owner becomes a moderator.")
            .answers::<Member>(200)
            .refuses(&[ErrorCode::Conflict]),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "OfferOwnership")]
struct ToWhom {
    user: Id,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "OwnershipOffer")]
struct Offer {
    user: Person,
    offered_at: Time,
    expires_at: Time,
    #[serde(skip)]
    offered_by: Uuid,
}

impl Offer {
    /// From: id, name, offered_by, offered_at.
    fn from_row(row: &Row) -> Offer {
        let offered_at: DateTime<Utc> = row.get("offered_at");
        Offer {
            user: Person { id: row.get("id"), name: row.get("name") },
            offered_at: Time(offered_at),
            expires_at: Time(offered_at + Days::new(DAYS)),
            offered_by: row.get("offered_by"),
        }
    }

    /// 404 for everyone but the two whom it is about.
    fn require_party(&self, user: Uuid) -> Result<()> {
        let is_party = self.user.id == user || self.offered_by == user;
        if is_party { Ok(()) } else { Err(Error::new(ErrorCode::NotFound)) }
    }
}

statements! {
    const OFFER: &str = "-- ownership::offer
insert into ownership_offers (circle_id, user_id, offered_by) values ($1, $2, $3)
on conflict (circle_id) do update set user_id = excluded.user_id, offered_by = excluded.offered_by, offered_at = now()";

    /// Only the owner's own offer counts, and only for seven days.
    const FIND: &str = "-- ownership::find
select users.id, users.name, o.offered_by, o.offered_at
from ownership_offers o join circles c on c.id = o.circle_id and c.owner_id = o.offered_by join users on users.id = o.user_id
where o.circle_id = $1 and o.offered_at > now() - interval '7 days'";

    const END: &str = "-- ownership::end
delete from ownership_offers where circle_id = $1";
}

fn no_offer() -> Error {
    Error::new(ErrorCode::NotFound).detail("The circle is not offered to anyone.")
}

async fn find(tx: &Tx, circle: Uuid) -> Result<Offer> {
    tx.query_opt(FIND, &[&circle]).await?.map(|row| Offer::from_row(&row)).ok_or_else(no_offer)
}

/// The same before a transaction.
async fn find_before_locks(ctx: &Ctx, circle: Uuid) -> Result<Offer> {
    ctx.db.query_opt(FIND, &[&circle]).await?.map(|row| Offer::from_row(&row)).ok_or_else(no_offer)
}

async fn offer(State(ctx): State<Ctx>, caller: Caller, body: Body<ToWhom>) -> Result<Response> {
    let (circle, _) = require_role(&ctx, &caller, |role| role == Role::Owner).await?;
    let ToWhom { user: Id(user) } = body.value;
    if user == caller.user {
        return Err(Error::new(ErrorCode::Conflict).field("user", "owns the circle already"));
    }
    if !role_of(&ctx, circle, user).await?.is_member() {
        return Err(not_a_member());
    }
    let context = caller.writes("ownership::offer", [circle, caller.user, user]);
    let offer = transaction!(&ctx, context, |tx| {
        let standing = Standing::read(tx, circle, caller.user).await?;
        standing.require_role(|role| role == Role::Owner)?;
        standing.require_active()?;
        if !Standing::read(tx, circle, user).await?.role.is_member() {
            return Err(not_a_member());
        }
        tx.execute(OFFER, &[&circle, &user, &caller.user]).await?;
        tx.event("ownership.offered", json!({"circle": circle, "user": user}));
        find(tx, circle).await
    })?;
    Ok(json_response(200, None, to_json(&offer)?))
}

async fn get(State(ctx): State<Ctx>, caller: Caller, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let (circle, _) = require_role(&ctx, &caller, Role::is_member).await?;
    let offer = find_before_locks(&ctx, circle).await?;
    offer.require_party(caller.user)?;
    Ok(json_response(200, None, to_json(&offer)?))
}

async fn withdraw(State(ctx): State<Ctx>, caller: Caller) -> Result<Response> {
    let (circle, _) = require_role(&ctx, &caller, Role::is_member).await?;
    let before = find_before_locks(&ctx, circle).await?;
    before.require_party(caller.user)?;
    let context = caller.writes("ownership::withdraw", [circle, before.offered_by, before.user.id]);
    transaction!(&ctx, context, |tx| {
        Standing::read(tx, circle, caller.user).await?.require_role(Role::is_member)?;
        let offer = find(tx, circle).await?;
        offer.require_party(caller.user)?;
        tx.execute(END, &[&circle]).await?;
        tx.event("ownership.withdrawn", json!({"circle": circle, "user": offer.user.id}));
        Ok(())
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn accept(State(ctx): State<Ctx>, caller: Caller) -> Result<Response> {
    let (circle, _) = require_role(&ctx, &caller, Role::is_member).await?;
    let before = find_before_locks(&ctx, circle).await?;
    if before.user.id != caller.user {
        return Err(no_offer());
    }
    let context = caller.writes("ownership::accept", [circle, caller.user, before.offered_by]);
    let member = transaction!(&ctx, context, |tx| {
        let standing = Standing::read(tx, circle, caller.user).await?;
        standing.require_member()?;
        let offer = find(tx, circle).await?;
        if offer.user.id != caller.user || offer.offered_by != before.offered_by {
            return Err(no_offer());
        }
        hand_over(tx, circle, offer.offered_by, caller.user).await?;
        tx.execute(END, &[&circle]).await?;
        touch(tx, circle, offer.offered_by);
        touch(tx, circle, caller.user);
        tx.event("member.role", json!({"circle": circle, "user": caller.user, "role": Role::Owner.as_str()}));
        select(tx, circle, caller.user).await
    })?;
    Ok(json_response(200, None, to_json(&member)?))
}
