//! Limits in memory, for when Redis cannot be asked.
//!
//! State only; [`super::charge`] decides when to use it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use optimist_shared::limits::{LimitState, Precision};
use optimist_shared::scripts::limit::Charge;

use crate::error::Result;
use crate::limits::charged::{Charged, refusal};

/// Keys counted in memory at once. Beyond, the map is swept; if it is still full it is cleared: limits fail open.
const MEMORY_KEYS: usize = 100_000;

/// Limits in memory: per process, and as exact as in Redis.
#[derive(Default)]
pub struct Memory {
    entries: Mutex<Entries>,
}

impl Memory {
    pub fn charge(&self, charge: Charge, now: u64) -> Result<Charged> {
        self.lock().charge(charge, now)
    }

    pub fn give_back(&self, key: &str, entry: &str) {
        self.lock().give_back(key, entry);
    }

    pub fn states(&self, charge: &Charge, now: u64) -> Vec<LimitState> {
        self.lock().states(charge, now)
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Entries by key, each with its time and name.
#[derive(Default)]
struct Entries {
    by_key: HashMap<String, VecDeque<(u64, String)>>,
}

impl Entries {
    fn charge(&mut self, charge: Charge, now: u64) -> Result<Charged> {
        let Charge { rows, keys, entry } = &charge;
        let mut found = vec![false; rows.len()];
        for ((row, key), found) in rows.iter().zip(keys).zip(&mut found) {
            let Some(entries) = self.by_key.get_mut(key) else { continue };
            let retried = format!("{entry}!");
            let keep = u64::from(row.longest_window()) * 1000;
            // An entry that has left every window is not found, and a counter's entries have no names.
            let known =
                |(at, name): &&mut (u64, String)| *at + keep > now && (*name == *entry || *name == retried);
            if row.precision == Precision::Exact
                && let Some((_, name)) = entries.iter_mut().find(known)
            {
                *name = retried;
                *found = true;
                continue;
            }
            for window in row.windows {
                let length = u64::from(window.seconds) * 1000;
                let nth =
                    entries.len().checked_sub(window.admitted as usize).and_then(|index| entries.get(index));
                if let Some((at, _)) = nth.filter(|(at, _)| at + length > now) {
                    return Err(refusal(row.policy(window), (at + length - now).div_ceil(1000).max(1)));
                }
            }
        }
        if self.by_key.len() > MEMORY_KEYS {
            self.sweep(now);
        }
        for ((row, key), _) in rows.iter().zip(keys).zip(&found).filter(|(_, found)| !**found) {
            let keep = u64::from(row.longest_window()) * 1000;
            let entries = self.by_key.entry(key.clone()).or_default();
            while entries.front().is_some_and(|(at, _)| at + keep <= now) {
                entries.pop_front();
            }
            let newest = entries.back().map_or(now, |(at, _)| now.max(*at));
            let name = if row.precision == Precision::Exact { entry.clone() } else { String::new() };
            entries.push_back((newest, name));
        }
        let states = self.states(&charge, now);
        let is_own = !found.contains(&true);
        Ok(Charged { charge, states, in_memory: true, is_own })
    }

    fn give_back(&mut self, key: &str, entry: &str) {
        if let Some(entries) = self.by_key.get_mut(key) {
            entries.retain(|(_, name)| name != entry);
        }
    }

    fn states(&self, charge: &Charge, now: u64) -> Vec<LimitState> {
        let mut states = Vec::new();
        for (row, key) in charge.rows.iter().zip(&charge.keys) {
            for window in row.windows {
                let length = u64::from(window.seconds) * 1000;
                let within: Vec<u64> = self
                    .by_key
                    .get(key)
                    .map(|entries| entries.iter().map(|(at, _)| *at).filter(|at| at + length > now).collect())
                    .unwrap_or_default();
                let left = i64::from(window.admitted) - within.len() as i64;
                let reset = within.first().map_or(0, |oldest| (oldest + length - now).cast_signed());
                states.push(row.state(window, left, reset));
            }
        }
        states
    }

    /// Forgets keys whose newest entry has left every window. If too many are live, forgets everything: an outage under
    /// attack must not exhaust memory.
    fn sweep(&mut self, now: u64) {
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        self.by_key.retain(|_, entries| entries.back().is_some_and(|(at, _)| at + DAY_MS > now));
        if self.by_key.len() > MEMORY_KEYS {
            tracing::warn!("limits in memory were forgotten: too many keys");
            self.by_key.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use optimist_shared::limits::Limit;

    use super::*;

    #[test]
    fn memory_admits_exactly_what_every_window_allows() {
        let row = Limit::Messages.row();
        let memory = Memory::default();
        let mut admitted: Vec<u64> = Vec::new();
        let mut now = 1_000_000_000;
        let mut seed = 7u64;
        for attempt in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            now += (seed >> 33) % 60_000;
            let allowed = row.windows.iter().all(|window| {
                let since = now - u64::from(window.seconds) * 1000;
                admitted.iter().filter(|at| **at > since).count() < window.admitted as usize
            });
            let charged = memory.charge(Charge::new(vec![row], "u", attempt.to_string()), now);
            assert_eq!(charged.is_ok(), allowed, "at {now}");
            if allowed {
                admitted.push(now);
            }
        }
        assert!(memory.lock().by_key["rate_limit:messages:{u}"].len() <= 500);
    }

    #[test]
    fn what_counts_requests_counts_each_whatever_it_is_called() {
        let row = Limit::Forwarded.row();
        let memory = Memory::default();
        for _ in 0..row.windows[0].admitted {
            assert!(memory.charge(Charge::new(vec![row], "u", "the same".to_owned()), 5_000).is_ok());
        }
        assert!(memory.charge(Charge::new(vec![row], "u", "the same".to_owned()), 5_000).is_err());
    }

    #[test]
    fn an_entry_that_has_left_every_window_is_not_found() {
        let row = Limit::CircleCreate.row();
        let day = u64::from(row.longest_window()) * 1000;
        let memory = Memory::default();
        let charge = |entry: &str, now| memory.charge(Charge::new(vec![row], "u", entry.to_owned()), now);
        for entry in ["a", "b"] {
            assert!(charge(entry, 5_000).is_ok_and(|charged| charged.is_own));
        }
        assert!(charge("a", 4_999 + day).is_ok_and(|charged| !charged.is_own), "still in its window");
        for entry in ["a", "b"] {
            assert!(charge(entry, 5_000 + day).is_ok_and(|charged| charged.is_own), "counted anew");
        }
        assert!(charge("c", 5_000 + day).is_err());
    }

    #[test]
    fn a_retry_finds_its_entry_and_a_failure_returns_it() {
        let row = Limit::CircleCreate.row();
        let memory = Memory::default();
        let charge = |memory: &Memory, entry: &str| {
            memory.charge(Charge::new(vec![row], "u", entry.to_owned()), 5_000)
        };
        assert!(charge(&memory, "a").is_ok_and(|charged| charged.is_own));
        assert!(charge(&memory, "a").is_ok_and(|charged| !charged.is_own));
        assert!(charge(&memory, "b").is_ok());
        assert!(charge(&memory, "c").is_err());
        memory.give_back(&row.key("u"), "a");
        assert!(charge(&memory, "c").is_err(), "a retry has found it");
        memory.give_back(&row.key("u"), "b");
        assert!(charge(&memory, "c").is_ok());
    }
}
