//! Session tokens, and a session as Redis holds it.
//!
//! A token is opaque to clients: `<user>.<session>.<secret>`, two ids and 32 random bytes in base64url. Only a hash of the
//! secret is stored anywhere.

use std::fmt;

use crate::ids::{Uuid, parse_digits, parse_id};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Milliseconds of idleness after which a session is over.
pub const IDLE_MS: u64 = 30 * 60 * 1000;
/// Milliseconds after which a session ends, however busy it is: 30 days.
pub const ABSOLUTE_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// Milliseconds between two notes to Postgres that a session is in use.
pub const WRITE_BACK_MS: u64 = 5 * 60 * 1000;

/// A parsed token: well-formed, not verified.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token {
    pub user: Uuid,
    pub session: Uuid,
    pub secret: [u8; 32],
}

impl Token {
    /// Parses the text after `Bearer `.
    pub fn parse(text: &str) -> Option<Token> {
        let mut parts = text.split('.');
        let (user, session, secret) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || secret.len() != 43 {
            return None;
        }
        let secret = URL_SAFE_NO_PAD.decode(secret).ok()?.try_into().ok()?;
        Some(Token { user: parse_id(user)?, session: parse_id(session)?, secret })
    }

    /// Parses an `Authorization` header.
    pub fn from_authorization(header: &str) -> Option<Token> {
        let (scheme, token) = header.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| Token::parse(token.trim())).flatten()
    }

    pub fn render(&self) -> String {
        format!("{}.{}.{}", self.user, self.session, URL_SAFE_NO_PAD.encode(self.secret))
    }

    /// The stored form of the secret: its SHA-256, 64 hex digits. (A fast hash is enough: the secret is random.)
    pub fn secret_hash(&self) -> String {
        hash_secret(&self.secret)
    }
}

/// Leaves the secret out, so that no log gets it.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Token { user, session, .. } = self;
        f.debug_struct("Token").field("user", user).field("session", session).finish_non_exhaustive()
    }
}

pub fn hash_secret(secret: &[u8; 32]) -> String {
    hex(&Sha256::digest(secret))
}

/// SHA-256 over parts, each preceded by its length: 64 hex digits.
fn digest_parts(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
        .collect()
}

/// The name under which limits remember an attempt that has no other name: the random half of its request's id, 16 digits.
/// Edge and origin thus charge it once, even when the edge gives up on a trip to Redis that still arrives there.
pub fn request_entry(request_id: &str) -> String {
    request_id.chars().filter(|digit| *digit != '-').skip(16).collect()
}

/// The name under which limits remember an attempt, so that a retry with the same idempotency key finds it: 32 digits.
pub fn attempt_entry(user: Uuid, route: &str, idempotency_key: &str) -> String {
    let mut entry = digest_parts(&[user.as_bytes(), route.as_bytes(), idempotency_key.as_bytes()]);
    entry.truncate(32);
    entry
}

/// The name under which the limit of auto-saves remembers a save. All saves of a draft within two minutes share it: someone
/// who writes for hours is charged thirty times an hour, someone who opens draft after draft once for each.
pub fn autosave_entry(user: Uuid, draft: Uuid, now_ms: u64) -> String {
    const CHARGED_EVERY_MS: u64 = 120_000;
    let turn = (now_ms / CHARGED_EVERY_MS).to_be_bytes();
    let mut entry = digest_parts(&[b"autosave", user.as_bytes(), draft.as_bytes(), &turn]);
    entry.truncate(32);
    entry
}

/// The body of a session's envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedSession {
    /// See [`Token::secret_hash`].
    pub secret_hash: String,
    pub written_back_ms: u64,
    pub absolute_until_ms: u64,
}

impl CachedSession {
    pub fn encode(&self) -> String {
        format!("{}{:014}{:014}", self.secret_hash, self.written_back_ms, self.absolute_until_ms)
    }

    pub fn decode(body: &str) -> Option<CachedSession> {
        if body.len() != crate::envelope::SESSION_BODY || !body.is_ascii() {
            return None;
        }
        Some(CachedSession {
            secret_hash: body[..64].to_owned(),
            written_back_ms: parse_digits(&body[64..78], 14)?,
            absolute_until_ms: parse_digits(&body[78..], 14)?,
        })
    }
}

/// The answer of `GET /v1/auth/session`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SessionInfo {
    pub user_id: Uuid,
    pub session_id: Uuid,
    /// Seconds until the session is over if it stays idle.
    pub expires_in: u64,
}

