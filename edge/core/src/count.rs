//! Counters for the metrics: reads that hit and missed, and refusals. The origin reads them.

use optimist_shared::ids::Partition;
use optimist_shared::keys::Key;

use crate::host::{Command, Host, Request};
use crate::passage::Passage;

impl<H: Host, R: Request> Passage<'_, H, R> {
    /// Counts a cached read. One in sixteen is counted, as sixteen.
    pub fn count_read(&self, outcome: &str) {
        let Some(key) = self.cached_key().filter(|_| self.exchange.request_id.ends_with('0')) else { return };
        self.count(&format!("{outcome}:{}", key.row().data_type), "16");
    }

    /// Adds to a counter after the response.
    pub fn count(&self, counter: &str, by: &str) {
        count(self.host, counter, by);
    }
}

/// Adds to a counter after the response.
pub fn count<H: Host>(host: &H, counter: &str, by: &str) {
    let counters = Key::Metrics.of_partition(Partition::COMMON).into_bytes();
    let seconds = Key::Metrics.row().kept_seconds().unwrap_or_default().to_string().into_bytes();
    let (counter, by) = (counter.as_bytes().to_vec(), by.as_bytes().to_vec());
    host.redis_after_response(
        "",
        vec![
            Command(vec![b"HINCRBY".to_vec(), counters.clone(), counter, by]),
            Command(vec![b"EXPIRE".to_vec(), counters, seconds, b"NX".to_vec()]),
        ],
    );
}
