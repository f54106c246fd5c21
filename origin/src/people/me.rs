//! One's own account and limits, and what others see of an account.
//!
//! The caller's sessions are [`super::ending`]'s.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use chrono::{DateTime, Utc};
use optimist_shared::error::ErrorCode;
use optimist_shared::etag::entity_tag;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::keys::{BoundKey, Key};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_postgres::Row;

use crate::people::blocking::require_known_to;
use crate::people::letters::locale::Locale;
use crate::people::person::Name;
use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{Loaded, Snapshot, id_of};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{Body, check_match, json_response, to_json};
use optimist_plane::http::loaded::respond_object;
use optimist_plane::http::page::{List, no_query};
use optimist_plane::http::sent::{Changes, Given, Shown, Text, TimeZone};
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::limits::charge::peek;
use optimist_plane::request::Caller;
use optimist_plane::{statements, transaction};

pub fn routes() -> Vec<Served> {
    vec![
        on("me.get", me).says("The caller's account.").answers::<Me>(200).tagged(),
        on("me.update", update)
            .says("Change the caller's account.")
            .takes::<Changes<Update>>(json!({"bio": "Early riser."}))
            .answers::<Me>(200)
            .tagged(),
        on("me.limits", limits)
            .says("Each limit of the caller, what is left and when it resets.")
            .answers::<List<LimitShape>>(200),
        on("users.get", profile)
            .says("What everyone may see of an account.")
            .notes("404 for those whom the person has blocked, or who have blocked the person.")
            .answers::<Profile>(200)
            .tagged(),
    ]
}

type Bio = Text<0, 1000>;

/// An account, as its owner sees it.
#[derive(Serialize, JsonSchema)]
pub struct Me {
    id: Uuid,
    email: String,
    #[schemars(with = "Shown<Name>")]
    name: String,
    #[schemars(with = "Shown<Bio>")]
    bio: String,
    #[schemars(with = "TimeZone")]
    time_zone: String,
    #[schemars(with = "Locale")]
    locale: String,
    email_verified: bool,
    created_at: Time,
    updated_at: Time,
    #[serde(skip)]
    version: i64,
}

impl Me {
    /// From: id, email, name, bio, time_zone, locale, email_verified_at, version, created_at, updated_at.
    pub fn from_row(row: &Row) -> Me {
        Me {
            id: row.get("id"),
            email: row.get("email"),
            name: row.get("name"),
            bio: row.get("bio"),
            time_zone: row.get("time_zone"),
            locale: row.get("locale"),
            email_verified: row.get::<_, Option<DateTime<Utc>>>("email_verified_at").is_some(),
            created_at: row.get("created_at"),
            updated_at: row.get("updated_at"),
            version: row.get("version"),
        }
    }
}

/// An account, as everyone signed in sees it.
#[derive(Serialize, JsonSchema)]
pub struct Profile {
    id: Uuid,
    #[schemars(with = "Shown<Name>")]
    name: String,
    #[schemars(with = "Shown<Bio>")]
    bio: String,
    created_at: Time,
}

#[derive(Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "UpdateMe")]
struct Update {
    name: Given<Name>,
    bio: Given<Bio>,
    time_zone: Given<TimeZone>,
    locale: Given<Locale>,
}

/// A limit's state, which the edge lists as well, and whose type describes nothing.
#[derive(JsonSchema)]
#[schemars(rename = "LimitState")]
#[expect(dead_code, reason = "it is a description alone")]
struct LimitShape {
    name: String,
    /// As `RateLimit` and `RateLimit-Policy` name it.
    policy: String,
    /// Admitted in any window.
    limit: u32,
    /// The window's length.
    window_seconds: u32,
    /// Admitted at once.
    remaining: u32,
    /// Seconds until at least one more is.
    resets_in: u64,
}

statements! {
    const LOAD_ME: &str = "-- me::load
select seen, u.* from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select id, email, name, bio, time_zone, locale, email_verified_at, version, created_at, updated_at
    from users where id = $1) u on true";

    const LOAD_PROFILE: &str = "-- me::load_profile
