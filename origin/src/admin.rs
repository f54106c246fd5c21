//! Administrators: who is one, and what the service tells them of itself.
//!
//! The role is given on the command line alone: `optimist-origin admin grant <email>`.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{Freshness, Key};

use crate::app::{Ctx, Handlers, on};
use crate::body::{digest, json_response, tagged, to_json};
use crate::cache::drop_copies;
use crate::cursor::no_query;
use crate::error::{Error, Result};
use crate::policies;
use crate::postgres::{Postgres, WriteContext, transaction};
use crate::request::Caller;

const IS_ADMIN: &str = "-- admin::is_admin
select from users where id = $1 and role = 'admin' and status = 'active'";

/// Its row in the outbox is the trail's: no copy says who administers, and no one learns of it.
const SET_ROLE: &str = "-- admin::set_role
with changed as (update users set role = $2 where lower(email) = lower($1) returning id),
     recorded as (insert into outbox (region, request_id, keys, kind, payload)
                  select $3, $4, '{}', 'admin.role-changed', jsonb_build_object('user', id, 'role', $2::text) from changed)
select id from changed";

pub const STATEMENTS: &[&str] = &[IS_ADMIN, SET_ROLE];

pub fn routes() -> Handlers {
    vec![on("admin.policies", show_policies), on("admin.drop-copy", drop_copy)]
}

/// 403 unless the user is an administrator at this moment.
pub async fn require_admin(app: &Ctx, user: Uuid) -> Result<()> {
    app.db.query_opt(IS_ADMIN, &[&user]).await?.map(drop).ok_or_else(|| Error::new(ErrorCode::Forbidden))
}

/// Makes someone an administrator, or no longer. Whether there is such an account.
pub async fn set_role(db: &Postgres, region: &str, email: &str, is_admin: bool) -> Result<bool> {
    let role = if is_admin { "admin" } else { "user" };
    let request_id = format!("command-line-{}", Uuid::now_v7());
    Ok(db.query_opt(SET_ROLE, &[&email, &role, &region, &request_id]).await?.is_some())
}

/// Drops a copy by its name in Redis, whatever there is of it: the next reader gets what Postgres has. What is no copy, and
/// what Postgres does not have yet, is refused.
async fn drop_copy(State(app): State<Ctx>, caller: Caller, Path(name): Path<String>) -> Result<Response> {
    let is_copy = |key: Key| match key.row().freshness {
        Freshness::Fenced | Freshness::Ttl => true,
        Freshness::Live => matches!(key, Key::Reactions | Key::Counts | Key::CountsPage),
        Freshness::Own => false,
    };
    let (key, parameters) = Key::parse(&name)
        .filter(|(key, _)| is_copy(*key))
        .ok_or_else(|| Error::invalid("key", "is not the name of a copy in Redis"))?;
    // With what was made of it.
    let page = Key::CountsPage.render(&parameters).filter(|_| key == Key::Counts);
    let names: Vec<String> = std::iter::once(name.clone()).chain(page).collect();
    let context = WriteContext {
        name: "admin::drop_copy",
        request: &caller.request,
        actor: caller.actor(),
        order: &[],
    };
    // Who did it, for the record; first, since it harms nobody if it is not done.
    transaction!(&app, context, |tx| {
        tx.event("admin.copy-dropped", serde_json::json!({"key": name}));
        Ok(())
    })?;
    let dropped = drop_copies(&app, &names).await;
    let dropped = dropped.map_err(|_| Error::unavailable("The cache"))?;
    Ok(json_response(200, None, to_json(&serde_json::json!({"key": name, "dropped": dropped}))?))
}

async fn show_policies(_: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let json = policies::json().to_string();
    Ok(tagged(&headers, &digest(&[json.as_bytes()]), "", json))
}
