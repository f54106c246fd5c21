//! Circles created, changed, archived and restored.
//!
//! Nothing deletes a circle. Changes of its members are [`super::members`]' and [`super::roles`]'.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::Key;
use optimist_shared::session::{Access, Role};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio_postgres::types::ToSql;

use crate::circles::access::require_role;
use crate::circles::categories::{CategoryId, check_category};
use crate::circles::definition::{
    Circle, CircleWithRole, Description, JoinPolicy, Name, Rules, Visibility, select, tag,
};
use crate::circles::quotas::check_circles;
use crate::circles::standing::{Standing, is_moderator};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{Body, check_match};
use optimist_plane::http::idempotency::{Answer, Claim, Idempotency};
use optimist_plane::http::sent::{Changes, Given};
use optimist_plane::http::served::{Served, on};
use optimist_plane::operation::links::{ID, link};
use optimist_plane::request::Caller;
use optimist_plane::{statements, transaction};

const NEW_CIRCLE: &[(&str, &str)] = &[("circle", ID)];

pub fn routes() -> Vec<Served> {
    vec![
        on("circles.create", create)
            .says("Create a circle and own it.")
            .takes::<Create>(json!({"name": "Morning pages", "visibility": "private"}))
            .answers::<CircleWithRole>(201)
            .tagged()
            .location()
            .idempotent()
            .refuses(&[ErrorCode::QuotaExceeded])
            .links([
                link("circles.get", NEW_CIRCLE),
                link("circles.update", NEW_CIRCLE),
                link("circles.archive", NEW_CIRCLE),
                link("circles.restore", NEW_CIRCLE),
                link("invites.create", NEW_CIRCLE),
                link("members.list", NEW_CIRCLE),
                link("messages.post", NEW_CIRCLE),
                link("messages.list", NEW_CIRCLE),
                link("visits.record", NEW_CIRCLE),
                link("activity.live", NEW_CIRCLE),
            ]),
        on("circles.update", update)
            .says("Change a circle.")
            .notes("Moderators change its texts and its category, the owner its visibility and how people join, too.")
            .takes::<Changes<Update>>(json!({"description": "Three pages each morning."}))
            .answers::<CircleWithRole>(200)
            .tagged(),
        on("circles.archive", archive)
            .says("Archive a circle.")
            .conditional()
            .notes(
                "Members may still read it, and leave; for others it does not exist any more, and nothing in it \
                 changes.",
            )
            // An archived circle is archived again without a conflict.
            .never(ErrorCode::Conflict),
        on("circles.restore", restore)
            .says("Restore an archived circle.")
            .notes("It is as it was before: nothing is deleted while it is archived, however long.")
            .answers::<CircleWithRole>(200)
            .tagged()
            // One that is not archived is restored without a conflict.
            .never(ErrorCode::Conflict),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CreateCircle")]
struct Create {
    name: Name,
    description: Option<Description>,
    rules: Option<Rules>,
    visibility: Visibility,
    category: Option<CategoryId>,
    /// `open` if it is not given. A private circle is by invitation in any case.
    join_policy: Option<JoinPolicy>,
}

#[derive(Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "UpdateCircle")]
struct Update {
    name: Given<Name>,
    description: Given<Description>,
    rules: Given<Rules>,
    visibility: Given<Visibility>,
    /// Null takes it away.
    category: Given<Option<CategoryId>>,
    join_policy: Given<JoinPolicy>,
}

statements! {
    const INSERT: &str = "-- circles::insert
insert into circles (id, name, description, rules, visibility, join_policy, category, owner_id) values ($1, $2, $3, $4, $5, $8, $6, $7)
returning id, name, description, rules, visibility, join_policy, category, owner_id, member_count, archived_at, created_at, updated_at, version";

    const INSERT_OWNER: &str = "-- circles::insert_owner
with owned as (
    insert into memberships (circle_id, user_id, role) values ($1, $2, 'owner')),
day as (
    insert into member_days (circle_id, day, joined, departed, members) select id, counted_from, 1, 0, 1 from circles where id = $1)
insert into read_markers (circle_id, user_id, number) values ($1, $2, 0)";

    const UPDATE: &str = "-- circles::update
update circles set name = coalesce($2, name), description = coalesce($3, description), rules = coalesce($4, rules),
    visibility = coalesce($5, visibility), category = case when $6 then $7 else category end,
    join_policy = coalesce($8, join_policy), version = version + 1, updated_at = now()
where id = $1
returning id, name, description, rules, visibility, join_policy, category, owner_id, member_count, archived_at, created_at, updated_at, version";

    const ARCHIVE: &str = "-- circles::archive
update circles set archived_at = now(), version = version + 1, updated_at = now() where id = $1";

    const RESTORE: &str = "-- circles::restore
update circles set archived_at = null, version = version + 1, updated_at = now() where id = $1";
}

async fn create(
    State(ctx): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<Create>,
) -> Result<Response> {
    let idempotency = Idempotency::from_request(&headers, &caller.request, &body.bytes)?;
    let Create { name, description, rules, visibility: Visibility(visibility), category, join_policy } =
        body.value;
    let join_policy = join_policy.unwrap_or_default().as_str();
    let (description, rules) = (description.unwrap_or_default(), rules.unwrap_or_default());
    let new = Uuid::now_v7();
    let context = caller.writes("circles::create", [caller.user]);
    let (circle, role) = transaction!(&ctx, context, |tx| {
        let (circle, role) = match idempotency
            .claim(tx, &caller, Answer { status: 201, resource: new })
            .await?
        {
            Claim::First => {
                check_circles(tx, caller.user).await?;
                check_category(tx, category.as_ref()).await?;
                let (visibility, category) = (visibility.as_str(), category.as_ref().map(|id| &id.0));
                let parameters: [&(dyn ToSql + Sync); 8] =
                    [&new, &name, &description, &rules, &visibility, &category, &caller.user, &join_policy];
                let row = tx.query_one(INSERT, &parameters).await?;
                tx.execute(INSERT_OWNER, &[&new, &caller.user]).await?;
                tx.event("circle.created", json!({"circle": new}));
                (Circle::from_row(&row), Role::Owner)
            }
            Claim::Repeated(before) => {
                let standing = Standing::read(tx, before.resource, caller.user).await?;
                standing.require_reader()?;
                (select(tx, before.resource).await?, standing.role)
            }
        };
        tx.touch(Key::membership(caller.user, circle.id));
        tx.touch(Key::my_circles(caller.user));
        Ok((circle, role))
    })?;
    let mut response = circle.respond(201, role)?;
    if let Ok(location) = format!("/v1/circles/{}", circle.id).parse() {
        response.headers_mut().insert("location", location);
    }
    Ok(response)
}

async fn update(
    State(ctx): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<Changes<Update>>,
) -> Result<Response> {
    let (circle, _) = require_role(&ctx, &caller, is_moderator).await?;
    let Changes(Update { name, description, rules, visibility, category: Given(category), join_policy }) =
        body.value;
    let join_policy = join_policy.0;
    let visibility = visibility.0.map(|Visibility(new)| new);
    let context = caller.writes("circles::update", [circle]);
    let (circle, role) = transaction!(&ctx, context, |tx| {
        let standing = Standing::read(tx, circle, caller.user).await?;
        standing.require_moderator()?;
        let is_public = visibility.map(|new| new == Access::Public);
        if standing.role != Role::Owner && is_public.is_some_and(|new| new != standing.is_public) {
            let detail = "Only the owner changes who may read a circle.";
            return Err(Error::new(ErrorCode::Forbidden)
                .detail(detail)
                .field("visibility", "is the owner's"));
        }
        if standing.role != Role::Owner && join_policy.is_some_and(|new| new != standing.join_policy) {
            let error = Error::new(ErrorCode::Forbidden).detail("Only the owner changes how people join.");
            return Err(error.field("join_policy", "is the owner's"));
        }
        check_match(&headers, &tag(standing.version, standing.role))?;
        let to = category.as_ref().and_then(Option::as_ref);
        check_category(tx, to).await?;
        let (visibility, is_given, to) =
            (visibility.map(Access::as_str), category.is_some(), to.map(|id| &id.0));
        let parameters: [&(dyn ToSql + Sync); 8] = [
            &circle,
            &name.0,
            &description.0,
            &rules.0,
            &visibility,
            &is_given,
            &to,
            &join_policy.map(JoinPolicy::as_str),
        ];
        let row = tx.query_one(UPDATE, &parameters).await?;
        tx.touch(Key::circle(circle));
        tx.touch(Key::circle_access(circle));
        tx.touch(Key::circle_head(circle));
        tx.event("circle.updated", json!({"circle": circle}));
        Ok((Circle::from_row(&row), standing.role))
    })?;
    circle.respond(200, role)
}

async fn archive(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap) -> Result<Response> {
    let (circle, _) = require_role(&ctx, &caller, |role| role == Role::Owner).await?;
    let context = caller.writes("circles::archive", [circle]);
    transaction!(&ctx, context, |tx| {
        let standing = Standing::read(tx, circle, caller.user).await?;
        standing.require_role(|role| role == Role::Owner)?;
        check_match(&headers, &tag(standing.version, standing.role))?;
        if standing.is_archived {
            tx.unchanged();
        } else {
            tx.execute(ARCHIVE, &[&circle]).await?;
        }
        tx.touch(Key::circle(circle));
        tx.touch(Key::circle_access(circle));
        tx.touch(Key::circle_head(circle));
        tx.event("circle.archived", json!({"circle": circle}));
        Ok(())
    })?;
    Ok(axum::http::StatusCode::NO_CONTENT.into_response())
}

async fn restore(State(ctx): State<Ctx>, caller: Caller) -> Result<Response> {
    let (circle, _) = require_role(&ctx, &caller, |role| role == Role::Owner).await?;
    let context = caller.writes("circles::restore", [circle]);
    let (circle, role) = transaction!(&ctx, context, |tx| {
        let standing = Standing::read(tx, circle, caller.user).await?;
        standing.require_role(|role| role == Role::Owner)?;
        if standing.is_archived {
            tx.execute(RESTORE, &[&circle]).await?;
        } else {
            tx.unchanged();
        }
        tx.touch(Key::circle(circle));
        tx.touch(Key::circle_access(circle));
        tx.touch(Key::circle_head(circle));
        tx.event("circle.restored", json!({"circle": circle}));
        Ok((select(tx, circle).await?, standing.role))
    })?;
    circle.respond(200, role)
}
