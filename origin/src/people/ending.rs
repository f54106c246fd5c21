//! Ending sessions: logging out, and ending any one of the caller's sessions from a list of them.
//!
//! A session that runs out by itself is not ended here: it lapses in Redis, and a job deletes its row.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::keys::Key;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::digest;
use optimist_plane::http::body::{tagged, to_json};
use optimist_plane::http::page::{List, no_query};
use optimist_plane::http::served::{Served, on};
use optimist_plane::operation::links::{FIRST_ID, link};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::Caller;
use optimist_plane::{statements, transaction};

pub fn routes() -> Vec<Served> {
    vec![
        on("auth.logout", logout).says("End the session, and all that it could be refreshed from or to."),
        on("sessions.list", sessions)
            .says("The caller's sessions, newest first.")
            .answers::<List<SessionItem>>(200)
            .tagged()
            .links([link("sessions.revoke", &[("session", FIRST_ID)])]),
        on("sessions.revoke", revoke)
            .says("End one of the caller's sessions, and all that it could be refreshed from or to."),
    ]
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Session")]
struct SessionItem {
    id: Uuid,
    created_at: DateTime<Utc>,
    // It ends then if it stays idle. The document names the field alone.
    expires_at: DateTime<Utc>,
    user_agent: Option<String>,
    /// The one that asks.
    current: bool,
}

statements! {
    /// One session of each family: a session whose successor is in use is left out, unless it is the caller's own.
    const SESSIONS: &str = "-- me::sessions
select id, created_at, idle_until, user_agent from sessions
where user_id = $1 and revoked_at is null and idle_until > now() and absolute_until > now()
  and (id = $2 or not exists (
      select from sessions successor where successor.parent = sessions.id and successor.first_used_at is not null))
order by created_at desc limit 100";

    const FAMILY_OF: &str = "-- auth::family_of
select family, revoked_at is not null from sessions where id = $1 and user_id = $2";

    /// Returns the sessions that Redis may hold. Redis forgets a session after half an hour without use, and uses are written
    /// back within minutes, or once Postgres is reachable again: a day outlasts any outage to be expected.
    const REVOKE_FAMILY: &str = "-- auth::revoke_family
with revoked as (
    update sessions set revoked_at = coalesce(revoked_at, now()) where family = $1 returning id, idle_until)
select id from revoked where idle_until > now() - interval '24 hours'";
}

async fn sessions(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let rows = ctx.db.query(SESSIONS, &[&caller.user, &caller.session]).await?;
    let items: Vec<SessionItem> = rows
        .iter()
        .map(|row| SessionItem {
            id: row.get(0),
            created_at: row.get(1),
            expires_at: row.get(2),
            user_agent: row.get(3),
            current: row.get::<_, Uuid>(0) == caller.session,
        })
        .collect();
    let json = to_json(&List::whole(items))?;
    Ok(tagged(&headers, &digest(&[&json]), "", json))
}

async fn logout(State(ctx): State<Ctx>, caller: Caller) -> Result<Response> {
    end_session(&ctx, &caller, caller.session, "auth::logout").await?;
    Ok(axum::http::StatusCode::NO_CONTENT.into_response())
}

async fn revoke(State(ctx): State<Ctx>, caller: Caller) -> Result<Response> {
    let session = caller.request.id(Id::Session)?;
    match end_session(&ctx, &caller, session, "me::revoke_session").await? {
        true => Ok(axum::http::StatusCode::NO_CONTENT.into_response()),
        false => Err(Error::new(ErrorCode::NotFound)),
    }
}

/// Revokes one of the caller's sessions, and its whole family. Returns whether there was such a session.
async fn end_session(ctx: &Ctx, caller: &Caller, session: Uuid, name: &'static str) -> Result<bool> {
    // A refresh takes the user's lock as well: no successor appears that this revocation does not see.
    let context = caller.writes(name, [caller.user]);
    transaction!(ctx, context, |tx| {
        let Some(row) = tx.query_opt(FAMILY_OF, &[&session, &caller.user]).await? else {
            tx.unchanged();
            return Ok(false);
        };
        let (family, revoked): (Uuid, bool) = (row.get(0), row.get(1));
        revoke_family(tx, caller.user, family).await?;
        if revoked {
            tx.unchanged();
        }
        tx.event("session.revoked", json!({"user": caller.user, "session": session}));
        Ok(true)
    })
}

/// Revokes every session that came from the same log-in. The transaction must hold the user's lock.
pub async fn revoke_family(tx: &mut Tx, user: Uuid, family: Uuid) -> Result<()> {
    for row in tx.query(REVOKE_FAMILY, &[&family]).await? {
        tx.touch(Key::session(user, row.get(0)));
    }
    Ok(())
}
