//! Refreshing: a session's token of its own for a successor, `<session>.<secret>`.
//!
//! A successor's secrets are HMACs of the parent's under a server key: a client that repeats a refresh whose answer was
//! lost gets the same successor, though only hashes are stored. The parent may be repeated until the successor is first
//! used and for 60 seconds more; after that whoever shows it is not the only one who has it, and the family ends.

use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Uuid, parse_id};
use optimist_shared::session::hash_secret;
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

use crate::people::auth::{LOCK_USER, NewSession, Opened, Secrets, TOKEN_KEYS, opened, revoke_family};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::keyed_hash;
use optimist_plane::hooks;
use optimist_plane::http::body::{Body, json_response, to_json};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::postgres::write::WriteContext;
use optimist_plane::request::RequestContext;
use optimist_plane::transaction;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    refresh_token: String,
}

/// Nothing here ever changes but the revocation, which is read under the user's lock.
pub const FIND_SESSION: &str = "-- auth::find_session
select user_id, family, refresh_hash, absolute_until, revoked_at is not null
from sessions where id = $1 and absolute_until > now()";

pub const FIND_SUCCESSOR: &str = "-- auth::find_successor
select id, token_key, coalesce(first_used_at > now() - interval '60 seconds', true) from sessions where parent = $1";

/// A successor that nobody has used yet begins its idle time when it is handed out, each time.
pub const EXTEND: &str = "-- auth::extend
update sessions set idle_until = greatest(idle_until, least(now() + interval '30 minutes', absolute_until))
where id = $1
returning floor(extract(epoch from idle_until - now()))::bigint";

/// To be refreshed, a session must have reached its client.
pub const MARK_REFRESHED: &str = "-- auth::mark_refreshed
update sessions set refreshed_at = now(), first_used_at = coalesce(first_used_at, now()) where id = $1";

fn over() -> Error {
    Error::new(ErrorCode::Unauthenticated)
        .detail("The refresh token is not valid any more.")
        .field("refresh_token", "is not valid any more")
}