select seen, u.* from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select id, name, bio, version, created_at from users where id = $1 and status = 'active') u on true";

    const LOCK: &str = "-- me::lock
select version from users where id = $1 and status <> 'erased' for no key update";

    /// The language is one of the preferences too.
    const UPDATE: &str = "-- me::update
update users set name = coalesce($2, name), bio = coalesce($3, bio), time_zone = coalesce($4, time_zone),
    locale = coalesce($5, locale), preferences_version = preferences_version + ($5 is not null)::integer,
    version = version + 1, updated_at = now()
where id = $1
returning id, email, name, bio, time_zone, locale, email_verified_at, version, created_at, updated_at";
}

async fn me(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    respond_object(&*read_through(&ctx, Key::me(caller.user)).await?, &headers)
}

async fn profile(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let user = caller.request.id(Id::User)?;
    require_known_to(&ctx, caller.user, user).await?;
    respond_object(&*read_through(&ctx, Key::profile(user)).await?, &headers)
}

async fn update(
    State(ctx): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<Changes<Update>>,
) -> Result<Response> {
    let Changes(Update { name, bio, time_zone, locale }) = body.value;
    let locale = locale.0.map(Locale::as_str);
    let time_zone = time_zone.0.map(|TimeZone(zone)| zone);
    let context = caller.writes("me::update", [caller.user]);
    let me = transaction!(&ctx, context, |tx| {
        let row = tx.query_opt(LOCK, &[&caller.user]).await?;
        let version: i64 = row.ok_or_else(|| Error::new(ErrorCode::Unauthenticated))?.get(0);
        check_match(&headers, &entity_tag(&tagged_version(version, caller.user), ""))?;
        let me =
            Me::from_row(&tx.query_one(UPDATE, &[&caller.user, &name.0, &bio.0, &time_zone, &locale]).await?);
        tx.touch(Key::me(caller.user));
        tx.touch(Key::profile(caller.user));
        if locale.is_some() {
            tx.touch(Key::personal_preferences(caller.user));
        }
        tx.event("user.updated", json!({"user": caller.user, "renamed": name.0.is_some()}));
        Ok(me)
    })?;
    let tag = entity_tag(&tagged_version(me.version, caller.user), "");
    Ok(json_response(200, Some(tag), to_json(&me)?))
}

/// The edge answers this from Redis; the origin answers it when the edge could not ask Redis.
async fn limits(State(ctx): State<Ctx>, caller: Caller) -> Result<Response> {
    let items = peek(&ctx, caller.user).await;
    Ok(json_response(200, None, to_json(&List::whole(items))?))
}

pub async fn load_me(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    load_object(ctx, LOAD_ME, key, |row| to_json(&Me::from_row(row))).await
}

pub async fn load_profile(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    load_object(ctx, LOAD_PROFILE, key, |row| {
        to_json(&Profile {
            id: row.get("id"),
            name: row.get("name"),
            bio: row.get("bio"),
            created_at: row.get("created_at"),
        })
    })
    .await
}

/// Reads a part of a person's row, with its version.
pub async fn load_object(
    ctx: &Ctx,
    sql: &'static str,
    key: BoundKey,
    render: impl Fn(&Row) -> Result<Vec<u8>>,
) -> Result<Snapshot> {
    let user = id_of(&key, Id::User)?;
    let row = ctx.db.query_opt(sql, &[&user]).await?;
    let row = row.ok_or_else(|| Error::internal("me", &"no row"))?;
    let loaded = match row.get::<_, Option<i64>>("version") {
        Some(version) => Loaded::Object { version: tagged_version(version, user), json: render(&row)? },
        None => Loaded::Missing,
    };
    Ok(Snapshot::new(row.get("seen"), loaded))
}

/// The version with the user's id: everyone's account has the address `/v1/me`, and a browser that two people share would
/// otherwise take the first one's copy for the second one's.
pub fn tagged_version(version: i64, user: Uuid) -> String {
    format!("{version}.({user})")
}
