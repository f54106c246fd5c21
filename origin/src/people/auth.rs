//! Registering and logging in; and whose session a request has.
//!
//! A session is opened in Postgres only: its first request misses Redis, and the origin installs it there. Refreshing is
//! [`super::refresh`]'s, logging out [`super::ending`]'s.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::session::{SessionInfo, hex};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::people::devices::Account;
use crate::people::letters::locale::Locale;
use crate::people::letters::queue::{Kind, Registration, charge_mail, to_account};
use crate::people::login_limit::charge_login;
use crate::people::me::Me;
use crate::people::opening::{NewSession, Refreshed, charge_opening, end_oldest, lock_user, refresh_link};
use crate::people::password::{NewPassword, TypedPassword};
use crate::people::passwords::{Fit, Hashing, Passwords};
use crate::people::person::Name;
use crate::people::secrets::TOKEN_KEYS;
use crate::people::suspending::{refusal, restore_if_over};
use optimist_plane::clock::now_ms;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{Body, json_response, to_json};
use optimist_plane::http::sent::{Email, Secret, TimeZone};
use optimist_plane::http::served::{Served, on, on_with};
use optimist_plane::operation::links::link;
use optimist_plane::outgoing::settings::Unverified;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::{Caller, RequestContext, WriteContext};
use optimist_plane::{statements, transaction};

