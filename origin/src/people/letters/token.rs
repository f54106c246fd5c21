//! The tokens in mails: 32 random bytes, of which Postgres keeps the hash. Each is good once, and for a time.
//!
//! A token proves that its bearer reads the mails of an address, and nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::sent::Secret;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::session::hex;
use sha2::{Digest, Sha256};
use tokio_postgres::Row;

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To make the account that somebody has asked for.
    Register,
    /// To show that an account's address is its owner's.
    Verify,
    /// To give an account another address.
    Change,
    /// To set a password without knowing the present one.
    Reset,
}

impl Purpose {
    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::Register => "register",
            Purpose::Verify => "verify",
            Purpose::Change => "change",
            Purpose::Reset => "reset",
        }
    }

    /// How long a token is good. Whoever holds one to reset a password holds the account.
    pub fn hours(self) -> i32 {
        match self {
            Purpose::Register | Purpose::Verify | Purpose::Change => 24,
            Purpose::Reset => 1,
        }
    }
}

/// As a client sends it.
pub type SentToken = Secret<1, 100>;

/// A new token.
pub fn random() -> Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| Error::internal("random", &error))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// What Postgres keeps of it. It needs no key: nobody guesses 32 random bytes.
pub fn hash(token: &str) -> String {
    hex(&Sha256::digest(token))
}

statements! {
    /// What an unused token that has not expired is good for. One to reset a password is void once that or the address has changed.
    pub const FIND: &str = "-- letters::find_token
select purpose, account_tokens.email, user_id, registration_id, users.password_version
from account_tokens left join users on users.id = user_id
where hash = $1 and expires_at > now()
  and (user_id is null or users.status = 'active')
  and (purpose <> 'reset'
       or account_tokens.password_version = users.password_version and lower(users.email) = lower(account_tokens.email))";

    /// Uses a token up, unless somebody else has.
    const SPEND: &str = "-- letters::spend_token
delete from account_tokens where hash = $1 and expires_at > now()";
}

/// 422 for a token that is used, too old, void or none at all: which of them, nobody learns.
pub fn refused() -> Error {
    Error::invalid("token", "is not good, or not any more: ask for another mail")
}

/// Uses a token up.
pub async fn spend(tx: &Tx, hash: &str) -> Result<()> {
    match tx.execute(SPEND, &[&hash]).await? {
        0 => Err(refused()),
        _ => Ok(()),
    }
}

/// The purpose in a row of [`FIND`].
pub fn purpose(row: &Row) -> Option<Purpose> {
    let name: &str = row.get("purpose");
    [Purpose::Register, Purpose::Verify, Purpose::Change, Purpose::Reset]
        .into_iter()
        .find(|purpose| purpose.as_str() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_fit_their_type() {
        let (one, other) = (random().unwrap(), random().unwrap());
        assert_ne!(one, other);
        assert_eq!((one.len(), hash(&one).len()), (43, 64));
        assert!(serde_json::from_value::<SentToken>(one.into()).is_ok());
    }
}
