//! Refreshing: a session's refresh token exchanged for a session that succeeds it.
//!
//! A client that repeats a refresh whose answer was lost gets the same successor: its secrets are derived from the parent's
//! (see [`super::secrets`]). The parent may be repeated until the successor is first used, and for 60 seconds more. A token
//! shown later is in more hands than one, and the whole family is revoked.

use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::people::ending::revoke_family;
use crate::people::opening::{NewSession, Refreshed, lock_user, refresh_link};
use crate::people::secrets::{RefreshToken, Secrets, TOKEN_KEYS};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hooks;
use optimist_plane::http::body::{Body, json_response, to_json};
use optimist_plane::http::served::{Served, on};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::{RequestContext, WriteContext};
use optimist_plane::{statements, transaction};

pub fn routes() -> Vec<Served> {
    vec![
        on("auth.refresh", refresh)
            .says("Open the session that succeeds another.")
            .notes(
                "Safe to repeat when the answer was lost: the same successor is answered until it is first used, and \
                 for 60 seconds more. A refresh token that is shown later revokes every session that came from the \
                 same log-in.",
            )
            .takes::<Refresh>(json!({"refresh_token": "0190a0a0-0000-7000-8000-000000000001.c2VjcmV0"}))
            .answers::<Refreshed>(200)
            .refuses(&[ErrorCode::Unauthenticated])
            .links([refresh_link()]),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Refresh {
    refresh_token: String,
}

statements! {
    /// Of these columns only the revocation ever changes, and it is read again under the user's lock.
    const FIND_SESSION: &str = "-- auth::find_session
select user_id, family, refresh_hash, absolute_until, revoked_at is not null
from sessions where id = $1 and absolute_until > now()";

    const FIND_SUCCESSOR: &str = "-- auth::find_successor
select id, token_key, coalesce(first_used_at > now() - interval '60 seconds', true) from sessions where parent = $1";

    /// The idle time of a successor starts anew each time that it is handed out.
    const EXTEND: &str = "-- auth::extend
update sessions set idle_until = greatest(idle_until, least(now() + interval '30 minutes', absolute_until))
where id = $1
returning floor(extract(epoch from idle_until - now()))::bigint";

    /// A refresh proves that the session has reached its client, and so counts as its first use.
    const MARK_REFRESHED: &str = "-- auth::mark_refreshed
update sessions set refreshed_at = now(), first_used_at = coalesce(first_used_at, now()) where id = $1";
}

fn over() -> Error {
    Error::new(ErrorCode::Unauthenticated)
        .detail("The refresh token is not valid any more.")
        .field("refresh_token", "is not valid any more")
}

async fn refresh(State(ctx): State<Ctx>, request: RequestContext, body: Body<Refresh>) -> Result<Response> {
    let token = RefreshToken::parse(&body.value.refresh_token).ok_or_else(over)?;
    let row = ctx.db.query_opt(FIND_SESSION, &[&token.session]).await?.ok_or_else(over)?;
    if !token.matches(&row.get::<_, String>(2)) {
        return Err(over());
    }
    let parent = Parent { token, user: row.get(0), family: row.get(1), absolute_until: row.get(3) };
    let actor = Some((parent.user, Some(parent.token.session)));
    let context = WriteContext { name: "auth::refresh", request: &request, actor, order: vec![parent.user] };
    let refreshed = transaction!(&ctx, context, |tx| { parent.succeed(tx, &ctx, &request).await })?;
    match refreshed {
        Some(refreshed) => Ok(json_response(200, None, to_json(&refreshed)?)),
        None => {
            tracing::warn!(user = %parent.user, "a refresh token was used again too late: its family is revoked");
            Err(over())
        }
    }
}

/// The session whose token was shown.
struct Parent {
    token: RefreshToken,
    user: Uuid,
    family: Uuid,
    absolute_until: DateTime<Utc>,
}

impl Parent {
    /// Opens its successor, or hands out the existing one again. `None` if it is too late for that: the family was revoked.
    async fn succeed(&self, tx: &mut Tx, ctx: &Ctx, request: &RequestContext) -> Result<Option<Refreshed>> {
        let session = self.token.session;
        lock_user(tx, self.user).await?.ok_or_else(over)?;
        let revoked: bool = tx.query_opt(FIND_SESSION, &[&session]).await?.ok_or_else(over)?.get(4);
        if revoked {
            return Err(over());
        }
        let Some(row) = tx.query_opt(FIND_SUCCESSOR, &[&session]).await? else {
            return self.open_successor(tx, ctx, request).await.map(Some);
        };
        let (successor, token_key, in_time): (Uuid, String, bool) = (row.get(0), row.get(1), row.get(2));
        if !in_time && !hooks::disabled("reuse") || hooks::disabled("grace") {
            revoke_family(tx, self.user, self.family).await?;
            tx.event("session.reused", json!({"user": self.user, "session": session}));
            return Ok(None);
        }
        let expires_in = tx.query_one(EXTEND, &[&successor]).await?.get(0);
        tx.event("session.refreshed", json!({"user": self.user, "session": successor}));
        let secrets = Secrets::derive(ctx, &token_key, successor, &self.token)?;
        Ok(Some(Refreshed::new(self.user, successor, &secrets, expires_in)))
    }

    async fn open_successor(&self, tx: &mut Tx, ctx: &Ctx, request: &RequestContext) -> Result<Refreshed> {
        let (id, token_key) = (Uuid::now_v7(), ctx.config.keys(TOKEN_KEYS).first.clone());
        let new = NewSession {
            id,
            user: self.user,
            family: self.family,
            parent: Some(self.token.session),
            absolute_until: Some(self.absolute_until),
            secrets: Secrets::derive(ctx, &token_key, id, &self.token)?,
            token_key,
        };
        let refreshed = new.open(tx, request).await?;
        tx.execute(MARK_REFRESHED, &[&self.token.session]).await?;
        tx.event("session.refreshed", json!({"user": self.user, "session": id}));
        Ok(refreshed)
    }
}
