//! Refresh tokens: `<session>.<secret>`, and how a successor follows from one.
//!
//! A successor's secrets are HMACs of the parent's under a server key: a client that repeats a refresh whose answer was lost
//! gets the same successor, though only hashes are stored.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use optimist_shared::ids::{Uuid, parse_id};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::Secrets;

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
        optimist_shared::session::hash_secret(&self.secret).as_bytes().ct_eq(hash.as_bytes()).into()
    }
}

/// The secrets of a session that succeeds `parent`.
pub fn successor_secrets(key: &[u8], successor: Uuid, parent: &RefreshToken) -> Secrets {
    let derive = |purpose: &[u8]| tag(key, &[purpose, successor.as_bytes(), &parent.secret]);
    Secrets { session: derive(b"session"), refresh: derive(b"refresh") }
}

/// HMAC-SHA-256 over parts.
pub fn tag(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes a key of any length.
    #[allow(clippy::expect_used)]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC accepts any key length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

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
