//! Circles: creating, reading, changing, archiving, discovering; and a caller's standing in one.

use std::ops::RangeInclusive;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use optimist_shared::envelope::{LIST_LIMIT, render_object};
use optimist_shared::error::ErrorCode;
use optimist_shared::etag::entity_tag;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{Key, Parameters};
use optimist_shared::session::{Access, Role};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::circles::access::{circle_of, reader_of_circle};
use crate::circles::standing::Standing;
use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{ListItem, Loaded, Snapshot};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{Body, check_match, json_response, require_change, tagged, text, to_json};
use optimist_plane::http::idempotency::{Answer, Claim, Idempotency};
use optimist_plane::http::loaded::respond_list;
use optimist_plane::http::page::{At, Cursor, no_query, page};
use optimist_plane::http::sent::given;
use optimist_plane::http::served::{Served, on};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::postgres::write::WriteContext;
use optimist_plane::request::Caller;
use optimist_plane::transaction;

pub fn routes() -> Vec<Served> {
    vec![
        on("circles.create", create),
        on("circles.discover", discover),
        on("circles.get", get),
        on("circles.update", update),
        on("circles.archive", archive),
    ]
}

/// Characters of a circle's texts.
pub const NAME: RangeInclusive<usize> = 1..=80;
pub const DESCRIPTION: RangeInclusive<usize> = 0..=2000;
pub const RULES: RangeInclusive<usize> = 0..=8000;

/// A circle, the same for everyone; `role` is joined to it for the caller.
#[derive(Serialize)]
pub struct Circle {
    pub id: Uuid,
    name: String,
    description: String,
    rules: String,
    visibility: String,
    owner_id: Uuid,
    member_count: i32,
    archived_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    #[serde(skip)]
    version: i64,
}

impl Circle {
    fn from_row(row: &Row) -> Circle {
        Circle {
            id: row.get("id"),
            name: row.get("name"),
            description: row.get("description"),
            rules: row.get("rules"),
            visibility: row.get("visibility"),
            owner_id: row.get("owner_id"),
            member_count: row.get("member_count"),
            archived_at: row.get("archived_at"),
            created_at: row.get("created_at"),
            updated_at: row.get("updated_at"),
            version: row.get("version"),
        }
    }

    /// The answer to whoever has this role in it.
    pub fn respond(&self, status: u16, role: Role) -> Result<Response> {
        let tag = entity_tag(&self.version.to_string(), role_version(role));
        Ok(json_response(
            status,
            Some(tag),
            render_object(&to_json(self)?, &[("role", Role::overlay(Some(role)))]),
        ))
    }
}

fn role_version(role: Role) -> &'static str {
    if role.is_member() { role.as_str() } else { "none" }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    name: String,
    description: Option<String>,
    rules: Option<String>,
    visibility: Visibility,
}

/// Who may read a circle besides its members.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Visibility(Access);

impl TryFrom<String> for Visibility {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Visibility, &'static str> {
        Access::parse(&text).map(Visibility).ok_or("expected `public` or `private`")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    #[serde(default, deserialize_with = "given")]
    name: Option<String>,
    #[serde(default, deserialize_with = "given")]
    description: Option<String>,
    #[serde(default, deserialize_with = "given")]
    rules: Option<String>,
    #[serde(default, deserialize_with = "given")]
    visibility: Option<Visibility>,
}

const INSERT: &str = "-- circles::insert
insert into circles (id, name, description, rules, visibility, owner_id) values ($1, $2, $3, $4, $5, $6)
returning id, name, description, rules, visibility, owner_id, member_count, archived_at, created_at, updated_at, version";

const INSERT_OWNER: &str = "-- circles::insert_owner
insert into memberships (circle_id, user_id, role) values ($1, $2, 'owner')";

const SELECT: &str = "-- circles::select
select id, name, description, rules, visibility, owner_id, member_count, archived_at, created_at, updated_at, version
from circles where id = $1";

const LOAD: &str = "-- circles::load
select seen, c.* from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select id, name, description, rules, visibility, owner_id, member_count, archived_at, created_at, updated_at, version
    from circles where id = $1) c on true";

