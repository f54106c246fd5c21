//! Accounts and sessions: registering, logging in and out.
//!
//! Sessions are opened in Postgres only; the first request misses Redis, and the origin installs it there. Refreshing one
//! is [`refresh`]'s.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{Key, Parameters};
use optimist_shared::session::{SessionInfo, Token, hash_secret, hex};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::people::login_limit::charge_login;
use crate::people::me::{Me, NAME};
use crate::people::passwords::Passwords;
use crate::people::refresh::{self, RefreshToken};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{Body, json_response, text, to_json};
use optimist_plane::http::served::{Served, on, on_with};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::postgres::write::WriteContext;
use optimist_plane::request::{Caller, RequestContext};
use optimist_plane::transaction;

/// The ring that refresh tokens and invitations are derived with; the first key derives.
pub const TOKEN_KEYS: &str = "token_keys";

pub fn routes() -> Vec<Served> {
    let passwords = Arc::new(Passwords::default());
    let hashing = {
        let passwords = passwords.clone();
        move |ctx: &Ctx| Hashing { ctx: ctx.clone(), passwords }
    };
    vec![
        on_with("auth.register", register, hashing.clone()),
        on_with("auth.login", login, hashing),
        on("auth.refresh", refresh::refresh),
        on("auth.logout", logout),
        on("auth.session", session),
    ]
}

