//! The clock: milliseconds for protocols, and the time of day, which tests may set ahead.

use chrono::{DateTime, Utc};

use crate::hooks;

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The time, for code that depends on days.
pub fn now() -> DateTime<Utc> {
    Utc::now() + hooks::ahead()
}
