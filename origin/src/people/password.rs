//! Changing one's password.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use optimist_shared::error::ErrorCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::people::ending::Ending;
use crate::people::passwords::{Fit, Hashing, Passwords};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::Body;
use optimist_plane::http::sent::Secret;
use optimist_plane::http::served::{Served, on_with};
use optimist_plane::request::Caller;
use optimist_plane::{statements, transaction};

pub fn routes(passwords: &Arc<Passwords>) -> Vec<Served> {
    let passwords = passwords.clone();
    let hashing = move |ctx: &Ctx| Hashing { ctx: ctx.clone(), passwords };
    vec![
        on_with("me.password", change, hashing)
            .says("Change the password.")
            .notes("Ends every session of the account but the one that asks, and voids every `device`.")
            .takes::<ChangePassword>(
                json!({"current": "correct horse battery", "new": "another horse battery"}),
            )
            .refuses(&[ErrorCode::Conflict]),
    ]
}

/// A password to be. Length is what counts (NIST SP 800-63B, 5.1.1.2); the upper bound keeps hashing cheap.
pub type NewPassword = Secret<10, LONGEST>;

/// A password that was once allowed, as a keyboard spells it: some send a character as four.
pub type TypedPassword = Secret<1, { 4 * LONGEST }>;

/// Characters.
const LONGEST: usize = 200;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChangePassword {
    current: TypedPassword,
    new: NewPassword,
}

statements! {
    const FIND_PASSWORD: &str = "-- me::find_password
select password_hash, password_version from users where id = $1";

    /// Unless it has changed meanwhile, or the session that asks was ended.
    const CHANGE_PASSWORD: &str = "-- me::change_password
update users set password_hash = $2, password_version = password_version + 1
where id = $1 and password_version = $3
  and exists (select from sessions where id = $4 and user_id = $1 and revoked_at is null)";
}

/// Whether a password is the caller's: then its version.
pub async fn check_password(
    ctx: &Ctx,
    passwords: &Passwords,
    caller: &Caller,
    typed: String,
) -> Result<Option<i64>> {
    let row = ctx.db.query_opt(FIND_PASSWORD, &[&caller.user]).await?;
    let row = row.ok_or_else(|| Error::internal("password", &"no row"))?;
    let (stored, version): (String, i64) = (row.get(0), row.get(1));
    let fit = passwords.verify(&caller.request.client, typed, Some(stored)).await?;
    Ok((fit != Fit::No).then_some(version))
}

async fn change(
    State(Hashing { ctx, passwords }): State<Hashing>,
    caller: Caller,
    body: Body<ChangePassword>,
) -> Result<Response> {
    let ChangePassword { current: Secret(current), new: Secret(new) } = body.value;
    let fits = check_password(&ctx, &passwords, &caller, current).await?;
    let version = fits.ok_or_else(|| Error::invalid("current", "is not the password"))?;
    let hash = passwords.hash(&caller.request.client, new).await?;
    let ending = Ending { user: caller.user, family: None, asking: Some(caller.session), but_asking: true };
    loop {
        let context = caller.writes("me::change_password", [caller.user]);
        let is_done = transaction!(&ctx, context, |tx| {
            let ended = ending.step(tx).await?;
            tx.event("session.revoked", json!({"user": caller.user}));
            // With the last of them: if this is cut off before, the current password is still good for another try.
            if ended.is_done {
                let changed =
                    tx.execute(CHANGE_PASSWORD, &[&caller.user, &hash, &version, &caller.session]).await?;
                if changed == 0 {
                    let detail = "The password was changed, or this session was ended, at the same time.";
                    return Err(Error::new(ErrorCode::Conflict).detail(detail));
                }
                tx.event("password.changed", json!({"user": caller.user}));
            }
            Ok(ended.is_done)
        })?;
        if is_done {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    }
}
