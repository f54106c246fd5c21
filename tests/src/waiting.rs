//! Waiting for what happens by itself. A deadline here ends a test that would hang, on the slowest machine too: how soon
//! things happen is for benchmarks to say.

use std::time::{Duration, Instant};

/// When a test that still waits has failed.
#[must_use]
pub fn patience() -> Instant {
    Instant::now() + Duration::from_secs(150)
}

/// Waits until something is so; fails with `what` was not.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = patience();
    while !is_so().await {
        assert!(Instant::now() < deadline, "never came about: {what}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}