/// What handlers need that hash passwords: all share the turns.
#[derive(Clone)]
struct Hashing {
    ctx: Ctx,
    passwords: Arc<Passwords>,
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

/// What opening a session answers; `user` is absent after a refresh.
#[derive(Serialize)]
pub struct Opened {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Me>,
    session: OpenedSession,
    refresh_token: String,
}

#[derive(Serialize)]
struct OpenedSession {
    token: String,
    /// Seconds until it is over if it stays idle.
    expires_in: i64,
}

const INSERT_USER: &str = "-- auth::insert_user
insert into users (id, email, password_hash, name, time_zone, home_region) values ($1, $2, $3, $4, $5, $6)
returning id, email, name, bio, time_zone, email_verified_at, version, created_at, updated_at";

const FIND_USER: &str = "-- auth::find_user
select id, password_hash from users where lower(email) = lower($1)";

/// `for share`: a revocation of all of a user's sessions, which locks the row `for update`, sees this one or prevents it.
pub const LOCK_USER: &str = "-- auth::lock_user
select id, email, name, bio, time_zone, email_verified_at, version, created_at, updated_at
from users where id = $1 and status = 'active' for share";

const INSERT_SESSION: &str = "-- auth::insert_session
insert into sessions
    (id, user_id, family, parent, secret_hash, refresh_hash, token_key, idle_until, absolute_until, user_agent)
values ($1, $2, $3, $4, $5, $6, $7, least(now() + interval '30 minutes', coalesce($8, now() + interval '30 days')),
        coalesce($8, now() + interval '30 days'), $9)
returning floor(extract(epoch from idle_until - now()))::bigint";

const FAMILY_OF: &str = "-- auth::family_of
select family, revoked_at is not null from sessions where id = $1 and user_id = $2";

/// Returns the sessions that Redis may hold: it forgets one after half an hour without use, and its uses are written back
/// within minutes, or once Postgres is there again. A day bridges any outage worth the name.
const REVOKE_FAMILY: &str = "-- auth::revoke_family
with revoked as (
    update sessions set revoked_at = coalesce(revoked_at, now()) where family = $1 returning id, idle_until)
select id from revoked where idle_until > now() - interval '24 hours'";

const SESSION_LEFT: &str = "-- auth::session_left
select greatest(0, floor(extract(epoch from idle_until - now())))::bigint from sessions where id = $1";

pub const STATEMENTS: &[&str] = &[
    INSERT_USER,
    FIND_USER,
    LOCK_USER,
    INSERT_SESSION,
    FAMILY_OF,
    REVOKE_FAMILY,
    SESSION_LEFT,
    refresh::FIND_SESSION,
    refresh::FIND_SUCCESSOR,
    refresh::EXTEND,
    refresh::MARK_REFRESHED,
];

async fn register(
    State(Hashing { ctx: app, passwords }): State<Hashing>,
    request: RequestContext,
    body: Body<Register>,
) -> Result<Response> {
    let Register { email, password, name, time_zone } = body.value;
    let email = valid_email(&email)?;
    check_password(&password, SHORTEST_PASSWORD)?;
    let name = text("name", &name, NAME, false)?;
    let time_zone = valid_time_zone(time_zone.as_deref().unwrap_or("UTC"))?;
    let hash = passwords.hash(password).await?;
    let user = Uuid::now_v7();
    let new = NewSession::random(&app, user)?;
    let context =
        WriteContext { name: "auth::register", request: &request, actor: Some((user, None)), order: &[user] };
    let opened = transaction!(&app, context, |tx| {
        let region = &app.config.region;
        let row = tx.query_one(INSERT_USER, &[&user, &email, &hash, &name, &time_zone, region]).await?;
        tx.event("user.registered", serde_json::json!({"user": user, "session": new.id}));
        new.open(tx, &request, Some(Me::from_row(&row))).await
    })?;
    Ok(json_response(201, None, to_json(&opened)?))
}

async fn login(
    State(Hashing { ctx: app, passwords }): State<Hashing>,
    request: RequestContext,
    body: Body<Login>,
) -> Result<Response> {
    let wrong = || Error::new(ErrorCode::BadCredentials);
    // What could never have been registered is refused by name, which tells nothing of who has.
    let email = valid_email(&body.value.email)?;
    check_password(&body.value.password, 1)?;
    let account = hex(&Sha256::digest(email.to_lowercase()));
    charge_login(&app, &account).await?;
    let (user, hash) = match app.db.query_opt(FIND_USER, &[&email]).await? {
        Some(row) => (Some(row.get::<_, Uuid>(0)), Some(row.get(1))),
        None => (None, None),
    };
    let verified = passwords.verify(body.value.password, hash).await?;
    let user = user.filter(|_| verified).ok_or_else(wrong)?;
    let new = NewSession::random(&app, user)?;
    let context =
        WriteContext { name: "auth::login", request: &request, actor: Some((user, None)), order: &[user] };
    let opened = transaction!(&app, context, |tx| {
        let row = tx.query_opt(LOCK_USER, &[&user]).await?.ok_or_else(wrong)?;
        tx.event("session.opened", serde_json::json!({"user": user, "session": new.id}));
        new.open(tx, &request, Some(Me::from_row(&row))).await
    })?;
    Ok(json_response(200, None, to_json(&opened)?))
}

async fn logout(State(app): State<Ctx>, caller: Caller) -> Result<Response> {
    end_session(&app, &caller, caller.session, "auth::logout").await?;
    Ok(axum::http::StatusCode::NO_CONTENT.into_response())
}

/// Revokes one of the caller's sessions and all that it could be refreshed from or to. Whether there was such a session.
pub async fn end_session(app: &Ctx, caller: &Caller, session: Uuid, name: &'static str) -> Result<bool> {
    // A refresh holds the user's lock as well: none can add a successor that this revocation does not see.
    let order = [caller.user];
    let context = WriteContext { name, request: &caller.request, actor: caller.actor(), order: &order };
    transaction!(app, context, |tx| {
        let Some(row) = tx.query_opt(FAMILY_OF, &[&session, &caller.user]).await? else {
            tx.unchanged();
            return Ok(false);
        };
        let (family, revoked): (Uuid, bool) = (row.get(0), row.get(1));
        revoke_family(tx, caller.user, family).await?;
        if revoked {
            tx.unchanged();
        }
        tx.event("session.revoked", serde_json::json!({"user": caller.user, "session": session}));
        Ok(true)
    })
}

pub async fn revoke_family(tx: &mut Tx, user: Uuid, family: Uuid) -> Result<()> {
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
#[derive(Clone)]
pub struct Secrets {
    pub session: [u8; 32],
    pub refresh: [u8; 32],
}

/// A session about to be opened.
pub struct NewSession {
    pub id: Uuid,
    pub user: Uuid,
    pub family: Uuid,
    /// The session that it succeeds.
    pub parent: Option<Uuid>,
    /// When it ends however busy it is; a family's sessions end together, 30 days after the first was opened.
    pub absolute_until: Option<DateTime<Utc>>,
    pub secrets: Secrets,
    /// The server key that its secrets were derived with, if they were.
    pub token_key: String,
}

impl NewSession {
    /// The first of its family.
    fn random(app: &Ctx, user: Uuid) -> Result<NewSession> {
        let mut secrets = Secrets { session: [0; 32], refresh: [0; 32] };
        getrandom::fill(&mut secrets.session)
            .and_then(|()| getrandom::fill(&mut secrets.refresh))
            .map_err(|error| Error::internal("randomness", &error))?;
        let token_key = app.config.keys(TOKEN_KEYS).first.clone();
        let id = Uuid::now_v7();
        Ok(NewSession { id, user, family: id, parent: None, absolute_until: None, secrets, token_key })
    }

    /// Opens it in Postgres, and says what the client is told.
    pub async fn open(&self, tx: &Tx, request: &RequestContext, user: Option<Me>) -> Result<Opened> {
        let NewSession { id, user: owner, family, parent, absolute_until, secrets, token_key } = self;
        let (session_hash, refresh_hash) = (hash_secret(&secrets.session), hash_secret(&secrets.refresh));
        let row = tx
            .query_one(
                INSERT_SESSION,
                &[
                    id,
                    owner,
                    family,
                    parent,
                    &session_hash,
                    &refresh_hash,
                    token_key,
                    absolute_until,
                    &request.user_agent,
                ],
            )
            .await?;
        Ok(opened(user, *owner, *id, secrets, row.get(0)))
    }
}

pub fn opened(user: Option<Me>, user_id: Uuid, session: Uuid, secrets: &Secrets, expires_in: i64) -> Opened {
    let token = Token { user: user_id, session, secret: secrets.session };
    Opened {
        user,
        session: OpenedSession { token: token.render(), expires_in },
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
                let is_hyphen = |character| character == '-';
                (1..=63).contains(&label.len())
                    && !label.starts_with(is_hyphen)
                    && !label.ends_with(is_hyphen)
                    && label
                        .chars()
                        .all(|character| character.is_ascii_alphanumeric() || is_hyphen(character))
            })
    });
    let printable = email.bytes().all(|byte| byte.is_ascii_graphic());
    if plausible && printable && email.len() <= 254 {
        Ok(email.to_owned())
    } else {
        Err(Error::invalid("email", "must be an e-mail address"))
    }
}

