//! The checks of tokens that are under way: each address has a few at a time, and its others wait.
//!
//! State only; [`super::charge`] decides what is checked, and counts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

/// Checks of one address at a time: a check is a query of a millisecond, and the pool has connections for others.
const AT_ONCE: usize = 8;

/// The addresses whose tokens are being checked.
#[derive(Default)]
pub struct Checks {
    by_client: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Checks {
    /// Runs a check in its address's turn.
    pub async fn in_turn<T>(&self, client: &str, check: impl Future<Output = T>) -> T {
        let new = || Arc::new(Semaphore::new(AT_ONCE));
        let turns = self.lock().entry(client.to_owned()).or_insert_with(new).clone();
        let checked = {
            // It is never closed; without a turn the check would still be right.
            let _turn = turns.acquire().await;
            check.await
        };
        let mut by_client = self.lock();
        // Only the map and this caller hold it.
        if Arc::strong_count(&turns) == 2 {
            by_client.remove(client);
        }
        checked
    }

    /// Ignores poisoning: a panic under the lock leaves the map usable.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Semaphore>>> {
        self.by_client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn an_address_has_a_few_checks_at_a_time_and_all_get_their_turn() {
        let checks = Checks::default();
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let check = |client| {
            checks.in_turn(client, async {
                let under_way = now.fetch_add(1, Ordering::Relaxed) + 1;
                most.fetch_max(under_way, Ordering::Relaxed);
                tokio::task::yield_now().await;
                now.fetch_sub(1, Ordering::Relaxed);
            })
        };
        join_all((0..2_000).map(|_| check("192.0.2.1"))).await;
        assert_eq!(most.load(Ordering::Relaxed), AT_ONCE);
        join_all((0..20).flat_map(|_| ["192.0.2.1", "192.0.2.2"]).map(check)).await;
        assert_eq!(most.load(Ordering::Relaxed), 2 * AT_ONCE, "addresses do not wait for each other");
        assert!(checks.lock().is_empty(), "nobody waits");
    }
}