/// An archived circle is its members' alone.
const LOAD_ACCESS: &str = "-- circles::load_access
select seen, c.access from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select case when archived_at is null then visibility else 'archived' end as access
    from circles where id = $1) c on true";

const DISCOVER: &str = "-- circles::discover
select seen, c.* from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select id, name, description, rules, visibility, owner_id, member_count, archived_at, created_at, updated_at, version
    from circles
    where visibility = 'public' and archived_at is null
      and (created_at, id)
          < (coalesce($1::timestamptz, 'infinity'), coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    order by created_at desc, id desc limit $3) c on true
order by created_at desc, id desc";

const UPDATE: &str = "-- circles::update
update circles set name = coalesce($2, name), description = coalesce($3, description), rules = coalesce($4, rules),
    visibility = coalesce($5, visibility), version = version + 1, updated_at = now()
where id = $1
returning id, name, description, rules, visibility, owner_id, member_count, archived_at, created_at, updated_at, version";

const ARCHIVE: &str = "-- circles::archive
update circles set archived_at = now(), version = version + 1, updated_at = now() where id = $1";

pub const STATEMENTS: &[&str] = &[INSERT, INSERT_OWNER, SELECT, LOAD, LOAD_ACCESS, DISCOVER, UPDATE, ARCHIVE];

/// The circle as it is in this transaction.
pub async fn select(tx: &Tx, circle: Uuid) -> Result<Circle> {
    let row = tx.query_opt(SELECT, &[&circle]).await?.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    Ok(Circle::from_row(&row))
}

async fn create(
    State(app): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<Create>,
) -> Result<Response> {
    let idempotency = Idempotency::from_request(&headers, &caller.request, &body.bytes)?;
    let Create { name, description, rules, visibility } = body.value;
    let name = text("name", &name, NAME, false)?;
    let description = text("description", description.as_deref().unwrap_or_default(), DESCRIPTION, true)?;
    let rules = text("rules", rules.as_deref().unwrap_or_default(), RULES, true)?;
    let visibility = visibility.0.as_str();
    let new = Uuid::now_v7();
    let order = [caller.user];
    let context = WriteContext {
        name: "circles::create",
        request: &caller.request,
        actor: caller.actor(),
        order: &order,
    };
    let (circle, role) = transaction!(&app, context, |tx| {
        let (circle, role) =
            match idempotency.claim(tx, &caller, Answer { status: 201, resource: new }).await? {
                Claim::First => {
                    let parameters: [&(dyn ToSql + Sync); 6] =
                        [&new, &name, &description, &rules, &visibility, &caller.user];
                    let row = tx.query_one(INSERT, &parameters).await?;
                    tx.execute(INSERT_OWNER, &[&new, &caller.user]).await?;
                    tx.event("circle.created", serde_json::json!({"circle": new}));
                    (Circle::from_row(&row), Role::Owner)
                }
                Claim::Repeated(before) => {
                    let standing = Standing::read(tx, before.resource, caller.user).await?;
                    standing.require_reader()?;
                    (select(tx, before.resource).await?, standing.role)
                }
            };
        let parameters =
            Parameters { user: Some(caller.user), circle: Some(circle.id), ..Parameters::default() };
        tx.touch(Key::Membership, parameters);
        Ok((circle, role))
    })?;
    let mut response = circle.respond(201, role)?;
    if let Ok(location) = format!("/v1/circles/{}", circle.id).parse() {
        response.headers_mut().insert("location", location);
    }
    Ok(response)
}

async fn get(State(app): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let (circle, role) = reader_of_circle(&app, &caller).await?;
    let parameters = Parameters { circle: Some(circle), ..Parameters::default() };
    match &*read_through(&app, Key::Circle, parameters).await? {
        Loaded::Object { version, json } => {
            let json = render_object(json, &[("role", Role::overlay(Some(role)))]);
            Ok(tagged(&headers, version, role_version(role), json))
        }
        _ => Err(Error::new(ErrorCode::NotFound)),
    }
}

