//! Passwords hashed with Argon2id: on blocking threads, a bounded number at once, and as slowly for an unknown account as for
//! a known one.
//!
//! How long a password must be is for the requests' types to say.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

use optimist_plane::error::{Error, Result};

/// How long a log-in waits for its turn before it is refused with 503.
const PATIENCE: Duration = Duration::from_secs(4);

/// How many may wait for each turn. A hash takes some 30 milliseconds, so the last of them waits about a second.
const WAITING_PER_TURN: usize = 32;

/// A hash in the hasher's own parameters whose password nobody knows. A log-in without an account is verified against it, which
/// takes as long as with one.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$H7AKGJwRGiIq/Fin3gjCEQ$3GjQmxhO9HKgj7L6OBNILuI9zJGw1aWNgzAfLNo103w";

pub struct Passwords {
    hasher: Argon2<'static>,
    /// Hashes computed at once: all cores but one, so that a storm of log-ins leaves one for everything else.
    turns: Arc<Semaphore>,
    /// Room for the hashes under way and those that wait. A request that finds none is refused at once.
    places: Semaphore,
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
            turns: Arc::new(Semaphore::new(turns)),
            places: Semaphore::new(turns * (1 + WAITING_PER_TURN)),
        }
    }
}

impl Passwords {
    /// The hash to store, in PHC's string format.
    pub async fn hash(&self, password: String) -> Result<String> {
        let hasher = self.hasher.clone();
        self.take_turn(move || {
            let hash = hasher.hash_password(password.as_bytes());
            hash.map(|hash| hash.to_string()).map_err(|error| Error::internal("argon2", &error))
        })
        .await?
    }

    /// Whether a password fits a hash. Without a hash the answer is no, and takes as long.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<bool> {
        let hasher = self.hasher.clone();
        let exists = hash.is_some();
        let hash = hash.unwrap_or_else(|| NOBODY.to_owned());
        self.take_turn(move || {
            let parsed = PasswordHash::new(&hash);
            parsed.is_ok_and(|parsed| hasher.verify_password(password.as_bytes(), &parsed).is_ok()) && exists
        })
        .await
    }

    async fn take_turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let busy =
            || Error::unavailable("The log-in").detail("Too many people are logging in at this moment.");
        let _place = self.places.try_acquire().map_err(|_| busy())?;
        let turn = tokio::time::timeout(PATIENCE, self.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(busy()) };
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        })
        .await
        .map_err(|error| Error::internal("argon2", &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_storm_is_turned_away_rather_than_queued() {
        let passwords = Passwords::default();
        let places = passwords.places.available_permits() as u32;
        let _storm = passwords.places.acquire_many(places).await.unwrap();
        let error = passwords.verify("anything".to_owned(), None).await.unwrap_err();
        assert_eq!(error.code, optimist_shared::error::ErrorCode::Unavailable);
    }

    #[tokio::test]
    async fn only_the_right_password_verifies() {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(passwords.verify("correct horse".to_owned(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("wrong horse".to_owned(), Some(hash)).await.unwrap());
        assert!(!passwords.verify("anything".to_owned(), None).await.unwrap());
    }

    /// Else an unknown account would be refused sooner than a known one.
    #[tokio::test]
    async fn the_hash_of_nobody_takes_as_much_work_as_any() {
        let hash = Passwords::default().hash("anything".to_owned()).await.unwrap();
        let (known, nobody) = (PasswordHash::new(&hash).unwrap(), PasswordHash::new(NOBODY).unwrap());
        assert_eq!((&nobody.algorithm, nobody.version), (&known.algorithm, known.version));
        assert_eq!(nobody.params, known.params);
        let lengths =
            |hash: &PasswordHash| (hash.salt.map(|salt| salt.len()), hash.hash.map(|hash| hash.len()));
        assert_eq!(lengths(&nobody), lengths(&known));
    }
}
