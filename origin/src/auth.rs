//! Accounts and sessions: registering, logging in and out, refreshing.
//!
//! Sessions are opened in Postgres only; the first request misses Redis, and the origin installs it there.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{Key, Parameters};
use optimist_shared::session::{IDLE_MS, SessionInfo, Token, hex};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::app::{Ctx, Handlers, on};
use crate::body::{Body, json_response, text, to_json};
use crate::error::{Error, Result};
use crate::me::Me;
use crate::postgres::{Tx, WriteContext, transaction};
use crate::request::{Caller, RequestContext};

mod passwords;
mod refresh;

pub use passwords::Passwords;
pub use refresh::tag;
use refresh::{RefreshToken, successor_secrets};

pub fn routes() -> Handlers {
    vec![
        on("auth.register", register),
        on("auth.login", login),
        on("auth.refresh", refresh),
        on("auth.logout", logout),
        on("auth.session", session),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Register {
    email: String,
    password: String,
    name: String,
    time_zone: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    email: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refresh {
    refresh_token: String,
}

/// What opening a session answers; `user` is absent after a refresh.
#[derive(Serialize)]
struct Opened {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Me>,
    session: OpenedSession,
    refresh_token: String,
}

#[derive(Serialize)]
struct OpenedSession {
    token: String,
    /// Seconds until it is over if it stays idle.
    expires_in: u64,
}

const INSERT_USER: &str = "-- auth::insert_user
insert into users (id, email, password_hash, name, time_zone, home_region) values ($1, $2, $3, $4, $5, $6)
returning id, email, name, bio, time_zone, email_verified_at, version, created_at, updated_at";

const FIND_USER: &str = "-- auth::find_user
select id, password_hash from users where lower(email) = lower($1)";

/// `for share`: a revocation of all of a user's sessions, which locks the row `for update`, sees this one or prevents it.
const LOCK_USER: &str = "-- auth::lock_user
select id, email, name, bio, time_zone, email_verified_at, version, created_at, updated_at
from users where id = $1 and status = 'active' for share";

const INSERT_SESSION: &str = "-- auth::insert_session
insert into sessions (id, user_id, family, parent, secret_hash, refresh_hash, token_key, idle_until, absolute_until, user_agent)
values ($1, $2, $3, $4, $5, $6, $7, least(now() + interval '30 minutes', coalesce($8, now() + interval '30 days')),
        coalesce($8, now() + interval '30 days'), $9)";

const FIND_SESSION: &str = "-- auth::find_session
select user_id, family, refresh_hash, revoked_at is not null, absolute_until, absolute_until <= now()
from sessions where id = $1";

const LOCK_SESSION: &str = "-- auth::lock_session
select revoked_at is not null from sessions where id = $1 for update";

const FIND_SUCCESSOR: &str = "-- auth::find_successor
select id, token_key, first_used_at is null or first_used_at > now() - interval '60 seconds', revoked_at is not null
from sessions where parent = $1";

const MARK_REFRESHED: &str = "-- auth::mark_refreshed
update sessions set refreshed_at = now() where id = $1";

const REVOKE_FAMILY: &str = "-- auth::revoke_family
update sessions set revoked_at = coalesce(revoked_at, now()) where family = $1 returning id";

const FAMILY_OF: &str = "-- auth::family_of
select family, revoked_at is not null from sessions where id = $1 and user_id = $2";

const SESSION_LEFT: &str = "-- auth::session_left
select greatest(0, extract(epoch from idle_until - now()))::bigint from sessions where id = $1";

pub const STATEMENTS: &[&str] = &[
    INSERT_USER,
    FIND_USER,
    LOCK_USER,
    INSERT_SESSION,
    FIND_SESSION,
    LOCK_SESSION,
    FIND_SUCCESSOR,
    MARK_REFRESHED,
    REVOKE_FAMILY,
    FAMILY_OF,
    SESSION_LEFT,
];

async fn register(State(app): State<Ctx>, request: RequestContext, body: Body<Register>) -> Result<Response> {
    let Register { email, password, name, time_zone } = body.value;
    let email = valid_email(&email)?;
    check_password(&password)?;
    let name = text("name", &name, 1..=80, false)?;
    let time_zone = valid_time_zone(time_zone.as_deref().unwrap_or("UTC"))?;
    let hash = app.passwords.hash(password).await?;
    let user = Uuid::now_v7();
    let secrets = Secrets::random()?;
    let context =
        WriteContext { name: "auth::register", request: &request, actor: Some((user, None)), order: &[user] };
    let opened = transaction!(&app, context, |tx| {
        let region = &app.config.region;
        let row = tx.query_one(INSERT_USER, &[&user, &email, &hash, &name, &time_zone, region]).await?;
        let session = open_session(tx, &app, &request, user, &secrets).await?;
        tx.event("user.registered", serde_json::json!({"user": user}));
        Ok(opened(Some(Me::from_row(&row)), user, session, &secrets))
    })?;
    Ok(json_response(201, None, to_json(&opened)?))
}

async fn login(State(app): State<Ctx>, request: RequestContext, body: Body<Login>) -> Result<Response> {
    let Login { email, password } = body.value;
    let wrong = || Error::new(ErrorCode::BadCredentials);
    let account = hex(&Sha256::digest(email.trim().to_lowercase()));
    app.limits.charge_login(&app, &account).await?;
    // What could never have been registered is looked up all the same: the answer and its time tell nothing.
    let found = match valid_email(&email) {
        Ok(email) => app.db.query_opt(FIND_USER, &[&email]).await?,
        Err(_) => None,
    };
    let (user, hash) = match &found {
        Some(row) => (Some(row.get::<_, Uuid>(0)), Some(row.get::<_, String>(1))),
        None => (None, None),
    };
    let verified = app.passwords.verify(password, hash).await?;
    let user = user.filter(|_| verified).ok_or_else(wrong)?;
    let secrets = Secrets::random()?;
    let context =
        WriteContext { name: "auth::login", request: &request, actor: Some((user, None)), order: &[] };
    let opened = transaction!(&app, context, |tx| {
        let row = tx.query_opt(LOCK_USER, &[&user]).await?.ok_or_else(wrong)?;
        let session = open_session(tx, &app, &request, user, &secrets).await?;
        tx.event("session.opened", serde_json::json!({"user": user, "session": session}));
        Ok(opened(Some(Me::from_row(&row)), user, session, &secrets))
    })?;
    Ok(json_response(200, None, to_json(&opened)?))
}

/// What came of a refresh token.
enum Refreshed {
    Opened(Box<Opened>),
    /// Used again when its successor was in use: somebody else has it.
    Reused,
}

async fn refresh(State(app): State<Ctx>, request: RequestContext, body: Body<Refresh>) -> Result<Response> {
    let over = || Error::new(ErrorCode::Unauthenticated).detail("The refresh token is not valid any more.");
    let token = RefreshToken::parse(&body.value.refresh_token).ok_or_else(over)?;
    let row = app.db.query_opt(FIND_SESSION, &[&token.session]).await?.ok_or_else(over)?;
    let user: Uuid = row.get(0);
    let family: Uuid = row.get(1);
    let absolute_until: DateTime<Utc> = row.get(4);
    if !token.matches(&row.get::<_, String>(2)) || row.get::<_, bool>(5) {
        return Err(over());
    }
    let context = WriteContext {
        name: "auth::refresh",
        request: &request,
        actor: Some((user, Some(token.session))),
        order: &[],
    };
    let refreshed = transaction!(&app, context, |tx| {
        tx.query_opt(LOCK_USER, &[&user]).await?.ok_or_else(over)?;
        let revoked: bool = tx.query_opt(LOCK_SESSION, &[&token.session]).await?.ok_or_else(over)?.get(0);
        if revoked {
            return Err(over());
        }
        if let Some(row) = tx.query_opt(FIND_SUCCESSOR, &[&token.session]).await? {
            let (successor, key): (Uuid, String) = (row.get(0), row.get(1));
            let (in_grace, revoked): (bool, bool) = (row.get(2), row.get(3));
            if !in_grace || revoked {
                revoke_family(tx, user, family).await?;
                tx.event("session.reused", serde_json::json!({"user": user, "session": token.session}));
                return Ok(Refreshed::Reused);
            }
            tx.unchanged();
            let secrets = derive(&app, &key, successor, &token)?;
            return Ok(Refreshed::Opened(Box::new(opened(None, user, successor, &secrets))));
        }
        let successor = Uuid::now_v7();
        let key = &app.config.token_keys.first;
        let secrets = derive(&app, key, successor, &token)?;
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 9] = [
            &successor,
            &user,
            &family,
            &token.session,
            &secrets.session_hash(),
            &secrets.refresh_hash(),
            key,
            &absolute_until,
            &request.user_agent,
        ];
        tx.execute(INSERT_SESSION, &parameters).await?;
        tx.execute(MARK_REFRESHED, &[&token.session]).await?;
        tx.event("session.refreshed", serde_json::json!({"user": user, "session": successor}));
        Ok(Refreshed::Opened(Box::new(opened(None, user, successor, &secrets))))
    })?;
    match refreshed {
        Refreshed::Opened(opened) => Ok(json_response(200, None, to_json(&opened)?)),
        Refreshed::Reused => {
            tracing::warn!(%user, "a refresh token was used again after its successor: all its sessions are revoked");
            Err(over())
        }
    }
}

async fn logout(State(app): State<Ctx>, caller: Caller) -> Result<Response> {
    end_session(&app, &caller, caller.session, "auth::logout").await?;
    Ok(axum::http::StatusCode::NO_CONTENT.into_response())
}

/// Revokes one of the caller's sessions and all that it could be refreshed from or to. Whether there was such a session.
pub async fn end_session(app: &Ctx, caller: &Caller, session: Uuid, name: &'static str) -> Result<bool> {
    let order = [caller.user];
    let context = WriteContext { name, request: &caller.request, actor: caller.actor(), order: &order };
    transaction!(app, context, |tx| {
        let Some(row) = tx.query_opt(FAMILY_OF, &[&session, &caller.user]).await? else {
            tx.unchanged();
            return Ok(false);
        };
        let family: Uuid = row.get(0);
        revoke_family(tx, caller.user, family).await?;
        if row.get::<_, bool>(1) {
            tx.unchanged();
        }
        tx.event("session.revoked", serde_json::json!({"user": caller.user, "session": session}));
        Ok(true)
    })
}

async fn revoke_family(tx: &mut Tx, user: Uuid, family: Uuid) -> Result<()> {
    for row in tx.query(REVOKE_FAMILY, &[&family]).await? {
        let session = Some(row.get(0));
        tx.touch(Key::Session, Parameters { user: Some(user), session, ..Parameters::default() });
    }
    Ok(())
}

/// The edge answers this from Redis; here it is answered when the edge could not ask.
async fn session(State(app): State<Ctx>, caller: Caller) -> Result<Json<SessionInfo>> {
    let left = app.db.query_opt(SESSION_LEFT, &[&caller.session]).await?;
    let expires_in = left.map_or(0, |row| row.get::<_, i64>(0).cast_unsigned());
    Ok(Json(SessionInfo { user_id: caller.user, session_id: caller.session, expires_in }))
}

/// A session's two secrets, as long as they are on their way to the client.
pub struct Secrets {
    session: [u8; 32],
    refresh: [u8; 32],
}

impl Secrets {
    fn random() -> Result<Secrets> {
        let mut secrets = Secrets { session: [0; 32], refresh: [0; 32] };
        getrandom::fill(&mut secrets.session)
            .and_then(|()| getrandom::fill(&mut secrets.refresh))
            .map_err(|error| Error::internal("randomness", &error))?;
        Ok(secrets)
    }

    fn session_hash(&self) -> String {
        optimist_shared::session::hash_secret(&self.session)
    }

    fn refresh_hash(&self) -> String {
        optimist_shared::session::hash_secret(&self.refresh)
    }
}

fn derive(app: &Ctx, key_id: &str, successor: Uuid, parent: &RefreshToken) -> Result<Secrets> {
    let key = app.config.token_keys.get(key_id);
    let key =
        key.ok_or_else(|| Error::internal("token keys", &"a key that sessions were derived with is gone"))?;
    Ok(successor_secrets(key, successor, parent))
}

async fn open_session(
    tx: &Tx,
    app: &Ctx,
    request: &RequestContext,
    user: Uuid,
    secrets: &Secrets,
) -> Result<Uuid> {
    let session = Uuid::now_v7();
    let none: Option<Uuid> = None;
    let for_ever: Option<DateTime<Utc>> = None;
    let (session_hash, refresh_hash) = (secrets.session_hash(), secrets.refresh_hash());
    let key = &app.config.token_keys.first;
    tx.execute(
        INSERT_SESSION,
        &[
            &session,
            &user,
            &session,
            &none,
            &session_hash,
            &refresh_hash,
            key,
            &for_ever,
            &request.user_agent,
        ],
    )
    .await?;
    Ok(session)
}

fn opened(user: Option<Me>, user_id: Uuid, session: Uuid, secrets: &Secrets) -> Opened {
    let token = Token { user: user_id, session, secret: secrets.session };
    Opened {
        user,
        session: OpenedSession { token: token.render(), expires_in: IDLE_MS / 1000 },
        refresh_token: RefreshToken { session, secret: secrets.refresh }.render(),
    }
}

/// Plausible, and short enough for SMTP (RFC 5321, 4.5.3.1): whether it exists, only a message to it tells.
fn valid_email(email: &str) -> Result<String> {
    let email = email.trim();
    let plausible = email.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && local.len() <= 64
            && !domain.contains('@')
            && domain.contains('.')
            && domain.split('.').all(|label| {
                !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            })
    });
    let printable = email.bytes().all(|byte| byte.is_ascii_graphic());
    if plausible && printable && email.len() <= 254 {
        Ok(email.to_owned())
    } else {
        Err(Error::invalid("email", "must be an e-mail address"))
    }
}

