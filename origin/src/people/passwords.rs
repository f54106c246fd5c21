//! Passwords hashed with Argon2id: on blocking threads, a bounded number at once, fairly by network and client, and as slowly for an unknown
//! account as for a known one.
//!
//! How long a password must be is for the requests' types to say. It is hashed in Unicode's composed form (NFC), since one
//! keyboard sends `é` as one character and another as two; the form in which it was typed is tried after that, for hashes
//! from before.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use optimist_shared::limits::Networks;
use unicode_normalization::UnicodeNormalization as _;

use crate::people::turns::{Turn, Turns};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hooks;

/// How long a log-in waits for its turn before it is refused with 503: less than the edge waits for the origin.
const PATIENCE: Duration = Duration::from_secs(8);

/// How many may wait for each turn. A hash takes some 30 milliseconds, and twice that on a busy machine: all of them are served
/// within the patience.
const WAITING_PER_TURN: usize = 128;

/// Accounts that are looked up for log-ins at once: a quarter of the connections to Postgres that an origin has by default, so that
/// a storm of log-ins leaves the others for everything else.
const LOOKED_UP_AT_ONCE: usize = 4;

/// How long a log-in waits to be looked up, which takes milliseconds.
const PATIENCE_TO_LOOK_UP: Duration = Duration::from_secs(2);

/// A hash in the hasher's own parameters whose password nobody knows. A log-in without an account is verified against it, which
/// takes as long as with one.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$H7AKGJwRGiIq/Fin3gjCEQ$3GjQmxhO9HKgj7L6OBNILuI9zJGw1aWNgzAfLNo103w";

/// The state of handlers that hash passwords. They share the hasher, and so its turns.
#[derive(Clone)]
pub struct Hashing {
    pub ctx: Ctx,
    pub passwords: Arc<Passwords>,
}

pub struct Passwords {
    hasher: Argon2<'static>,
    /// Hashes computed at once: all cores but one, so that a storm of log-ins leaves one for everything else.
    turns: Arc<Turns>,
    /// Log-ins that ask the stores for their account.
    looking_up: Arc<Turns>,
}

impl Default for Passwords {
    fn default() -> Passwords {
        // OWASP's Password Storage Cheat Sheet: 19 MiB, two passes, one lane.
        #[allow(clippy::expect_used)] // The numbers are within Argon2's bounds, as a test checks.
        let parameters = Params::new(19 * 1024, 2, 1, None).expect("Argon2 takes these parameters");
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let turns = (cores - 1).max(1);
        Passwords {
            hasher: Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters),
            turns: Turns::new(turns, turns * WAITING_PER_TURN),
            looking_up: Turns::new(LOOKED_UP_AT_ONCE, turns * WAITING_PER_TURN),
        }
    }
}

/// Whether a password fits a hash.
#[derive(Debug, PartialEq, Eq)]
pub enum Fit {
    No,
    Yes,
    /// It does, and this hash is to replace the stored one, which is of another form or of other parameters.
    Renewed(String),
}

impl Passwords {
    /// The hash to store, in PHC's string format. Clients take turns.
    pub async fn hash(&self, client: &str, password: String) -> Result<String> {
        let hasher = self.hasher.clone();
        self.take_turn(client, move || hash(&hasher, &composed(&password))).await?
    }

    /// Whether a password fits a hash. Without a hash the answer is no, and takes as long. Clients take turns.
    pub async fn verify(&self, client: &str, password: String, stored: Option<String>) -> Result<Fit> {
        let hasher = self.hasher.clone();
        let exists = stored.is_some();
        let stored = stored.unwrap_or_else(|| NOBODY.to_owned());
        let fit = self.take_turn(client, move || verify(&hasher, &password, &stored)).await??;
        Ok(if exists { fit } else { Fit::No })
    }

    /// A turn to look up the account of a log-in, before its password is verified. Without it a storm would wait for connections to
    /// Postgres in one line, and everybody else behind it.
    pub async fn look_up(&self, client: &str) -> Result<Turn> {
        wait_for_turn(&self.looking_up, client, PATIENCE_TO_LOOK_UP).await
    }

    async fn take_turn<T: Send + 'static>(
        &self,
        client: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let turn = wait_for_turn(&self.turns, client, PATIENCE).await?;
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        })
        .await
        .map_err(|error| Error::internal("argon2", &error))
    }
}

