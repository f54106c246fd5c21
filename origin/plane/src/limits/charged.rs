//! What was charged for a request, to be settled with its outcome.

use axum::http::{HeaderMap, HeaderValue};
use optimist_shared::limits::{Counts, LimitRow, LimitState, Precision, policy_header, state_header};

use crate::error::Error;

/// What was charged for a request, to be settled with its outcome.
pub struct Charged {
    pub rows: Vec<&'static LimitRow>,
    pub keys: Vec<String>,
    pub entry: String,
    pub states: Vec<LimitState>,
    /// Counted by this process alone, without Redis.
    pub in_memory: bool,
    /// This request made its entry; a retry's is somebody else's.
    pub is_own: bool,
}

impl Charged {
    /// The keys from which an attempt that ended with this status is given back, where their limits' rows say so.
    pub fn refundable(&self, status: u16) -> Vec<&str> {
        if status < 400 || !self.is_own {
            return Vec::new();
        }
        let refunds = |row: &LimitRow| row.counts == Counts::Successes && row.precision == Precision::Exact;
        self.rows
            .iter()
            .zip(&self.keys)
            .filter(|(row, _)| refunds(row))
            .map(|(_, key)| key.as_str())
            .collect()
    }

    pub fn add_headers(&self, headers: &mut HeaderMap) {
        let values =
            [("ratelimit-policy", policy_header(&self.rows)), ("ratelimit", state_header(&self.states))];
        for (name, value) in values {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
    }
}

/// 429, counted for the metrics.
pub fn refusal(policy: String, retry_after: u64) -> Error {
    metrics::counter!("optimist_limited_total", "policy" => policy.clone()).increment(1);
    Error::limited(policy, retry_after)
}
