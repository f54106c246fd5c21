//! One's own account, and what others see of it; one's sessions and limits.

use std::ops::RangeInclusive;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{Key, Parameters};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use crate::people::auth::{end_session, valid_time_zone};
use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{Loaded, Snapshot};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::digest;
use optimist_plane::http::body::{Body, check_match, json_response, require_change, tagged, text, to_json};
use optimist_plane::http::loaded::respond_object;
use optimist_plane::http::page::no_query;
use optimist_plane::http::sent::given;
use optimist_plane::http::served::{Served, on};
use optimist_plane::limits::charge::peek;
use optimist_plane::postgres::write::WriteContext;
use optimist_plane::request::Caller;
use optimist_plane::transaction;

pub fn routes() -> Vec<Served> {
    vec![
        on("me.get", me),
        on("me.update", update),
        on("me.limits", limits),
        on("sessions.list", sessions),
        on("sessions.revoke", revoke),
        on("users.get", profile),
    ]
}

/// Characters of an account's texts.
pub const NAME: RangeInclusive<usize> = 1..=80;
pub const BIO: RangeInclusive<usize> = 0..=1000;

/// An account, as its owner sees it.
#[derive(Serialize)]
pub struct Me {
    id: Uuid,
    email: String,
    name: String,
    bio: String,
    time_zone: String,
    email_verified: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    #[serde(skip)]
    version: i64,
}

impl Me {
    /// From: id, email, name, bio, time_zone, email_verified_at, version, created_at, updated_at.
    pub fn from_row(row: &Row) -> Me {
        Me {
            id: row.get("id"),
            email: row.get("email"),
            name: row.get("name"),
            bio: row.get("bio"),
            time_zone: row.get("time_zone"),
            email_verified: row.get::<_, Option<DateTime<Utc>>>("email_verified_at").is_some(),
            created_at: row.get("created_at"),
            updated_at: row.get("updated_at"),
            version: row.get("version"),
        }
    }
}

/// An account, as everyone signed in sees it.
#[derive(Serialize)]
struct Profile {
    id: Uuid,
    name: String,
    bio: String,
    created_at: DateTime<Utc>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    #[serde(default, deserialize_with = "given")]
    name: Option<String>,
    #[serde(default, deserialize_with = "given")]
    bio: Option<String>,
    #[serde(default, deserialize_with = "given")]
    time_zone: Option<String>,
}

#[derive(Serialize)]
struct SessionItem {
    id: Uuid,
    created_at: DateTime<Utc>,
    /// When it is over if it stays idle.
    expires_at: DateTime<Utc>,
    user_agent: Option<String>,
    current: bool,
}

const LOAD_ME: &str = "-- me::load
select seen, u.* from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select id, email, name, bio, time_zone, email_verified_at, version, created_at, updated_at
    from users where id = $1) u on true";

const LOAD_PROFILE: &str = "-- me::load_profile
select seen, u.* from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select id, name, bio, version, created_at from users where id = $1 and status = 'active') u on true";

const LOCK: &str = "-- me::lock
select version from users where id = $1 for no key update";

const UPDATE: &str = "-- me::update
update users set name = coalesce($2, name), bio = coalesce($3, bio), time_zone = coalesce($4, time_zone),
    version = version + 1, updated_at = now()
where id = $1
returning id, email, name, bio, time_zone, email_verified_at, version, created_at, updated_at";

/// One of each family: not those whose successor is in use, unless it is the caller's.
const SESSIONS: &str = "-- me::sessions
select id, created_at, idle_until, user_agent from sessions
where user_id = $1 and revoked_at is null and idle_until > now() and absolute_until > now()
  and (id = $2 or not exists (
      select from sessions successor where successor.parent = sessions.id and successor.first_used_at is not null))
order by created_at desc limit 100";

pub const STATEMENTS: &[&str] = &[LOAD_ME, LOAD_PROFILE, LOCK, UPDATE, SESSIONS];

async fn me(State(app): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let parameters = Parameters { user: Some(caller.user), ..Parameters::default() };
    respond_object(&*read_through(&app, Key::Me, parameters).await?, &headers)
}

