//! Setting a password without knowing the present one, by the token of a mail.
//!
//! [`super::password`] changes one that is known.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::http::body::Body;
use optimist_plane::http::sent::{Email, Secret};
use optimist_plane::http::served::{Served, on, on_with};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::{RequestContext, WriteContext};
use optimist_plane::{statements, transaction};
use optimist_shared::ids::Uuid;
use optimist_shared::keys::Key;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::people::ending::Ending;
use crate::people::letters::locale::Locale;
use crate::people::letters::queue::{self, charge_mail};
use crate::people::letters::token::{self, Purpose, SentToken};
use crate::people::password::NewPassword;
use crate::people::passwords::{Hashing, Passwords};

pub fn routes(passwords: &Arc<Passwords>) -> Vec<Served> {
    let passwords = passwords.clone();
    let hashing = move |ctx: &Ctx| Hashing { ctx: ctx.clone(), passwords };
    vec![
        on("auth.password-forgot", forgot)
            .says("Ask for a mail to choose a new password.")
            .notes("The answer is the same for every address; the mail says what there is.")
            .takes::<Forgot>(json!({"email": "ada@example.org"}))
            .accepts(),
        on_with("auth.password-reset", reset, hashing)
            .says("Choose a new password by the token of a mail.")
            .notes(
                "The token is good once, for an hour. Ends every session of the account, voids every `device`, and confirms the \
                 account's address.",
            )
            .takes::<Reset>(json!({
                "token": "Zm9yIGV4YW1wbGUgb25seSwgbm90IGEgdG9rZW4gYXQgYWxs", "password": "another horse battery",
            })),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Forgot {
    email: Email,
    locale: Option<Locale>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Reset {
    token: SentToken,
    password: NewPassword,
}

statements! {
    /// Unless it has changed since the token was found.
    const SET: &str = "-- resetting::set
update users
set password_hash = $2, password_version = password_version + 1, email_verified_at = coalesce(email_verified_at, now()),
    version = version + 1, updated_at = now()
where id = $1 and password_version = $3 and status = 'active'";
}

async fn forgot(State(ctx): State<Ctx>, request: RequestContext, body: Body<Forgot>) -> Result<Response> {
    let Forgot { email: Email(email), locale } = body.value;
    charge_mail(&ctx, &email, &request.client).await?;
    let tx = Tx::begin(&ctx.db).await?;
    let asked = queue::forgot(&tx, &email, locale.unwrap_or_default()).await;
    tx.end(asked).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

async fn reset(
    State(Hashing { ctx, passwords }): State<Hashing>,
    request: RequestContext,
    body: Body<Reset>,
) -> Result<Response> {
    let Reset { token: Secret(token), password: Secret(password) } = body.value;
    let hash = token::hash(&token);
    let found = ctx.db.query_opt(token::FIND, &[&hash]).await?;
    let found = found.filter(|row| token::purpose(row) == Some(Purpose::Reset)).ok_or_else(token::refused)?;
    let user = found.get::<_, Option<Uuid>>("user_id").ok_or_else(token::refused)?;
    let version = found.get::<_, Option<i64>>("password_version").ok_or_else(token::refused)?;
    let password = passwords.hash(&request.client, password).await?;
    let ending = Ending { user, family: None, asking: None, but_asking: false };
    loop {
        let context = WriteContext::new("resetting::reset", &request, Some((user, None)), vec![user]);
        let is_done = transaction!(&ctx, context, |tx| {
            let ended = ending.step(tx).await?;
            tx.event("session.revoked", json!({"user": user}));
            // With the last of them: if this is cut off before, the token is still good for another try.
            if ended.is_done {
                token::spend(tx, &hash).await?;
                if tx.execute(SET, &[&user, &password, &version]).await? == 0 {
                    return Err(token::refused());
                }
                tx.touch(Key::me(user));
                tx.event("password.changed", json!({"user": user}));
            }
            Ok(ended.is_done)
        })?;
        if is_done {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    }
}
