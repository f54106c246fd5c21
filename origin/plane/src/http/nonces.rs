//! Nonces of signed requests, each good once per process.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Nonces of the last minute: each is good once per process.
#[derive(Default)]
pub struct Nonces {
    /// Nonce, and the Unix second after which it may be forgotten.
    seen: Mutex<(HashMap<String, u64>, u64)>,
}

impl Nonces {
    /// Whether a nonce is new. Now and then it forgets those that no valid signature can carry any more.
    pub fn is_new(&self, nonce: String, expires: u64, now: u64) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (nonces, swept) = &mut *seen;
        // Signatures live for seconds: a sweep every ten bounds the memory by the rate of requests.
        if now >= *swept + 10 {
            nonces.retain(|_, expires| *expires >= now);
            *swept = now;
        }
        nonces.insert(nonce, expires).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_once_until_it_is_forgotten() {
        let nonces = Nonces::default();
        assert!(nonces.is_new("a".to_owned(), 130, 100));
        assert!(!nonces.is_new("a".to_owned(), 130, 130));
        assert!(nonces.is_new("b".to_owned(), 200, 145), "the sweep forgets what has expired");
        assert!(nonces.is_new("a".to_owned(), 200, 146));
    }
}