async fn profile(State(app): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let parameters = caller.request.path.with_session(None, None);
    respond_object(&*read_through(&app, Key::Profile, parameters).await?, &headers)
}

async fn update(
    State(app): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<Update>,
) -> Result<Response> {
    let Update { name, bio, time_zone } = body.value;
    let name = name.map(|name| text("name", &name, NAME, false)).transpose()?;
    let bio = bio.map(|bio| text("bio", &bio, BIO, true)).transpose()?;
    let time_zone = time_zone.map(|zone| valid_time_zone(&zone)).transpose()?;
    require_change(&[name.is_some(), bio.is_some(), time_zone.is_some()])?;
    let order = [caller.user];
    let context =
        WriteContext { name: "me::update", request: &caller.request, actor: caller.actor(), order: &order };
    let me = transaction!(&app, context, |tx| {
        let version: i64 = tx.query_one(LOCK, &[&caller.user]).await?.get(0);
        check_match(&headers, version)?;
        let me = Me::from_row(&tx.query_one(UPDATE, &[&caller.user, &name, &bio, &time_zone]).await?);
        let parameters = Parameters { user: Some(caller.user), ..Parameters::default() };
        tx.touch(Key::Me, parameters);
        tx.touch(Key::Profile, parameters);
        tx.event("user.updated", serde_json::json!({"user": caller.user}));
        Ok(me)
    })?;
    let tag = optimist_shared::etag::entity_tag(&tagged_version(me.version, caller.user), "");
    Ok(json_response(200, Some(tag), to_json(&me)?))
}

/// The edge answers this from Redis; here it is answered when the edge could not ask.
async fn limits(State(app): State<Ctx>, caller: Caller) -> Result<Response> {
    let items = peek(&app, caller.user).await;
    Ok(json_response(200, None, to_json(&serde_json::json!({"items": items, "next": null}))?))
}

async fn sessions(State(app): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let rows = app.db.query(SESSIONS, &[&caller.user, &caller.session]).await?;
    let items: Vec<SessionItem> = rows
        .iter()
        .map(|row| SessionItem {
            id: row.get(0),
            created_at: row.get(1),
            expires_at: row.get(2),
            user_agent: row.get(3),
            current: row.get::<_, Uuid>(0) == caller.session,
        })
        .collect();
    let json = to_json(&serde_json::json!({"items": items, "next": null}))?;
    Ok(tagged(&headers, &digest(&[&json]), "", json))
}

async fn revoke(State(app): State<Ctx>, caller: Caller) -> Result<Response> {
    let session = caller.request.path.session.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    match end_session(&app, &caller, session, "me::revoke_session").await? {
        true => Ok(axum::http::StatusCode::NO_CONTENT.into_response()),
        false => Err(Error::new(ErrorCode::NotFound)),
    }
}

pub async fn load_me(app: &Ctx, parameters: &Parameters) -> Result<Snapshot> {
    load(app, LOAD_ME, parameters, |row| to_json(&Me::from_row(row))).await
}

pub async fn load_profile(app: &Ctx, parameters: &Parameters) -> Result<Snapshot> {
    load(app, LOAD_PROFILE, parameters, |row| {
        to_json(&Profile {
            id: row.get("id"),
            name: row.get("name"),
            bio: row.get("bio"),
            created_at: row.get("created_at"),
        })
    })
    .await
}

/// A version that says whose it is: `/v1/me` is everyone's address, and a browser that two people use one after the other
/// would be told that what it keeps of the first is still good.
fn tagged_version(version: i64, user: Uuid) -> String {
    format!("{version}.({user})")
}

async fn load(
    app: &Ctx,
    sql: &'static str,
    parameters: &Parameters,
    render: impl Fn(&Row) -> Result<Vec<u8>>,
) -> Result<Snapshot> {
    let user = parameters.user.unwrap_or_default();
    let row = app.db.query_opt(sql, &[&user]).await?;
    let row = row.ok_or_else(|| Error::internal("me", &"no row"))?;
    let loaded = match row.get::<_, Option<i64>>("version") {
        Some(version) => Loaded::Object { version: tagged_version(version, user), json: render(&row)? },
        None => Loaded::Missing,
    };
    Ok(Snapshot::new(row.get("seen"), loaded))
}
