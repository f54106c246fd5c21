//! Tickets: with one a client that an edge has admitted connects to the gateway directly, once, within half a minute.
//!
//! A ticket is signed by a key that the region's edges and origins share, and bound to the session and to the page that asked for it
//! (its `Origin`). It holds the client's address as the edge saw it, for the bounds.

use ::redis::{Cmd, Value};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::Key;
use sha2::Sha256;

use crate::clock::now_ms;
use crate::config::Keys;
use crate::ctx::Ctx;
use crate::error::{Error, Result};

/// Seconds that a ticket is good for.
pub const GOOD_FOR: u64 = 30;
/// Bytes of a ticket before the client's address.
const FIXED: usize = 16 + 16 + 16 + 8;

/// What a ticket says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub user: Uuid,
    pub session: Uuid,
    pub nonce: Uuid,
    /// The Unix second after which it is refused.
    pub expires: u64,
    pub client: String,
}

impl Ticket {
    pub fn new(user: Uuid, session: Uuid, client: &str) -> Ticket {
        let expires = now_ms() / 1000 + GOOD_FOR;
        Ticket { user, session, nonce: Uuid::now_v7(), expires, client: client.to_owned() }
    }

    /// The ticket's text, for pages of this origin.
    pub fn render(&self, keys: &Keys, origin: &str) -> Option<String> {
        let mut bytes = Vec::with_capacity(FIXED + self.client.len());
        for id in [self.user, self.session, self.nonce] {
            bytes.extend_from_slice(id.as_bytes());
        }
        bytes.extend_from_slice(&self.expires.to_be_bytes());
        bytes.extend_from_slice(self.client.as_bytes());
        let code = code(keys.get(&keys.first)?, &bytes, origin)?.finalize().into_bytes();
        Some(format!("{}.{}", URL_SAFE_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(code)))
    }

    /// A text that one of the keys has signed for this origin, and that is not too old.
    pub fn parse(text: &str, keys: &Keys, origin: &str, now: u64) -> Option<Ticket> {
        let (bytes, signed) = text.split_once('.')?;
        let (bytes, signed) = (URL_SAFE_NO_PAD.decode(bytes).ok()?, URL_SAFE_NO_PAD.decode(signed).ok()?);
        let is_ours = keys
            .all()
            .any(|key| code(key, &bytes, origin).is_some_and(|code| code.verify_slice(&signed).is_ok()));
        if !is_ours || bytes.len() < FIXED {
            return None;
        }
        let id = |at: usize| Uuid::from_slice(&bytes[at..at + 16]).ok();
        let expires = u64::from_be_bytes(bytes[48..FIXED].try_into().ok()?);
        let client = String::from_utf8(bytes[FIXED..].to_vec()).ok()?;
        let ticket = Ticket { user: id(0)?, session: id(16)?, nonce: id(32)?, expires, client };
        (ticket.expires >= now).then_some(ticket)
    }
}

/// The code of a ticket. Other signatures by the same keys are over other texts.
fn code(key: &[u8], bytes: &[u8], origin: &str) -> Option<Hmac<Sha256>> {
    let mut code = Hmac::<Sha256>::new_from_slice(key).ok()?;
    code.update(b"optimist ticket\0");
    code.update(&(bytes.len() as u64).to_be_bytes());
    code.update(bytes);
    code.update(origin.as_bytes());
    Some(code)
}

/// Uses a ticket: 401 unless it is good, and was not used before. Without Redis it is good once in each process.
pub async fn redeem(ctx: &Ctx, text: &str, origin: &str) -> Result<Ticket> {
    let refused = || {
        Error::new(ErrorCode::Unauthenticated).detail("The ticket is used, too old, or not for this page.")
    };
    let now = now_ms() / 1000;
    let ticket = Ticket::parse(text, ctx.config.signing_keys(), origin, now).ok_or_else(refused)?;
    let key = Key::tickets(ticket.user, ticket.session).name();
    let (mut add, mut expire) = (Cmd::new(), Cmd::new());
    add.arg("SADD").arg(&key).arg(ticket.nonce.to_string());
    expire.arg("EXPIRE").arg(&key).arg(Key::Tickets.row().kept_seconds().unwrap_or_default());
    let is_new = match ctx.redis.send([add, expire]).await.map(|values| values.into_iter().next()) {
        Ok(Some(Value::Int(added))) => added == 1,
        _ => true,
    };
    // Here too: Redis may have been away, or emptied.
    let is_new = ctx.live.tickets.is_new(ticket.nonce.to_string(), ticket.expires, now) && is_new;
    if is_new { Ok(ticket) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "https://app.example.org";

    fn keys(byte: u8) -> Keys {
        let key = base64::engine::general_purpose::STANDARD.encode([byte; 32]);
        Keys::parse("signing_keys", &format!("k{byte}:{key}")).unwrap()
    }

    #[test]
    fn a_ticket_is_good_for_its_page_and_its_time_only() {
        let ticket = Ticket::new(Uuid::from_u128(1), Uuid::from_u128(2), "192.0.2.7");
        let text = ticket.render(&keys(1), ORIGIN).unwrap();
        let parse = |text: &str, by: u8, origin: &str, now| Ticket::parse(text, &keys(by), origin, now);
        assert_eq!(parse(&text, 1, ORIGIN, ticket.expires), Some(ticket.clone()));
        assert_eq!(parse(&text, 1, ORIGIN, ticket.expires + 1), None, "too late");
        assert_eq!(parse(&text, 2, ORIGIN, ticket.expires), None, "another key");
        assert_eq!(parse(&text, 1, "https://evil.example", ticket.expires), None, "another page");
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            let is_same = other == text || parse(&other, 1, ORIGIN, 0).is_some_and(|parsed| parsed == ticket);
            assert!(parse(&other, 1, ORIGIN, 0).is_none() || is_same, "{at}");
        }
    }
}
