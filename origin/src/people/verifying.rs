//! Showing that an address is one's own, by the token of a mail to it; and asking for another such mail.
//!
//! The token of a registration makes the account and opens its first session: whoever reads the address's mails has asked for it with
//! this password. Other tokens open nothing: somebody may have mistyped the address.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::http::body::{Body, json_response, to_json};
use optimist_plane::http::sent::{Email, Id, Secret};
use optimist_plane::http::served::{Served, on};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::{RequestContext, WriteContext};
use optimist_plane::{statements, transaction};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::Key;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::people::auth::{SignedIn, taken};
use crate::people::devices::Account;
use crate::people::letters::locale::Locale;
use crate::people::letters::queue::{Kind, again, charge_mail, to_account};
use crate::people::letters::token::{self, Purpose, SentToken};
use crate::people::me::Me;
use crate::people::opening::NewSession;
use crate::people::secrets::TOKEN_KEYS;

pub fn routes() -> Vec<Served> {
    vec![
        on("auth.verify", verify)
            .says("Show by the token of a mail that its address is one's own.")
            .notes(
                "The token of a registration opens the account and its first session; that of a change of address gives the \
                 account the address. Each is good once, for 24 hours.",
            )
            .takes::<Verify>(json!({"token": "Zm9yIGV4YW1wbGUgb25seSwgbm90IGEgdG9rZW4gYXQgYWxs"}))
            .answers::<Verified>(200)
            .refuses(&[ErrorCode::Conflict]),
        on("auth.verify-resend", resend)
            .says("Ask for another mail to confirm an address.")
            .notes("The answer is the same for every address; the mail says what there is.")
            .takes::<Resend>(json!({"email": "ada@example.org"}))
            .accepts(),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Verify {
    token: SentToken,
}

/// An address that is confirmed.
#[derive(Serialize, JsonSchema)]
struct Verified {
    email: String,
    /// The session that a registration opens; null for other tokens.
    opened: Option<SignedIn>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Resend {
    email: Email,
    /// The one that registering has answered with, where an account is made once its address is confirmed.
    registration: Option<Id>,
    locale: Option<Locale>,
}

statements! {
    const FROM_REGISTRATION: &str = "-- verifying::insert_user
insert into users (id, email, password_hash, name, time_zone, locale, home_region, email_verified_at)
select $1, email, password_hash, name, time_zone, locale, $3, now() from registrations where id = $2
returning id, email, name, bio, time_zone, locale, email_verified_at, version, created_at, updated_at, password_version";

    /// With its tokens and mails. Others who have asked for the address get nothing more.
    const CONCLUDE: &str = "-- verifying::conclude
delete from registrations where id = any(array(
    select id from registrations where lower(email) = lower($1) order by id limit 500))";

    /// The account's address, if the token went to it.
    const CONFIRM: &str = "-- verifying::confirm
update users set email_verified_at = coalesce(email_verified_at, now()), version = version + 1, updated_at = now()
where id = $1 and lower(email) = lower($2)";

    const LOCK: &str = "-- verifying::lock
select email, locale from users where id = $1 and status = 'active' for update";

    const MOVE: &str = "-- verifying::move
update users set email = $2, email_verified_at = now(), version = version + 1, updated_at = now() where id = $1";
}

async fn verify(State(ctx): State<Ctx>, request: RequestContext, body: Body<Verify>) -> Result<Response> {
    let Verify { token: Secret(token) } = body.value;
    let hash = token::hash(&token);
    let found = ctx.db.query_opt(token::FIND, &[&hash]).await?.ok_or_else(token::refused)?;
    let (email, user): (String, Option<Uuid>) = (found.get("email"), found.get("user_id"));
    let opened = match (token::purpose(&found), user, found.get::<_, Option<Uuid>>("registration_id")) {
        (Some(Purpose::Register), _, Some(registration)) => {
            Some(open_account(&ctx, &request, &hash, registration).await?)
        }
        (Some(Purpose::Verify), Some(user), _) => {
            confirm(&ctx, &request, &hash, user, &email).await?;
            None
        }
        (Some(Purpose::Change), Some(user), _) => {
            move_to(&ctx, &request, &hash, user, &email).await?;
            None
        }
        _ => return Err(token::refused()),
    };
    Ok(json_response(200, None, to_json(&Verified { email, opened })?))
}

/// Makes the account of a registration, and opens its first session.
async fn open_account(
    ctx: &Ctx,
    request: &RequestContext,
    hash: &str,
    registration: Uuid,
) -> Result<SignedIn> {
    let user = Uuid::now_v7();
    let new = NewSession::random(ctx, user)?;
    let context = WriteContext::new("verifying::open_account", request, Some((user, None)), vec![user]);
    transaction!(ctx, context, |tx| {
        token::spend(tx, hash).await?;
        let region = &ctx.config.region;
        let inserted = tx.query_opt(FROM_REGISTRATION, &[&user, &registration, region]).await;
        let row = inserted.map_err(taken)?.ok_or_else(token::refused)?;
        tx.execute(CONCLUDE, &[&row.get::<_, String>("email")]).await?;
        tx.event("user.registered", json!({"user": user, "session": new.id}));
        let account = Account { user, password_version: row.get("password_version") };
        let device = account.new_device(ctx.config.keys(TOKEN_KEYS))?;
        Ok(SignedIn { user: Me::from_row(&row), refreshed: new.open(tx, request).await?, device })
    })
}

/// Notes that an account's address is its owner's.
async fn confirm(ctx: &Ctx, request: &RequestContext, hash: &str, user: Uuid, email: &str) -> Result<()> {
    let context = WriteContext::new("verifying::confirm", request, Some((user, None)), vec![user]);
    transaction!(ctx, context, |tx| {
        token::spend(tx, hash).await?;
        if tx.execute(CONFIRM, &[&user, &email]).await? == 0 {
            return Err(token::refused());
        }
        tx.touch(Key::me(user));
        tx.event("email.verified", json!({"user": user}));
        Ok(())
    })
}

/// Gives an account another address, and tells the one that it had.
async fn move_to(ctx: &Ctx, request: &RequestContext, hash: &str, user: Uuid, email: &str) -> Result<()> {
    let context = WriteContext::new("verifying::move_to", request, Some((user, None)), vec![user]);
    transaction!(ctx, context, |tx| {
        token::spend(tx, hash).await?;
        let row = tx.query_opt(LOCK, &[&user]).await?.ok_or_else(token::refused)?;
        tx.execute(MOVE, &[&user, &email]).await.map_err(taken)?;
        to_account(tx, user, Kind::Moved, row.get("email"), row.get("locale")).await?;
        tx.touch(Key::me(user));
        tx.event("email.changed", json!({"user": user}));
        Ok(())
    })
}

async fn resend(State(ctx): State<Ctx>, request: RequestContext, body: Body<Resend>) -> Result<Response> {
    let Resend { email: Email(email), registration, locale } = body.value;
    charge_mail(&ctx, &email, &request.client).await?;
    let tx = Tx::begin(&ctx.db).await?;
    let asked = again(&tx, &email, locale.unwrap_or_default(), registration.map(|Id(id)| id)).await;
    tx.end(asked).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}
