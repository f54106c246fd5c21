//! A circuit breaker. A store that failed gets one attempt each half second, less often while attempts take long to fail. Its
//! loss and its return are logged once each.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::now_ms;
use crate::hooks;

/// Milliseconds between two attempts at a failed store, unless twice the last attempt's duration is longer.
const RETRY_AFTER_MS: u64 = 500;

pub struct Breaker {
    /// The store's name in the log.
    store: &'static str,
    /// Unix milliseconds until which no caller tries; 0 when closed.
    open_until: AtomicU64,
    lost: AtomicBool,
}

impl Breaker {
    pub const fn new(store: &'static str) -> Breaker {
        Breaker { store, open_until: AtomicU64::new(0), lost: AtomicBool::new(false) }
    }

    /// Whether to try: always while closed; when an attempt is due, the first caller makes it.
    pub fn admits(&self) -> bool {
        let until = self.open_until.load(Ordering::Relaxed);
        let now = now_ms();
        hooks::disabled("breaker")
            || until == 0
            || (now >= until
                && self
                    .open_until
                    .compare_exchange(until, now + RETRY_AFTER_MS, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok())
    }

    pub fn succeeded(&self) {
        if self.open_until.load(Ordering::Relaxed) != 0 {
            self.open_until.store(0, Ordering::Relaxed);
        }
        if self.lost.load(Ordering::Relaxed) && self.lost.swap(false, Ordering::Relaxed) {
            tracing::info!(store = self.store, "the store is back");
        }
    }

    pub fn failed(&self, took: Duration, why: &dyn std::fmt::Display) {
        let took_ms = u64::try_from(took.as_millis()).unwrap_or_default();
        self.open_until.store(now_ms() + RETRY_AFTER_MS.max(2 * took_ms), Ordering::Relaxed);
        if self.lost.swap(true, Ordering::Relaxed) {
            tracing::debug!(store = self.store, %why, "the store is still lost");
        } else {
            tracing::warn!(store = self.store, %why, "the store is lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_on_failure_and_closes_on_success() {
        let breaker = Breaker::new("test");
        assert!(breaker.admits() && breaker.admits());
        breaker.failed(Duration::ZERO, &"gone");
        assert!(!breaker.admits());
        breaker.open_until.store(1, Ordering::Relaxed);
        assert!(breaker.admits(), "one attempt");
        assert!(!breaker.admits(), "and no other with it");
        breaker.succeeded();
        assert!(breaker.admits() && breaker.admits());
    }
}