/// Characters. Length is what counts (NIST SP 800-63B, 5.1.1.2); the upper bound keeps hashing cheap.
pub const SHORTEST_PASSWORD: usize = 10;
pub const LONGEST_PASSWORD: usize = 200;

fn check_password(password: &str, least: usize) -> Result<()> {
    let length = password.chars().count();
    if length == 0 {
        return Err(Error::invalid("password", "must not be empty"));
    }
    if length < least {
        return Err(Error::invalid("password", format!("must have at least {least} characters")));
    }
    if length > LONGEST_PASSWORD {
        return Err(Error::invalid("password", format!("must have at most {LONGEST_PASSWORD} characters")));
    }
    if password.chars().any(char::is_control) {
        return Err(Error::invalid("password", "must not contain control characters"));
    }
    Ok(())
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
            "ada@-example.org",
            &long,
        ] {
            assert!(valid_email(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords_are_bounded() {
        assert!(check_password("ten characters", SHORTEST_PASSWORD).is_ok());
        assert!(check_password("too short", SHORTEST_PASSWORD).is_err());
        assert!(check_password("too short", 1).is_ok(), "what was once allowed may still log in");
        assert!(check_password("", 1).is_err());
        assert!(check_password(&"x".repeat(201), 1).is_err());
        assert!(check_password("a password\0", 1).is_err());
    }

    #[test]
    fn time_zones_are_iana_names() {
        assert!(valid_time_zone("Europe/Vienna").is_ok());
        assert!(valid_time_zone("Mars/Olympus").is_err());
    }
}
