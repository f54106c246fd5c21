//! Asking for another e-mail address. The account has it once the token of a mail to it is shown: see [`super::verifying`].

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::Body;
use optimist_plane::http::sent::{Email, Secret};
use optimist_plane::http::served::{Served, on_with};
use optimist_plane::request::Caller;
use optimist_plane::{statements, transaction};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::people::letters::queue::{change, charge_mail};
use crate::people::password::{TypedPassword, check_password};
use crate::people::passwords::{Hashing, Passwords};

pub fn routes(passwords: &Arc<Passwords>) -> Vec<Served> {
    let passwords = passwords.clone();
    let hashing = move |ctx: &Ctx| Hashing { ctx: ctx.clone(), passwords };
    vec![
        on_with("me.email", ask, hashing)
            .says("Ask for another e-mail address.")
            .notes(
                "The account keeps its address until the token of the mail to the new one is shown (`POST /v1/auth/verify`). The \
                 answer is the same if another account has it; its owner is told.",
            )
            .takes::<ChangeEmail>(json!({"email": "ada@example.com", "password": "correct horse battery"}))
            .accepts(),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChangeEmail {
    email: Email,
    /// The present one.
    password: TypedPassword,
}

statements! {
    const LOCALE: &str = "-- moving::locale
select locale from users where id = $1";
}

async fn ask(
    State(Hashing { ctx, passwords }): State<Hashing>,
    caller: Caller,
    body: Body<ChangeEmail>,
) -> Result<Response> {
    let ChangeEmail { email: Email(email), password: Secret(password) } = body.value;
    charge_mail(&ctx, &email, &caller.request.client).await?;
    if check_password(&ctx, &passwords, &caller, password).await?.is_none() {
        return Err(Error::invalid("password", "is not the password"));
    }
    let context = caller.writes("moving::ask", [caller.user]);
    transaction!(&ctx, context, |tx| {
        let row = tx.query_one(LOCALE, &[&caller.user]).await?;
        change(tx, caller.user, row.get(0), &email).await?;
        tx.event("email.asked", json!({"user": caller.user}));
        Ok(())
    })?;
    Ok(StatusCode::ACCEPTED.into_response())
}