pub async fn refresh(
    State(app): State<Ctx>,
    request: RequestContext,
    body: Body<Refresh>,
) -> Result<Response> {
    let token = RefreshToken::parse(&body.value.refresh_token).ok_or_else(over)?;
    let row = app.db.query_opt(FIND_SESSION, &[&token.session]).await?.ok_or_else(over)?;
    if !token.matches(&row.get::<_, String>(2)) {
        return Err(over());
    }
    let parent = Parent { token, user: row.get(0), family: row.get(1), absolute_until: row.get(3) };
    let order = [parent.user];
    let actor = Some((parent.user, Some(parent.token.session)));
    let context = WriteContext { name: "auth::refresh", request: &request, actor, order: &order };
    let opened = transaction!(&app, context, |tx| { parent.succeed(tx, &app, &request).await })?;
    match opened {
        Some(opened) => Ok(json_response(200, None, to_json(&opened)?)),
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
    /// Opens its successor, or the same once more. `None` when that came too late, and the family was revoked.
    async fn succeed(&self, tx: &mut Tx, app: &Ctx, request: &RequestContext) -> Result<Option<Opened>> {
        let session = self.token.session;
        tx.query_opt(LOCK_USER, &[&self.user]).await?.ok_or_else(over)?;
        let revoked: bool = tx.query_opt(FIND_SESSION, &[&session]).await?.ok_or_else(over)?.get(4);
        if revoked {
            return Err(over());
        }
        let Some(row) = tx.query_opt(FIND_SUCCESSOR, &[&session]).await? else {
            return self.open_successor(tx, app, request).await.map(Some);
        };
        let (successor, token_key, in_time): (Uuid, String, bool) = (row.get(0), row.get(1), row.get(2));
        if !in_time && !hooks::disabled("reuse") || hooks::disabled("grace") {
            revoke_family(tx, self.user, self.family).await?;
            tx.event("session.reused", serde_json::json!({"user": self.user, "session": session}));
            return Ok(None);
        }
        let expires_in = tx.query_one(EXTEND, &[&successor]).await?.get(0);
        tx.event("session.refreshed", serde_json::json!({"user": self.user, "session": successor}));
        let secrets = derive(app, &token_key, successor, &self.token)?;
        Ok(Some(opened(None, self.user, successor, &secrets, expires_in)))
    }

    async fn open_successor(&self, tx: &mut Tx, app: &Ctx, request: &RequestContext) -> Result<Opened> {
        let (id, token_key) = (Uuid::now_v7(), app.config.keys(TOKEN_KEYS).first.clone());
        let new = NewSession {
            id,
            user: self.user,
            family: self.family,
            parent: Some(self.token.session),
            absolute_until: Some(self.absolute_until),
            secrets: derive(app, &token_key, id, &self.token)?,
            token_key,
        };
        let opened = new.open(tx, request, None).await?;
        tx.execute(MARK_REFRESHED, &[&self.token.session]).await?;
        tx.event("session.refreshed", serde_json::json!({"user": self.user, "session": id}));
        Ok(opened)
    }
}

fn derive(app: &Ctx, key_id: &str, successor: Uuid, parent: &RefreshToken) -> Result<Secrets> {
    let key = app.config.keys(TOKEN_KEYS).get(key_id);
    let key =
        key.ok_or_else(|| Error::internal("token keys", &"a key that sessions were derived with is gone"))?;
    Ok(successor_secrets(key, successor, parent))
}

pub struct RefreshToken {
    pub session: Uuid,
    pub secret: [u8; 32],
}

impl RefreshToken {
    pub fn parse(text: &str) -> Option<RefreshToken> {
        let (session, secret) = text.split_once('.')?;
        let secret = URL_SAFE_NO_PAD.decode(secret).ok()?.try_into().ok()?;
        Some(RefreshToken { session: parse_id(session)?, secret })
    }

    pub fn render(&self) -> String {
        format!("{}.{}", self.session, URL_SAFE_NO_PAD.encode(self.secret))
    }

    /// Whether this is the token that was hashed.
    pub fn matches(&self, hash: &str) -> bool {
        hash_secret(&self.secret).as_bytes().ct_eq(hash.as_bytes()).into()
    }
}

/// The secrets of a session that succeeds `parent`.
fn successor_secrets(key: &[u8], successor: Uuid, parent: &RefreshToken) -> Secrets {
    let derive = |purpose: &[u8]| keyed_hash(key, &[purpose, successor.as_bytes(), &parent.secret]);
    Secrets { session: derive(b"session"), refresh: derive(b"refresh") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_refresh_token_has_one_spelling(session: u128, secret: [u8; 32], at: usize, bit in 0..8u8) {
            let text = RefreshToken { session: Uuid::from_u128(session), secret }.render();
            let hash = hash_secret(&secret);
            prop_assert!(RefreshToken::parse(&text).is_some_and(|token| token.matches(&hash)));
            let mut bytes = text.into_bytes();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            if let Some(token) = std::str::from_utf8(&bytes).ok().and_then(RefreshToken::parse) {
                prop_assert!(token.session != Uuid::from_u128(session) || !token.matches(&hash));
                prop_assert_eq!(token.render().into_bytes(), bytes);
            }
        }

        #[test]
        fn whatever_comes_as_a_refresh_token_is_told_from_one(text in "[0-9a-fA-F-]{36}[.][A-Za-z0-9_=-]{40,46}|\\PC*") {
            if let Some(token) = RefreshToken::parse(&text) {
                prop_assert_eq!(token.render(), text);
            }
        }
    }

    #[test]
    fn a_retry_derives_the_same_successor_and_nothing_else_does() {
        let parent = || RefreshToken { session: Uuid::from_u128(1), secret: [3; 32] };
        let derive = |key: &[u8], id| {
            let secrets = successor_secrets(key, Uuid::from_u128(id), &parent());
            (secrets.session, secrets.refresh)
        };
        let first = derive(&[1; 32], 2);
        assert_eq!(first, derive(&[1; 32], 2));
        assert_ne!(first.0, first.1);
        assert_ne!(first, derive(&[2; 32], 2));
        assert_ne!(first, derive(&[1; 32], 3));
    }

    #[test]
    fn tokens_round_trip() {
        let token = RefreshToken { session: Uuid::from_u128(1), secret: [3; 32] };
        let parsed = RefreshToken::parse(&token.render()).unwrap();
        assert_eq!((parsed.session, parsed.secret), (token.session, token.secret));
        assert!(RefreshToken::parse("x.y").is_none());
    }
}