pub fn routes(passwords: &Arc<Passwords>) -> Vec<Served> {
    let passwords = passwords.clone();
    let hashing = move |ctx: &Ctx| Hashing { ctx: ctx.clone(), passwords };
    vec![
        on_with("auth.register", register, hashing.clone())
            .says("Create an account and open a session.")
            .notes(
                "Where the operator has addresses confirmed first, the answer is 202 for every address, and the token of the mail \
                 makes the account (`POST /v1/auth/verify`).",
            )
            .takes::<Register>(json!({
                "email": "ada@example.org", "password": "correct horse battery", "name": "Ada",
                "time_zone": "Europe/Vienna",
            }))
            .answers::<SignedIn>(201)
            .or_answers::<Asked>(202, "Where addresses are confirmed first: the mail's token makes the account.")
            .refuses(&[ErrorCode::Conflict])
            .links([refresh_link(), link("users.get", &[("user", "$response.body#/user/id")])]),
        on_with("auth.login", login, hashing)
            .says("Open a session.")
            .notes(
                "An unknown e-mail and a wrong password are answered alike. Attempts are limited by account and by \
                 address. Send the `device` that an earlier log-in answered: it has attempts of its own, whoever else \
                 tries to log in. 403 `suspended` says until when an account is suspended, and why.",
            )
            .takes::<Login>(json!({"email": "ada@example.org", "password": "correct horse battery"}))
            .answers::<SignedIn>(200)
            .refuses(&[ErrorCode::BadCredentials, ErrorCode::Suspended])
            .links([refresh_link()]),
        on("auth.session", session)
            .says("Whose the session is, and how long it lasts.")
            .answers::<SessionShape>(200),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Register {
    email: Email,
    password: NewPassword,
    name: Name,
    time_zone: Option<TimeZone>,
    locale: Option<Locale>,
}

/// A password that was once allowed may still log in.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Login {
    email: Email,
    password: TypedPassword,
    /// The `device` that an earlier log-in to the account has answered. One that is not good any more changes nothing.
    device: Option<Secret<1, LONGEST_DEVICE>>,
}

/// Characters: an id, a key's name and a signature.
const LONGEST_DEVICE: usize = 200;

/// The answer to registering where an account is made once its address is confirmed. It is the same for an address that has one.
#[derive(Serialize, JsonSchema)]
struct Asked {
    /// Names the registration when another mail is asked for.
    registration: Uuid,
}

/// The answer to registering and to logging in.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Opened")]
pub struct SignedIn {
    pub user: Me,
    #[serde(flatten)]
    pub refreshed: Refreshed,
    /// Shows at the next log-in that this device is known. It opens nothing, and a change of the password voids it.
    pub device: String,
}

/// [`SessionInfo`], which the edge answers as well, and which describes nothing.
#[derive(JsonSchema)]
#[schemars(rename = "SessionInfo")]
#[expect(dead_code, reason = "it is a description alone")]
struct SessionShape {
    user_id: Uuid,
    session_id: Uuid,
    /// Seconds until it is over if it stays idle.
    expires_in: u64,
}

statements! {
    const INSERT_USER: &str = "-- auth::insert_user
insert into users (id, email, password_hash, name, time_zone, locale, home_region) values ($1, $2, $3, $4, $5, $6, $7)
returning id, email, name, bio, time_zone, locale, email_verified_at, version, created_at, updated_at, password_version";

    const FIND_USER: &str = "-- auth::find_user
select id, password_hash, password_version, status = 'suspended', suspended_until, suspension_reason,
    coalesce(suspended_until <= now(), false)
from users where lower(email) = lower($1)";

    /// Unless the password has changed meanwhile.
    const RENEW_HASH: &str = "-- auth::renew_hash
update users set password_hash = $3 where id = $1 and password_hash = $2";

    const SESSION_LEFT: &str = "-- auth::session_left
select greatest(0, floor(extract(epoch from least(idle_until, refreshed_at + interval '5 minutes') - now())))::bigint
from sessions where id = $1";
}

async fn register(
    State(Hashing { ctx, passwords }): State<Hashing>,
    request: RequestContext,
    body: Body<Register>,
) -> Result<Response> {
    let Register { email: Email(email), password: Secret(password), name, time_zone, locale } = body.value;
    let TimeZone(time_zone) = time_zone.unwrap_or_default();
    let locale = locale.unwrap_or_default();
    if ctx.outgoing.mail.is_on() || ctx.config.outgoing.unverified == Unverified::Refuse {
        charge_mail(&ctx, &email, &request.client).await?;
    }
    let hash = passwords.hash(&request.client, password).await?;
    if ctx.config.outgoing.unverified == Unverified::Refuse {
        let id = Uuid::now_v7();
        let (email, password_hash, name, time_zone) = (&email, &hash, &name, &time_zone);
        let registration = Registration { id, email, password_hash, name, time_zone, locale };
        let tx = Tx::begin(&ctx.db).await?;
        let asked = registration.ask(&tx).await;
        tx.end(asked).await?;
        return Ok(json_response(202, None, to_json(&Asked { registration: id })?));
    }
    let user = Uuid::now_v7();
    let new = NewSession::random(&ctx, user)?;
    let context = WriteContext::new("auth::register", &request, Some((user, None)), vec![user]);
    let signed_in = transaction!(&ctx, context, |tx| {
        let region = &ctx.config.region;
        let inserted = tx
            .query_one(INSERT_USER, &[&user, &email, &hash, &name, &time_zone, &locale.as_str(), region])
            .await;
        let row = inserted.map_err(taken)?;
        if ctx.outgoing.mail.is_on() {
            to_account(tx, user, Kind::Verify, &email, locale.as_str()).await?;
        }
        tx.event("user.registered", json!({"user": user, "session": new.id}));
        let account = Account { user, password_version: row.get("password_version") };
        let device = account.new_device(ctx.config.keys(TOKEN_KEYS))?;
        Ok(SignedIn { user: Me::from_row(&row), refreshed: new.open(tx, &request).await?, device })
    })?;
    Ok(json_response(201, None, to_json(&signed_in)?))
}

/// 409 for an e-mail that an account has already, in any case.
pub fn taken(error: Error) -> Error {
    if error.violates("users_email_key") {
        return Error::new(ErrorCode::Conflict).field("email", "is taken");
    }
    error
}

async fn login(
    State(Hashing { ctx, passwords }): State<Hashing>,
    request: RequestContext,
    body: Body<Login>,
) -> Result<Response> {
    let wrong = || Error::new(ErrorCode::BadCredentials);
    // An e-mail or password that nobody could have registered was refused by its field's type: that reveals no account.
    let Login { email: Email(email), password: Secret(password), device } = body.value;
    let looking_up = passwords.look_up(&request.client).await?;
    let found = ctx.db.query_opt(FIND_USER, &[&email]).await?;
    let account = found.as_ref().map(|row| Account { user: row.get(0), password_version: row.get(2) });
    let keys = ctx.config.keys(TOKEN_KEYS);
    let device = device
        .zip(account)
        .and_then(|(Secret(token), account)| account.device(keys, &token, now_ms()).map(|id| (id, token)));
    let email = hex(&Sha256::digest(email.to_lowercase()));
    charge_login(&ctx, &email, &request.client, device.as_ref().map(|(id, _)| *id)).await?;
    drop(looking_up);
    let stored = found.as_ref().map(|row| row.get::<_, String>(1));
    let fit = passwords.verify(&request.client, password, stored.clone()).await?;
    let account = account.filter(|_| fit != Fit::No).ok_or_else(wrong)?;
    let user = account.user;
    if let Fit::Renewed(hash) = fit {
        ctx.db.query(RENEW_HASH, &[&user, &stored, &hash]).await?;
    }
    if let Some(row) = found.filter(|row| row.get(3)) {
        if !row.get::<_, bool>(6) {
            return Err(refusal(row.get(4), row.get(5)));
        }
        restore_if_over(&ctx, user).await?;
    }
    let new = NewSession::random(&ctx, user)?;
    charge_opening(&ctx, user, None, new.id).await?;
    let context = WriteContext::new("auth::login", &request, Some((user, None)), vec![user]);
    let signed_in = transaction!(&ctx, context, |tx| {
        let row = lock_user(tx, user).await?.ok_or_else(wrong)?;
        // The password may have changed since it was verified, and ended every session.
        if row.get::<_, i64>("password_version") != account.password_version {
            return Err(wrong());
        }
        tx.event("session.opened", json!({"user": user, "session": new.id}));
        let device = match &device {
            Some((_, token)) => token.clone(),
            None => account.new_device(keys)?,
        };
        let signed_in =
            SignedIn { user: Me::from_row(&row), refreshed: new.open(tx, &request).await?, device };
        end_oldest(tx, user).await?;
        Ok(signed_in)
    })?;
    Ok(json_response(200, None, to_json(&signed_in)?))
}

/// The edge answers this from Redis; the origin answers it when the edge could not ask Redis.
async fn session(State(ctx): State<Ctx>, caller: Caller) -> Result<Json<SessionInfo>> {
    let left = ctx.db.query_opt(SESSION_LEFT, &[&caller.session]).await?;
    let expires_in = left.map_or(0, |row| row.get::<_, i64>(0).cast_unsigned());
    Ok(Json(SessionInfo { user_id: caller.user, session_id: caller.session, expires_in }))
}
