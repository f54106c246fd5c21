//! The administrators of the service, and what the command line does to accounts.
//!
//! No endpoint gives the role: `optimist-origin admin grant <email>` does, on the command line; `admin suspend` shuts a person
//! out. The administrators' own endpoints are the operations domain's.

use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::{RequestContext, WriteContext};
use optimist_plane::{statements, transaction};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::Key;
use optimist_shared::routes::Route;
use serde_json::json;

use crate::people::ending::Ending;

statements! {
    const IS_ADMIN: &str = "-- admin::is_admin
select from users where id = $1 and role = 'admin' and status = 'active'";

    const SET_ROLE: &str = "-- admin::set_role
update users set role = $2 where lower(email) = lower($1) returning id";

    /// For the audit trail only: no cached key holds the role, and nobody is notified.
    const RECORD: &str = "-- admin::record_role
insert into outbox (region, request_id, keys, kind, payload)
values ($1, $2, '{}', 'admin.role-changed', jsonb_build_object('user', $3::uuid, 'role', $4::text))";

    const FIND_ACCOUNT: &str = "-- admin::find_account
select id from users where lower(email) = lower($1)";

    const SET_STATUS: &str = "-- admin::set_status
update users set status = $2, updated_at = now() where id = $1 and status <> $2";
}

/// 403 unless the user is an administrator at this moment.
pub async fn require_admin(ctx: &Ctx, user: Uuid) -> Result<()> {
    ctx.db.query_opt(IS_ADMIN, &[&user]).await?.map(drop).ok_or_else(|| Error::new(ErrorCode::Forbidden))
}

/// Gives an account the administrator's role, or takes it away. Returns whether there is such an account.
pub async fn set_role(ctx: &Ctx, email: &str, is_admin: bool) -> Result<bool> {
    let role = if is_admin { "admin" } else { "user" };
    let request_id = format!("command-line-{}", Uuid::now_v7());
    let tx = Tx::begin(&ctx.db).await?;
    let changed = async {
        let Some(row) = tx.query_opt(SET_ROLE, &[&email, &role]).await? else { return Ok(false) };
        tx.execute(RECORD, &[&ctx.config.region, &request_id, &row.get::<_, Uuid>(0), &role]).await?;
        Ok(true)
    };
    let changed = changed.await;
    tx.end(changed).await
}

/// Suspends an account. When this returns, its owner has no session, and can neither log in nor refresh. Returns whether
/// there is such an account. It may be cut off, and called again.
pub async fn suspend(ctx: &Ctx, email: &str) -> Result<bool> {
    let Some(user) = find_account(ctx, email).await? else { return Ok(false) };
    let ending = Ending { user, family: None, asking: None, but_asking: false };
    let request = RequestContext::of_command(&SUSPEND);
    loop {
        let context = WriteContext::new("admin::suspend", &request, None, vec![user]);
        let is_done = transaction!(ctx, context, |tx| {
            // First, so that no session is opened between two steps.
            let changed = tx.execute(SET_STATUS, &[&user, &"suspended"]).await?;
            tx.touch(Key::profile(user));
            let ended = ending.step(tx).await?;
            if changed == 0 && ended.sessions == 0 {
                tx.unchanged();
            }
            tx.event("admin.suspended", json!({"user": user}));
            Ok(ended.is_done)
        })?;
        if is_done {
            return Ok(true);
        }
    }
}

/// Lets the owner of a suspended account log in again. Returns whether there is such an account.
pub async fn restore(ctx: &Ctx, email: &str) -> Result<bool> {
    let Some(user) = find_account(ctx, email).await? else { return Ok(false) };
    let request = RequestContext::of_command(&RESTORE);
    let context = WriteContext::new("admin::restore", &request, None, vec![user]);
    transaction!(ctx, context, |tx| {
        if tx.execute(SET_STATUS, &[&user, &"active"]).await? == 0 {
            tx.unchanged();
        }
        tx.touch(Key::profile(user));
        tx.event("admin.restored", json!({"user": user}));
        Ok(true)
    })
}

static SUSPEND: Route = Route::of_command("admin.suspend", &[Key::Session, Key::Profile]);
static RESTORE: Route = Route::of_command("admin.restore", &[Key::Profile]);

async fn find_account(ctx: &Ctx, email: &str) -> Result<Option<Uuid>> {
    Ok(ctx.db.query_opt(FIND_ACCOUNT, &[&email]).await?.map(|row| row.get(0)))
}