/// A person's role in a circle, as `membership` keys hold it and as the edge tells the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Owner,
    Moderator,
    Member,
    /// Known not to be a member, whereas an absent key leaves that open.
    None,
    /// Not a member, and may not become one.
    Banned,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Owner => "owner",
            Role::Moderator => "moderator",
            Role::Member => "member",
            Role::None => "none",
            Role::Banned => "banned",
        }
    }

    pub fn parse(text: &str) -> Option<Role> {
        [Role::Owner, Role::Moderator, Role::Member, Role::None, Role::Banned]
            .into_iter()
            .find(|role| role.as_str() == text)
    }

    /// The `role` of an answer, as JSON: the name of a member's role, or null.
    pub fn overlay(role: Option<Role>) -> String {
        // The names are plain words.
        let member = role.filter(|role| role.is_member());
        member.map_or_else(|| "null".to_owned(), |role| format!("\"{}\"", role.as_str()))
    }

    pub fn is_member(self) -> bool {
        matches!(self, Role::Owner | Role::Moderator | Role::Member)
    }
}

/// Who may read a circle besides its members, as `circle:…:access` holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone signed in.
    Public,
    /// Nobody: for others the circle does not exist.
    Private,
    /// Nobody, and nothing in the circle changes any more.
    Archived,
}

impl Access {
    pub fn as_str(self) -> &'static str {
        match self {
            Access::Public => "public",
            Access::Private => "private",
            Access::Archived => "archived",
        }
    }

    pub fn parse(text: &str) -> Option<Access> {
        [Access::Public, Access::Private, Access::Archived].into_iter().find(|access| access.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens() -> impl Strategy<Value = Token> {
        any::<(u128, u128, [u8; 32])>().prop_map(|(user, session, secret)| Token {
            user: Uuid::from_u128(user),
            session: Uuid::from_u128(session),
            secret,
        })
    }

    proptest! {
        #[test]
        fn every_token_parses_in_one_spelling(token in tokens(), at: usize, bit in 0..8u8) {
            let text = token.render();
            prop_assert_eq!(Token::parse(&text), Some(token));
            let mut bytes = text.into_bytes();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            if let Some(other) = std::str::from_utf8(&bytes).ok().and_then(Token::parse) {
                prop_assert_ne!(other, token);
                prop_assert_eq!(other.render().into_bytes(), bytes);
            }
        }

        #[test]
        fn whatever_comes_as_a_token_is_told_from_one(
            header in "([Bb]earer )?[ ]?([0-9a-fA-F-]{36}[.]){0,3}[-_=0-9A-Za-z]{40,46}|\\PC*",
        ) {
            if let Some(token) = Token::parse(&header) {
                prop_assert_eq!(token.render(), header);
            } else if let Some(token) = Token::from_authorization(&header) {
                prop_assert!(header.ends_with(&token.render()) || header.ends_with(' '));
            }
        }

        #[test]
        fn a_cached_session_has_one_spelling(body in "[0-9a-f]{64}[+0-9]{28}|\\PC{92}") {
            if let Some(session) = CachedSession::decode(&body) {
                prop_assert_eq!(session.encode(), body);
            }
        }
    }

    #[test]
    fn tokens_round_trip_and_nothing_else_parses() {
        let token = Token { user: Uuid::from_u128(1), session: Uuid::from_u128(2), secret: [7; 32] };
        let text = token.render();
        assert_eq!(Token::parse(&text), Some(token));
        assert_eq!(Token::from_authorization(&format!("bearer {text}")), Some(token));
        for bad in
            ["", "a.b.c", &text[1..], &format!("{text}A"), &format!("{text}.x"), &text.replace('.', "-")]
        {
            assert_eq!(Token::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_printed_token_shows_its_ids_and_not_its_secret() {
        let secret = std::array::from_fn(|at| 201 + at as u8);
        let token = Token { user: Uuid::from_u128(1), session: Uuid::from_u128(2), secret };
        for printed in [format!("{token:?}"), format!("{token:#?}")] {
            assert!(printed.contains(&token.user.to_string()), "{printed}");
            assert!(printed.contains(&token.session.to_string()), "{printed}");
            let spelled = [URL_SAFE_NO_PAD.encode(secret), hex(&secret), token.secret_hash()];
            assert!(!spelled.iter().any(|secret| printed.contains(secret)), "{printed}");
            assert!(!secret.iter().any(|byte| printed.contains(&byte.to_string())), "{printed}");
        }
    }

    #[test]
    fn cached_sessions_round_trip() {
        let session = CachedSession {
            secret_hash: hash_secret(&[7; 32]),
            written_back_ms: 5,
            absolute_until_ms: 1_800_000_000_000,
        };
        assert_eq!(CachedSession::decode(&session.encode()), Some(session));
        assert_eq!(CachedSession::decode("short"), None);
    }
}
