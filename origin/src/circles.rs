//! Circles: creating, reading, changing, archiving, discovering; and a caller's standing in one.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use optimist_shared::envelope::{Item, LIST_LIMIT, render_list, render_object};
use optimist_shared::error::ErrorCode;
use optimist_shared::etag::entity_tag;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{Key, Parameters};
use optimist_shared::session::{Role, hex};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio_postgres::Row;

use crate::app::{Ctx, Handlers, on};
use crate::body::{Body, check_match, json_response, tagged, text, to_json};
use crate::cache::{ListItem, Loaded, Snapshot};
use crate::cursor::{At, Cursor, no_query, page};
use crate::error::{Error, Result};
use crate::idempotency::{Claim, Idempotency};
use crate::postgres::{Tx, WriteContext, transaction};
use crate::request::Caller;
use crate::session::reader_of_circle;

pub fn routes() -> Handlers {
    vec![
        on("circles.create", create),
        on("circles.discover", discover),
        on("circles.get", get),
        on("circles.update", update),
        on("circles.archive", archive),
    ]
}

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
        Ok(json_response(status, Some(tag), render_object(&to_json(self)?, &[("role", role_value(role))])))
    }
}

fn role_value(role: Role) -> serde_json::Value {
    if role.is_member() { role.as_str().into() } else { serde_json::Value::Null }
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

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Visibility {
    Public,
    Private,
}

impl Visibility {
    fn as_str(self) -> &'static str {
        match self {
            Visibility::Public => "public",
            Visibility::Private => "private",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    name: Option<String>,
    description: Option<String>,
    rules: Option<String>,
    visibility: Option<Visibility>,
}

const INSERT: &str = "-- circles::insert
insert into circles (id, name, description, rules, visibility, owner_id) values ($1, $2, $3, $4, $5, $6)";

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

const LOAD_ACCESS: &str = "-- circles::load_access
select seen, c.visibility from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (select visibility from circles where id = $1) c on true";

const DISCOVER: &str = "-- circles::discover
select seen, c.* from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select id, name, description, rules, visibility, owner_id, member_count, archived_at, created_at, updated_at, version
    from circles
    where visibility = 'public' and archived_at is null
      and (created_at, id) < (coalesce(to_timestamp($1::bigint / 1000000.0), 'infinity'), coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    order by created_at desc, id desc limit $3) c on true
order by created_at desc, id desc";

const STANDING: &str = "-- circles::standing
select c.visibility, c.archived_at is not null, m.role, c.version
from circles c left join memberships m on m.circle_id = c.id and m.user_id = $2
where c.id = $1";

const UPDATE: &str = "-- circles::update
update circles set name = coalesce($2, name), description = coalesce($3, description), rules = coalesce($4, rules),
    visibility = coalesce($5, visibility), version = version + 1, updated_at = now()
where id = $1
returning id, name, description, rules, visibility, owner_id, member_count, archived_at, created_at, updated_at, version";

const ARCHIVE: &str = "-- circles::archive
update circles set archived_at = now(), version = version + 1, updated_at = now() where id = $1";

pub const STATEMENTS: &[&str] =
    &[INSERT, INSERT_OWNER, SELECT, LOAD, LOAD_ACCESS, DISCOVER, STANDING, UPDATE, ARCHIVE];

/// What someone may do in a circle, read in a transaction that holds the circle's lock.
pub struct Standing {
    pub circle: Uuid,
    pub role: Role,
    pub is_public: bool,
    pub is_archived: bool,
    pub version: i64,
}

impl Standing {
    /// 404 if there is no such circle.
    pub async fn read(tx: &Tx, circle: Uuid, user: Uuid) -> Result<Standing> {
        let row = tx
            .query_opt(STANDING, &[&circle, &user])
            .await?
            .ok_or_else(|| Error::new(ErrorCode::NotFound))?;
        let role: Option<String> = row.get(2);
        Ok(Standing {
            circle,
            role: role.as_deref().and_then(Role::parse).unwrap_or(Role::None),
            is_public: row.get::<_, String>(0) == "public",
            is_archived: row.get(1),
            version: row.get(3),
        })
    }

    /// Refuses those who lack the role, without telling strangers that a private circle exists; and everyone once the
    /// circle is archived.
    pub fn require(&self, allowed: impl Fn(Role) -> bool) -> Result<()> {
        if !allowed(self.role) {
            let visible = self.role.is_member() || (self.is_public && self.role != Role::Banned);
            return Err(Error::new(if visible { ErrorCode::Forbidden } else { ErrorCode::NotFound }));
        }
        if self.is_archived {
            return Err(Error::new(ErrorCode::Conflict).detail("The circle is archived."));
        }
        Ok(())
    }

    pub fn require_member(&self) -> Result<()> {
        self.require(Role::is_member)
    }

    pub fn require_moderator(&self) -> Result<()> {
        self.require(|role| matches!(role, Role::Owner | Role::Moderator))
    }

    /// The circle's own keys.
    pub fn keys(&self) -> Parameters {
        Parameters { circle: Some(self.circle), ..Parameters::default() }
    }

    /// The key of someone's membership in the circle.
    pub fn membership_of(&self, user: Uuid) -> Parameters {
        Parameters { circle: Some(self.circle), user: Some(user), ..Parameters::default() }
    }
}

/// The circle of the path.
pub fn circle_of(caller: &Caller) -> Result<Uuid> {
    caller.request.path.circle.ok_or_else(|| Error::new(ErrorCode::NotFound))
}

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
    let idempotency = Idempotency::from_request(&headers, &caller, &body.bytes)?;
    let Create { name, description, rules, visibility } = body.value;
    let name = text("name", &name, 1..=80, false)?;
    let description = text("description", description.as_deref().unwrap_or_default(), 0..=2000, true)?;
    let rules = text("rules", rules.as_deref().unwrap_or_default(), 0..=8000, true)?;
    let visibility = visibility.as_str();
    let new = Uuid::now_v7();
    let order = [caller.user];
    let context = WriteContext {
        name: "circles::create",
        request: &caller.request,
        actor: caller.actor(),
        order: &order,
    };
    let circle = transaction!(&app, context, |tx| {
        let id = match idempotency.claim(tx, &caller).await? {
            Claim::Repeated(id) => {
                tx.unchanged();
                id.unwrap_or_default()
            }
            Claim::First => {
                tx.execute(INSERT, &[&new, &name, &description, &rules, &visibility, &caller.user]).await?;
                tx.execute(INSERT_OWNER, &[&new, &caller.user]).await?;
                idempotency.record(tx, &caller, 201, Some(new)).await?;
                tx.event("circle.created", serde_json::json!({"circle": new}));
                new
            }
        };
        tx.touch(
            Key::Membership,
            Parameters { user: Some(caller.user), circle: Some(id), ..Parameters::default() },
        );
        select(tx, id).await
    })?;
    let mut response = circle.respond(201, Role::Owner)?;
    if let Ok(location) = format!("/v1/circles/{}", circle.id).parse() {
        response.headers_mut().insert("location", location);
    }
    Ok(response)
}

async fn get(State(app): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let (circle, role) = reader_of_circle(&app, &caller).await?;
    let parameters = Parameters { circle: Some(circle), ..Parameters::default() };
    match &*app.cache.read(&app, Key::Circle, parameters).await? {
        Loaded::Object { version, json } => {
            let json = render_object(json, &[("role", role_value(role))]);
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
    let name = name.map(|name| text("name", &name, 1..=80, false)).transpose()?;
    let description = description.map(|text_| text("description", &text_, 0..=2000, true)).transpose()?;
    let rules = rules.map(|rules| text("rules", &rules, 0..=8000, true)).transpose()?;
    let visibility = visibility.map(Visibility::as_str);
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
        if standing.is_archived && standing.role == Role::Owner {
            tx.unchanged();
        } else {
            standing.require(|role| role == Role::Owner)?;
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
            let loaded = app.cache.read(&app, Key::Discovery, Parameters::default()).await?;
            respond_list(&loaded, &headers, page.limit)
        }
        Some(after) => {
            respond_list(&load_page(&app, Some(after), page.limit).await?.loaded, &headers, page.limit)
        }
    }
}

/// Answers with a loaded list's first items.
pub fn respond_list(loaded: &Loaded, headers: &HeaderMap, limit: usize) -> Result<Response> {
    let Loaded::List { version, items, more } = loaded else {
        return Err(Error::internal("list", &"not a list"));
    };
    let items: Vec<Item<'_>> =
        items.iter().map(|item| Item { cursor: &item.cursor, json: &item.json }).collect();
    Ok(tagged(headers, version, "", render_list(&items, *more, limit)))
}

/// A list from its items and one beyond the limit, if there is one. Its version is a digest of what it shows.
pub fn list(mut items: Vec<ListItem>, limit: usize) -> Loaded {
    let more = items.len() > limit;
    items.truncate(limit);
    let mut hash = Sha256::new();
    items.iter().for_each(|item| hash.update(&item.json));
    hash.update([u8::from(more)]);
    let version = hex(&hash.finalize()[..8]);
    Loaded::List { version, items, more }
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
    Ok(Snapshot { seen_xmin: row.get::<_, i64>("seen").cast_unsigned(), loaded })
}

pub async fn load_access(app: &Ctx, parameters: &Parameters) -> Result<Snapshot> {
    let row = app.db.query_opt(LOAD_ACCESS, &[&parameters.circle.unwrap_or_default()]).await?;
    let row = row.ok_or_else(|| Error::internal("circles", &"no row"))?;
    let loaded = row.get::<_, Option<String>>(1).map_or(Loaded::Missing, Loaded::Text);
    Ok(Snapshot { seen_xmin: row.get::<_, i64>(0).cast_unsigned(), loaded })
}

pub async fn load_discovery(app: &Ctx) -> Result<Snapshot> {
    load_page(app, None, LIST_LIMIT).await
}

async fn load_page(app: &Ctx, after: Option<At<'c'>>, limit: usize) -> Result<Snapshot> {
    let (micros, id) = (after.map(|at| at.micros), after.map(|at| at.id));
    let rows = app.db.query(DISCOVER, &[&micros, &id, &(limit as i64 + 1)]).await?;
    let seen_xmin = rows.first().map_or(0, |row| row.get::<_, i64>("seen").cast_unsigned());
    let items = rows
        .iter()
        .filter(|row| row.get::<_, Option<Uuid>>("id").is_some())
        .map(|row| {
            let circle = Circle::from_row(row);
            let at = At::<'c'> { micros: circle.created_at.timestamp_micros(), id: circle.id };
            Ok(ListItem { cursor: at.encode(), json: to_json(&circle)? })
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Snapshot { seen_xmin, loaded: list(items, limit) })
}
