//! Says what a request was charged, which keys are given back if it fails, and which headers its answer bears; makes the
//! refusal. It neither charges nor gives back: [`super::charge`] does.

use axum::http::{HeaderMap, HeaderValue};
use optimist_shared::limits::{LimitState, given_back, policy_header, state_header};
use optimist_shared::scripts::limit::Charge;

use crate::error::Error;

/// The charges of a request, to be settled with its outcome.
pub struct Charged {
    pub charge: Charge,
    pub states: Vec<LimitState>,
    /// Counted by this process alone, without Redis.
    pub in_memory: bool,
    /// This request added its entry; a retry only finds it.
    pub is_own: bool,
}

impl Charged {
    /// The keys from which an attempt that ended with this status is given back, where their limits' rows say so.
    pub fn refundable(&self, status: u16) -> Vec<String> {
        if status < 400 || !self.is_own { Vec::new() } else { self.charge.refundable() }
    }

    /// The states of the limits, as they are after an answer of this status.
    pub fn add_headers(&self, headers: &mut HeaderMap, status: u16) {
        let mut states = self.states.clone();
        if !self.refundable(status).is_empty() {
            given_back(&mut states, &self.charge.refundable_rows());
        }
        let values =
            [("ratelimit-policy", policy_header(&self.charge.rows)), ("ratelimit", state_header(&states))];
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