async fn update(
    State(app): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<Update>,
) -> Result<Response> {
    let circle = circle_of(&caller)?;
    let Update { name, description, rules, visibility } = body.value;
    let name = name.map(|name| text("name", &name, NAME, false)).transpose()?;
    let description = description.map(|text_| text("description", &text_, DESCRIPTION, true)).transpose()?;
    let rules = rules.map(|rules| text("rules", &rules, RULES, true)).transpose()?;
    let visibility = visibility.map(|visibility| visibility.0.as_str());
    require_change(&[name.is_some(), description.is_some(), rules.is_some(), visibility.is_some()])?;
    let order = [circle];
    let context = WriteContext {
        name: "circles::update",
        request: &caller.request,
        actor: caller.actor(),
        order: &order,
    };
    let (circle, role) = transaction!(&app, context, |tx| {
        let standing = Standing::read(tx, circle, caller.user).await?;
        standing.require_moderator()?;
        check_match(&headers, standing.version)?;
        let row = tx.query_one(UPDATE, &[&circle, &name, &description, &rules, &visibility]).await?;
        tx.touch(Key::Circle, standing.keys());
        tx.touch(Key::CircleAccess, standing.keys());
        tx.event("circle.updated", serde_json::json!({"circle": circle}));
        Ok((Circle::from_row(&row), standing.role))
    })?;
    circle.respond(200, role)
}

async fn archive(State(app): State<Ctx>, caller: Caller) -> Result<Response> {
    let circle = circle_of(&caller)?;
    let order = [circle];
    let context = WriteContext {
        name: "circles::archive",
        request: &caller.request,
        actor: caller.actor(),
        order: &order,
    };
    transaction!(&app, context, |tx| {
        let standing = Standing::read(tx, circle, caller.user).await?;
        standing.require_role(|role| role == Role::Owner)?;
        if standing.is_archived {
            tx.unchanged();
        } else {
            tx.execute(ARCHIVE, &[&circle]).await?;
        }
        tx.touch(Key::Circle, standing.keys());
        tx.touch(Key::CircleAccess, standing.keys());
        tx.event("circle.archived", serde_json::json!({"circle": circle}));
        Ok(())
    })?;
    Ok(axum::http::StatusCode::NO_CONTENT.into_response())
}

async fn discover(State(app): State<Ctx>, _: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let page = page::<At<'c'>>(uri.query(), "cursor")?;
    match page.after {
        None => {
            let loaded = read_through(&app, Key::Discovery, Parameters::default()).await?;
            respond_list(&loaded, &headers, page.limit)
        }
        Some(after) => {
            respond_list(&load_page(&app, Some(after), page.limit).await?.loaded, &headers, page.limit)
        }
    }
}

pub async fn load_circle(app: &Ctx, parameters: &Parameters) -> Result<Snapshot> {
    let row = app.db.query_opt(LOAD, &[&parameters.circle.unwrap_or_default()]).await?;
    let row = row.ok_or_else(|| Error::internal("circles", &"no row"))?;
    let loaded = match row.get::<_, Option<i64>>("version") {
        Some(version) => {
            Loaded::Object { version: version.to_string(), json: to_json(&Circle::from_row(&row))? }
        }
        None => Loaded::Missing,
    };
    Ok(Snapshot::new(row.get("seen"), loaded))
}

pub async fn load_access(app: &Ctx, parameters: &Parameters) -> Result<Snapshot> {
    let row = app.db.query_opt(LOAD_ACCESS, &[&parameters.circle.unwrap_or_default()]).await?;
    let row = row.ok_or_else(|| Error::internal("circles", &"no row"))?;
    let loaded = row.get::<_, Option<String>>(1).map_or(Loaded::Missing, Loaded::Text);
    Ok(Snapshot::new(row.get(0), loaded))
}

pub async fn load_discovery(app: &Ctx) -> Result<Snapshot> {
    load_page(app, None, LIST_LIMIT).await
}

async fn load_page(app: &Ctx, after: Option<At<'c'>>, limit: usize) -> Result<Snapshot> {
    let (time, id) = (after.map(|at| at.time), after.map(|at| at.id));
    let rows = app.db.query(DISCOVER, &[&time, &id, &(limit as i64 + 1)]).await?;
    Snapshot::page(&rows, limit, |row| {
        let circle = Circle::from_row(row);
        let at = At::<'c'> { time: circle.created_at, id: circle.id };
        Ok(ListItem { id: None, cursor: at.encode(), json: to_json(&circle)? })
    })
}
