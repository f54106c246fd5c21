//! A session's two secrets, and the refresh token that carries one of them: `<session>.<secret>`.
//!
//! Nothing here is stored: only hashes of the secrets are. A successor's secrets are HMACs of its parent's under a server
//! key, so that a repeated refresh yields the same successor.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use optimist_shared::ids::{Uuid, parse_id};
use optimist_shared::session::hash_secret;
use subtle::ConstantTimeEq as _;

use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::keyed_hash;

/// The ring of server keys that session secrets and invitations are derived with; the first key derives new ones.
pub const TOKEN_KEYS: &str = "token_keys";

/// A session's secrets, while they are on their way to the client.
#[derive(Clone)]
pub struct Secrets {
    pub session: [u8; 32],
    pub refresh: [u8; 32],
}

impl Secrets {
    /// Those of a session that succeeds none.
    pub fn random() -> Result<Secrets> {
        let mut secrets = Secrets { session: [0; 32], refresh: [0; 32] };
        getrandom::fill(&mut secrets.session)
            .and_then(|()| getrandom::fill(&mut secrets.refresh))
            .map_err(|error| Error::internal("randomness", &error))?;
        Ok(secrets)
    }

    /// Those of the session that succeeds `parent`, under the server key of this id.
    pub fn derive(ctx: &Ctx, key_id: &str, successor: Uuid, parent: &RefreshToken) -> Result<Secrets> {
        let key = ctx.config.keys(TOKEN_KEYS).get(key_id);
        let key = key
            .ok_or_else(|| Error::internal("token keys", &"a key that sessions were derived with is gone"))?;
        Ok(Secrets::under(key, successor, parent))
    }

    fn under(key: &[u8], successor: Uuid, parent: &RefreshToken) -> Secrets {
        let derive = |purpose: &[u8]| keyed_hash(key, &[purpose, successor.as_bytes(), &parent.secret]);
        Secrets { session: derive(b"session"), refresh: derive(b"refresh") }
    }
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

    /// Whether the hash is this token's. Takes the same time either way.
    pub fn matches(&self, hash: &str) -> bool {
        hash_secret(&self.secret).as_bytes().ct_eq(hash.as_bytes()).into()
    }
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
            let secrets = Secrets::under(key, Uuid::from_u128(id), &parent());
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