/// Length is what counts (NIST SP 800-63B, 5.1.1.2); the upper bound keeps hashing cheap.
fn check_password(password: &str) -> Result<()> {
    match password.chars().count() {
        0..=9 => Err(Error::invalid("password", "must have at least 10 characters")),
        10..=200 => Ok(()),
        _ => Err(Error::invalid("password", "must have at most 200 characters")),
    }
}

/// An IANA name, such as `Europe/Vienna`.
pub fn valid_time_zone(name: &str) -> Result<String> {
    name.parse::<chrono_tz::Tz>()
        .map(|zone| zone.name().to_owned())
        .map_err(|_| Error::invalid("time_zone", "must be the IANA name of a time zone"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emails_are_plausible() {
        for good in ["ada@example.org", " ada+x@mail.example.co.uk "] {
            assert!(valid_email(good).is_ok(), "{good}");
        }
        let long = format!("{}@example.org", "a".repeat(65));
        for bad in [
            "",
            "ada",
            "@example.org",
            "ada@",
            "ada@x",
            "a@b@c.d",
            "a b@c.de",
            "a\0@c.de",
            "ada@exa_mple.org",
            &long,
        ] {
            assert!(valid_email(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn time_zones_are_iana_names() {
        assert!(valid_time_zone("Europe/Vienna").is_ok());
        assert!(valid_time_zone("Mars/Olympus").is_err());
    }
}