async fn wait_for_turn(turns: &Arc<Turns>, client: &str, patience: Duration) -> Result<Turn> {
    let busy = || Error::unavailable("The log-in").detail("Too many people are logging in at this moment.");
    let client = if hooks::disabled("rounds") { "everyone" } else { client };
    let waiting = turns.ask(&Networks::of(client).network, client).ok_or_else(busy)?;
    let Ok(Ok(turn)) = tokio::time::timeout(patience, waiting).await else { return Err(busy()) };
    Ok(turn)
}

fn composed(password: &str) -> String {
    password.nfc().collect()
}

fn hash(hasher: &Argon2<'_>, password: &str) -> Result<String> {
    let hash = hasher.hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|error| Error::internal("argon2", &error))
}

fn verify(hasher: &Argon2<'_>, typed: &str, stored: &str) -> Result<Fit> {
    let (Ok(parsed), Ok(current)) = (PasswordHash::new(stored), PasswordHash::new(NOBODY)) else {
        return Ok(Fit::No);
    };
    let fits = |password: &str| hasher.verify_password(password.as_bytes(), &parsed).is_ok();
    let composed = composed(typed);
    let is_current = (&parsed.algorithm, parsed.version, &parsed.params)
        == (&current.algorithm, current.version, &current.params);
    if fits(&composed) {
        return if is_current { Ok(Fit::Yes) } else { hash(hasher, &composed).map(Fit::Renewed) };
    }
    if composed != typed && fits(typed) {
        return hash(hasher, &composed).map(Fit::Renewed);
    }
    Ok(Fit::No)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "192.0.2.1";

    async fn fits(passwords: &Passwords, password: &str, hash: Option<&String>) -> Fit {
        passwords.verify(CLIENT, password.to_owned(), hash.cloned()).await.unwrap()
    }

    #[tokio::test]
    async fn whoever_finds_no_place_is_turned_away() {
        let passwords = Passwords::default();
        let _storm: Vec<_> = std::iter::from_fn(|| passwords.turns.ask("storm", "storm")).collect();
        let error = passwords.verify("storm", "anything".to_owned(), None).await.unwrap_err();
        assert_eq!(error.code, optimist_shared::error::ErrorCode::Unavailable);
    }

    #[tokio::test]
    async fn only_the_right_password_verifies() {
        let passwords = Passwords::default();
        let hash = passwords.hash(CLIENT, "correct horse".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_eq!(fits(&passwords, "correct horse", Some(&hash)).await, Fit::Yes);
        assert_eq!(fits(&passwords, "wrong horse", Some(&hash)).await, Fit::No);
        assert_eq!(fits(&passwords, "anything", None).await, Fit::No);
    }

    #[tokio::test]
    async fn a_password_is_the_same_however_a_keyboard_spells_it() {
        let passwords = Passwords::default();
        let (one, two) = ("pr\u{e9}cis\u{e9}ment", "pre\u{301}cise\u{301}ment");
        for (first, then) in [(one, two), (two, one)] {
            let hash = passwords.hash(CLIENT, first.to_owned()).await.unwrap();
            assert_eq!(fits(&passwords, then, Some(&hash)).await, Fit::Yes);
        }
    }

    #[tokio::test]
    async fn a_hash_of_the_typed_form_or_of_other_parameters_is_renewed() {
        let passwords = Passwords::default();
        let typed = "pre\u{301}cise\u{301}ment";
        let as_typed = hash(&passwords.hasher, typed).unwrap();
        let cheap = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8_192, 1, 1, None).unwrap());
        let cheap = hash(&cheap, &composed(typed)).unwrap();
        for old in [as_typed, cheap] {
            let Fit::Renewed(hash) = fits(&passwords, typed, Some(&old)).await else { panic!("{old}") };
            assert_eq!(fits(&passwords, typed, Some(&hash)).await, Fit::Yes);
            assert_eq!(fits(&passwords, "wrong", Some(&old)).await, Fit::No);
        }
    }

    /// Else an unknown account would be refused sooner than a known one.
    #[tokio::test]
    async fn the_hash_of_nobody_takes_as_much_work_as_any() {
        let hash = Passwords::default().hash(CLIENT, "anything".to_owned()).await.unwrap();
        let (known, nobody) = (PasswordHash::new(&hash).unwrap(), PasswordHash::new(NOBODY).unwrap());
        assert_eq!((&nobody.algorithm, nobody.version), (&known.algorithm, known.version));
        assert_eq!(nobody.params, known.params);
        let lengths =
            |hash: &PasswordHash| (hash.salt.map(|salt| salt.len()), hash.hash.map(|hash| hash.len()));
        assert_eq!(lengths(&nobody), lengths(&known));
    }
}
