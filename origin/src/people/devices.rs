//! The token by which a device shows that somebody has logged in to an account from it: `<id>.<key>.<signature>`.
//!
//! A log-in with one has tries of its own, whoever else tries to log in to the account meanwhile. It opens nothing: the
//! password is asked for all the same. Nothing is stored: the signature covers the account and the number of its password,
//! so a change of the password voids every token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use optimist_plane::config::Keys;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::keyed_hash;
use optimist_shared::ids::{Uuid, parse_id};
use subtle::ConstantTimeEq as _;

/// How many seconds a token is good for: half a year. Its id tells when it was made.
const GOOD_FOR: u64 = 180 * 24 * 60 * 60;

/// The account that a token is for.
#[derive(Clone, Copy)]
pub struct Account {
    pub user: Uuid,
    /// Counts the changes of its password.
    pub password_version: i64,
}

impl Account {
    /// A new device's token.
    pub fn new_device(self, keys: &Keys) -> Result<String> {
        let token = self.render(keys, &keys.first, Uuid::now_v7());
        token.ok_or_else(|| Error::internal("token keys", &"there is none"))
    }

    /// The device that a token shows; `None` if the token is another account's, void, too old or none at all.
    pub fn device(self, keys: &Keys, token: &str, now_ms: u64) -> Option<Uuid> {
        let (id, rest) = token.split_once('.')?;
        let (key, _) = rest.rsplit_once('.')?;
        let id = parse_id(id)?;
        let is_genuine: bool = self.render(keys, key, id)?.as_bytes().ct_eq(token.as_bytes()).into();
        let (made, _) = id.get_timestamp()?.to_unix();
        (is_genuine && made + GOOD_FOR > now_ms / 1000).then_some(id)
    }

    /// `None` if there is no key of this id.
    fn render(self, keys: &Keys, key: &str, id: Uuid) -> Option<String> {
        let version = self.password_version.to_be_bytes();
        let signature =
            keyed_hash(keys.get(key)?, &[b"device", self.user.as_bytes(), id.as_bytes(), &version]);
        Some(format!("{id}.{key}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: &str = "k.1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    const SECOND: &str = "k2:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

    fn ring(keys: &[&str]) -> Keys {
        Keys::parse("TOKEN_KEYS", &keys.join(",")).unwrap()
    }

    fn keys() -> Keys {
        ring(&[FIRST, SECOND])
    }

    const ADA: Account = Account { user: Uuid::from_u128(1), password_version: 1 };
    /// Before any id of version 7 that a test makes is too old.
    const NOW: u64 = 0;

    #[test]
    fn a_token_is_good_for_its_account_until_the_password_changes() {
        let token = ADA.new_device(&keys()).unwrap();
        assert!(ADA.device(&keys(), &token, NOW).is_some());
        let (bo, later) =
            (Account { user: Uuid::from_u128(2), ..ADA }, Account { password_version: 2, ..ADA });
        assert!(bo.device(&keys(), &token, NOW).is_none());
        assert!(later.device(&keys(), &token, NOW).is_none());
        assert!(ADA.device(&ring(&[SECOND, FIRST]), &token, NOW).is_some(), "after a rotation");
        assert!(ADA.device(&ring(&[SECOND]), &token, NOW).is_none());
        let made = u64::try_from(chrono::Utc::now().timestamp_millis()).unwrap();
        assert!(ADA.device(&keys(), &token, made + GOOD_FOR * 1000 - 60_000).is_some());
        assert!(ADA.device(&keys(), &token, made + GOOD_FOR * 1000 + 60_000).is_none());
        for bad in ["", ".", "..", "a.b.c", &token[1..], &token[..token.len() - 1]] {
            assert!(ADA.device(&keys(), bad, NOW).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_token_has_one_spelling(at: usize, bit in 0..8u8) {
            let token = ADA.new_device(&keys()).unwrap();
            let mut bytes = token.into_bytes();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            if let Ok(other) = std::str::from_utf8(&bytes) {
                prop_assert!(ADA.device(&keys(), other, NOW).is_none());
            }
        }

        #[test]
        fn whatever_comes_as_a_token_is_told_from_one(text in "[0-9a-f-]{36}[.]k2[.][A-Za-z0-9_=-]{40,46}|\\PC*") {
            prop_assert!(ADA.device(&keys(), &text, NOW).is_none());
        }
    }
}
