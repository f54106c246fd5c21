//! Counters for the metrics: reads that hit and missed, and refusals. They wait in the instance until a trip to Redis takes them
//! along, so no counter costs a trip. The origin reads them.

use std::cell::RefCell;
use std::collections::BTreeMap;

use optimist_shared::ids::Partition;
use optimist_shared::keys::Key;

use crate::host::{Command, Host, Request};
use crate::passage::Passage;

/// Of so many cached reads one is counted, as so many.
const SAMPLE: u64 = 64;

/// What was counted since the last trip.
#[derive(Default)]
pub struct Counts(RefCell<BTreeMap<String, u64>>);

impl Counts {
    /// Adds to a counter.
    pub fn add(&self, counter: String, by: u64) {
        *self.0.borrow_mut().entry(counter).or_default() += by;
    }

    /// The commands that tell Redis, each count once.
    pub fn take(&self) -> Vec<Command> {
        if self.0.borrow().is_empty() {
            return Vec::new();
        }
        let key = Key::Metrics.of_partition(Partition::COMMON).into_bytes();
        let seconds = Key::Metrics.row().kept_seconds().unwrap_or_default().to_string().into_bytes();
        let add = |(counter, by): (String, u64)| {
            let (counter, by) = (counter.into_bytes(), by.to_string().into_bytes());
            Command(vec![b"HINCRBY".to_vec(), key.clone(), counter, by])
        };
        let expire = Command(vec![b"EXPIRE".to_vec(), key.clone(), seconds, b"NX".to_vec()]);
        std::mem::take(&mut *self.0.borrow_mut()).into_iter().map(add).chain([expire]).collect()
    }
}

impl<H: Host, R: Request> Passage<'_, H, R> {
    /// Counts a sample of the cached reads.
    pub fn count_read(&self, outcome: &str) {
        let Some(key) = self.cached_key().filter(|_| self.is_sampled()) else { return };
        self.edge.counts.add(format!("{outcome}:{}", key.row().data_type), SAMPLE);
    }

    /// The id ends in random digits.
    fn is_sampled(&self) -> bool {
        let id = self.exchange.request_id.as_bytes();
        let last = id.len().checked_sub(2).and_then(|from| std::str::from_utf8(&id[from..]).ok());
        last.and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .is_some_and(|number| number % SAMPLE == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_told_once() {
        let counts = Counts::default();
        assert!(counts.take().is_empty());
        counts.add("hit:circle".to_owned(), SAMPLE);
        counts.add("hit:circle".to_owned(), SAMPLE);
        counts.add("limit:reads-60s".to_owned(), 1);
        let commands = counts.take();
        let text = |command: &Command| String::from_utf8(command.0.join(&b' ')).unwrap();
        let key = Key::Metrics.of_partition(Partition::COMMON);
        assert_eq!(commands.len(), 3, "and that the key expires");
        assert_eq!(text(&commands[0]), format!("HINCRBY {key} hit:circle 128"));
        assert_eq!(text(&commands[1]), format!("HINCRBY {key} limit:reads-60s 1"));
        assert!(counts.take().is_empty());
    }
}
