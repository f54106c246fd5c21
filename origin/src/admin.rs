//! Administrators: who is one, and what the service tells them of itself.
//!
//! The role is given on the command line alone: `optimist-origin admin grant <email>`.

use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;

use crate::app::{Ctx, Handlers, on};
use crate::body::{digest, tagged};
use crate::cursor::no_query;
use crate::error::{Error, Result};
use crate::policies;
use crate::postgres::Postgres;
use crate::request::Caller;

const IS_ADMIN: &str = "-- admin::is_admin
select from users where id = $1 and role = 'admin' and status = 'active'";

const SET_ROLE: &str = "-- admin::set_role
update users set role = $2 where lower(email) = lower($1) returning id";

pub const STATEMENTS: &[&str] = &[IS_ADMIN, SET_ROLE];

pub fn routes() -> Handlers {
    vec![on("admin.policies", show_policies)]
}

/// 403 unless the user is an administrator at this moment.
pub async fn require_admin(app: &Ctx, user: Uuid) -> Result<()> {
    app.db.query_opt(IS_ADMIN, &[&user]).await?.map(drop).ok_or_else(|| Error::new(ErrorCode::Forbidden))
}

/// Makes someone an administrator, or no longer. Whether there is such an account.
pub async fn set_role(db: &Postgres, email: &str, is_admin: bool) -> Result<bool> {
    let role = if is_admin { "admin" } else { "user" };
    Ok(db.query_opt(SET_ROLE, &[&email, &role]).await?.is_some())
}

async fn show_policies(_: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let json = policies::json().to_string();
    Ok(tagged(&headers, &digest(&[json.as_bytes()]), "", json))
}
