//! The administrators of the service.
//!
//! No endpoint gives the role: `optimist-origin admin grant <email>` does, on the command line. The administrators' own
//! endpoints are the operations domain's.

use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::postgres::pool::Postgres;
use optimist_plane::statements;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;

statements! {
    const IS_ADMIN: &str = "-- admin::is_admin
select from users where id = $1 and role = 'admin' and status = 'active'";

    /// The outbox row is for the audit trail only: no cached key holds the role, and nobody is notified.
    const SET_ROLE: &str = "-- admin::set_role
with changed as (update users set role = $2 where lower(email) = lower($1) returning id),
     recorded as (insert into outbox (region, request_id, keys, kind, payload)
                  select $3, $4, '{}', 'admin.role-changed', jsonb_build_object('user', id, 'role', $2::text) from changed)
select id from changed";
}

/// 403 unless the user is an administrator at this moment.
pub async fn require_admin(ctx: &Ctx, user: Uuid) -> Result<()> {
    ctx.db.query_opt(IS_ADMIN, &[&user]).await?.map(drop).ok_or_else(|| Error::new(ErrorCode::Forbidden))
}

/// Gives an account the administrator's role, or takes it away. Returns whether there is such an account.
pub async fn set_role(db: &Postgres, region: &str, email: &str, is_admin: bool) -> Result<bool> {
    let role = if is_admin { "admin" } else { "user" };
    let request_id = format!("command-line-{}", Uuid::now_v7());
    Ok(db.query_opt(SET_ROLE, &[&email, &role, &region, &request_id]).await?.is_some())
}
