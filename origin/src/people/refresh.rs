//! Refreshing: a session's refresh token exchanged for a session that succeeds it.
//!
//! A client that repeats a refresh whose answer was lost gets the same successor: its secrets are derived from the parent's
//! (see [`super::secrets`]). The parent may be repeated until the successor is first used, and for 60 seconds more. A token
//! shown later is in more hands than one, and the whole family is revoked.
//!
//! A family has two sessions at once: a refresh ends those before the refreshed one. Their rows stay, to tell reuse.

use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::Key;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::people::ending::{Reused, end_reused};
use crate::people::opening::{NewSession, Refreshed, charge_opening, end_oldest, lock_user, refresh_link};
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
    /// Of these columns only the last two ever change, and they are read again under the user's lock.
    const FIND_SESSION: &str = "-- auth::find_session
select user_id, family, refresh_hash, absolute_until, revoked_at is not null,
    exists (select from sessions successor where successor.parent = sessions.id)
from sessions where id = $1 and absolute_until > now()";

    const FIND_SUCCESSOR: &str = "-- auth::find_successor
select id, token_key, coalesce(first_used_at > now() - interval '60 seconds', true), revoked_at is not null
from sessions where parent = $1";

    /// The idle time of a successor starts anew each time that it is handed out.
    const EXTEND: &str = "-- auth::extend
update sessions set idle_until = greatest(idle_until, least(now() + interval '30 minutes', absolute_until))
where id = $1
returning floor(extract(epoch from least(idle_until, refreshed_at + interval '5 minutes') - now()))::bigint";

    /// A refresh proves that the session has reached its client, and so counts as its first use.
    const MARK_REFRESHED: &str = "-- auth::mark_refreshed
update sessions set refreshed_at = now(), first_used_at = coalesce(first_used_at, now()) where id = $1";

    /// Ends those of a family that are neither the refreshed session nor its successor: one, or more that are left from
    /// releases that ended none.
    const END_OLDER: &str = "-- auth::end_older
update sessions set revoked_at = now() where id = any(array(
    select id from sessions where user_id = $1 and revoked_at is null and family = $2 and id <> $3 and id <> $4 limit 500))
returning id";
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
    // A repetition opens none. If it comes too late, no limit may keep it from being noticed.
    if !row.get::<_, bool>(5) {
        charge_opening(&ctx, parent.user, Some(parent.family), parent.token.session).await?;
    }
    let actor = Some((parent.user, Some(parent.token.session)));
    let context = WriteContext::new("auth::refresh", &request, actor, vec![parent.user]);
    let refreshed = transaction!(&ctx, context, |tx| { parent.succeed(tx, &ctx, &request).await })?;
    match refreshed {
        Some(refreshed) => Ok(json_response(200, None, to_json(&refreshed)?)),
        None => {
            let reused = Reused { user: parent.user, family: parent.family, session: parent.token.session };
            if end_reused(&ctx, &request, reused).await? > 0 {
                tracing::warn!(user = %parent.user, "a refresh token was used again too late: its family is revoked");
            }
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
    /// Opens its successor, or hands out the existing one again. `None` if it is too late for that: the family is to end.
    async fn succeed(&self, tx: &mut Tx, ctx: &Ctx, request: &RequestContext) -> Result<Option<Refreshed>> {
        let session = self.token.session;
        lock_user(tx, self.user).await?.ok_or_else(over)?;
        let Some(row) = tx.query_opt(FIND_SUCCESSOR, &[&session]).await? else {
            let revoked: bool = tx.query_opt(FIND_SESSION, &[&session]).await?.ok_or_else(over)?.get(4);
            return if revoked { Err(over()) } else { self.open_successor(tx, ctx, request).await.map(Some) };
        };
        let (successor, token_key, in_time): (Uuid, String, bool) = (row.get(0), row.get(1), row.get(2));
        if !in_time && !hooks::disabled("reuse") || hooks::disabled("grace") {
            tx.unchanged();
            return Ok(None);
        }
        if row.get(3) {
            return Err(over());
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
        // Its copy has a later end.
        tx.touch(Key::session(self.user, self.token.session));
        if !hooks::disabled("succession") {
            for row in tx.query(END_OLDER, &[&self.user, &self.family, &self.token.session, &id]).await? {
                tx.touch(Key::session(self.user, row.get(0)));
            }
        }
        end_oldest(tx, self.user).await?;
        tx.event("session.refreshed", json!({"user": self.user, "session": id}));
        Ok(refreshed)
    }
}
