//! Who administers the service, and what the command line does to accounts.
//!
//! No endpoint gives the role: `optimist-origin admin grant <email>` does, on the command line. [`super::suspending`] has what
//! administrators do to accounts; their other endpoints are the operations domain's.

use chrono::{DateTime, Utc};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::RequestContext;
use optimist_plane::statements;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;

use crate::people::suspending::{self, By, RESTORE_ROUTE, SUSPEND_ROUTE, Suspension};

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
}

/// 403 unless the user is an administrator at this moment.
pub async fn require_admin(ctx: &Ctx, user: Uuid) -> Result<()> {
    ctx.db.query_opt(IS_ADMIN, &[&user]).await?.map(drop).ok_or_else(|| Error::new(ErrorCode::Forbidden))
}

/// The same within a transaction that acts by this right.
pub async fn require_admin_in(tx: &Tx, user: Uuid) -> Result<()> {
    tx.query_opt(IS_ADMIN, &[&user]).await?.map(drop).ok_or_else(|| Error::new(ErrorCode::Forbidden))
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

/// Suspends the account with this e-mail, for the operator. Returns whether there is such an account.
pub async fn suspend(
    ctx: &Ctx,
    email: &str,
    until: Option<DateTime<Utc>>,
    reason: Option<&str>,
) -> Result<bool> {
    let Some(user) = find_account(ctx, email).await? else { return Ok(false) };
    let request = RequestContext::of_command(&SUSPEND_ROUTE);
    Suspension { user, until, reason }.begin(ctx, &request, None).await
}

/// Lets the owner of a suspended account log in again. Returns whether there is such an account.
pub async fn restore(ctx: &Ctx, email: &str) -> Result<bool> {
    let Some(user) = find_account(ctx, email).await? else { return Ok(false) };
    suspending::restore(ctx, &RequestContext::of_command(&RESTORE_ROUTE), user, By::Operator).await?;
    Ok(true)
}

async fn find_account(ctx: &Ctx, email: &str) -> Result<Option<Uuid>> {
    Ok(ctx.db.query_opt(FIND_ACCOUNT, &[&email]).await?.map(|row| row.get(0)))
}
