//! Ending sessions: logging out, and ending any one of the caller's sessions from a list of them.
//!
//! However many there are, they end in steps, each a transaction of its own; the answer comes after the last one. A session
//! that runs out by itself is not ended here: it lapses in Redis, and a job deletes its row.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::keys::Key;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::digest;
use optimist_plane::hooks;
use optimist_plane::http::body::{tagged, to_json};
use optimist_plane::http::page::{List, no_query};
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::operation::links::{FIRST_ID, link};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::{Caller, RequestContext, WriteContext};
use optimist_plane::{statements, transaction};

pub fn routes() -> Vec<Served> {
    vec![
        on("auth.logout", logout).says("End the session, and all that it could be refreshed from or to."),
        on("sessions.list", sessions)
            .says("The caller's sessions, newest first.")
            .answers::<List<SessionItem>>(200)
            .tagged()
            .links([link("sessions.revoke", &[("session", FIRST_ID)])]),
        on("sessions.revoke-others", revoke_others)
            .says("End every session of the caller's but the one that asks."),
        on("sessions.revoke", revoke)
            .says("End one of the caller's sessions, and all that it could be refreshed from or to."),
    ]
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Session")]
struct SessionItem {
    id: Uuid,
    created_at: Time,
    // It ends then if it stays idle. The document names the field alone.
    expires_at: Time,
    user_agent: Option<String>,
    /// The one that asks.
    current: bool,
}

statements! {
    /// One session of each family: a session whose successor is in use is left out, unless it is the caller's own. It ends
    /// within minutes, and whoever ends the successor ends it too.
    const SESSIONS: &str = "-- me::sessions
select id, created_at, least(idle_until, refreshed_at + interval '5 minutes'), user_agent from sessions
where user_id = $1 and revoked_at is null and idle_until > now() and absolute_until > now()
  and (refreshed_at is null or refreshed_at > now() - interval '5 minutes')
  and (id = $2 or not exists (
      select from sessions successor where successor.parent = sessions.id and successor.first_used_at is not null))
order by created_at desc limit 100";

    const FAMILY_OF: &str = "-- auth::family_of
select family from sessions where id = $1 and user_id = $2";

    /// Ends some sessions of a person: of one family, or of any. The one that asks ends, if at all, with the last of them.
    /// Returns also whether Redis may hold each. Redis forgets a session after half an hour without use, and uses are written
    /// back within minutes, or once Postgres is reachable again: a day outlasts any outage to be expected.
    const END_SOME: &str = "-- auth::end_some
with others as materialized (
    select id from sessions
    where family = $2 and user_id = $1 and revoked_at is null and id is distinct from $3
    union all
    select id from sessions
    where $2::uuid is null and user_id = $1 and revoked_at is null and id is distinct from $3
    limit $4),
asking as (
    select id from sessions
    where $5 and id = $3 and user_id = $1 and ($2::uuid is null or family = $2) and (select count(*) from others) < $4)
update sessions set revoked_at = now()
where id = any(array(select id from others union all select id from asking)) and revoked_at is null
returning id, idle_until > now() - interval '24 hours'";
}

/// The sessions that one transaction ends: their rows, fences and releases take well under a second.
const AT_ONCE: usize = 500;

/// Which sessions of a person to end.
pub struct Ending {
    pub user: Uuid,
    /// Those that came from one log-in; `None` for those of all.
    pub family: Option<Uuid>,
    /// The session that asks. It ends with the last of them, so that it can ask again if this is cut off.
    pub asking: Option<Uuid>,
    /// The session that asks goes on.
    pub but_asking: bool,
}

/// What a step of an ending has done.
pub struct Ended {
    pub sessions: usize,
    /// None is left.
    pub is_done: bool,
}

impl Ending {
    /// Ends some of them, up to a bound. The transaction must hold the user's lock: so does a refresh, hence no successor
    /// appears that the last step does not see.
    pub async fn step(&self, tx: &mut Tx) -> Result<Ended> {
        let Ending { user, family, asking, but_asking } = self;
        let asking = asking.filter(|_| !hooks::disabled("steps") || *but_asking);
        let rows = tx.query(END_SOME, &[user, family, &asking, &(AT_ONCE as i64), &!but_asking]).await?;
        let mut ended = Ended { sessions: rows.len(), is_done: rows.len() < AT_ONCE };
        for row in rows {
            let session: Uuid = row.get(0);
            ended.is_done |= asking == Some(session);
            if row.get(1) {
                tx.touch(Key::session(*user, session));
            }
        }
        Ok(ended)
    }
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

async fn revoke_others(State(ctx): State<Ctx>, caller: Caller) -> Result<Response> {
    let ending = Ending { user: caller.user, family: None, asking: Some(caller.session), but_asking: true };
    loop {
        let context = caller.writes("me::revoke_others", [caller.user]);
        let ended = transaction!(&ctx, context, |tx| {
            let ended = ending.step(tx).await?;
            if ended.sessions == 0 {
                tx.unchanged();
            }
            tx.event("session.revoked", json!({"user": caller.user}));
            Ok(ended)
        })?;
        if ended.is_done {
            return Ok(axum::http::StatusCode::NO_CONTENT.into_response());
        }
    }
}

/// Ends one of the caller's sessions, and its whole family. Returns whether there was such a session.
async fn end_session(ctx: &Ctx, caller: &Caller, session: Uuid, name: &'static str) -> Result<bool> {
    loop {
        let context = caller.writes(name, [caller.user]);
        let is_done = transaction!(ctx, context, |tx| {
            let Some(row) = tx.query_opt(FAMILY_OF, &[&session, &caller.user]).await? else {
                tx.unchanged();
                return Ok(None);
            };
            let ending = Ending {
                user: caller.user,
                family: Some(row.get(0)),
                asking: Some(caller.session),
                but_asking: false,
            };
            let ended = ending.step(tx).await?;
            if ended.sessions == 0 {
                tx.unchanged();
                tx.touch(Key::session(caller.user, session));
            }
            tx.event("session.revoked", json!({"user": caller.user, "session": session}));
            Ok(Some(ended.is_done))
        })?;
        match is_done {
            Some(false) => {}
            Some(true) => return Ok(true),
            None => return Ok(false),
        }
    }
}

/// Ends every session that came from the log-in of one whose refresh token was used again too late. Returns how many.
pub async fn end_reused(ctx: &Ctx, request: &RequestContext, reused: Reused) -> Result<usize> {
    let Reused { user, family, session } = reused;
    let mut sessions = 0;
    loop {
        let actor = Some((user, Some(session)));
        let context = WriteContext::new("auth::end_reused", request, actor, vec![user]);
        let ended = transaction!(ctx, context, |tx| {
            let ending = Ending { user, family: Some(family), asking: None, but_asking: false };
            let ended = ending.step(tx).await?;
            if ended.sessions == 0 {
                tx.unchanged();
            }
            tx.event("session.reused", json!({"user": user, "session": session}));
            Ok(ended)
        })?;
        sessions += ended.sessions;
        if ended.is_done {
            return Ok(sessions);
        }
    }
}

/// A session whose refresh token was used again too late.
#[derive(Clone, Copy)]
pub struct Reused {
    pub user: Uuid,
    pub family: Uuid,
    pub session: Uuid,
}
