//! Open-loop load: requests at a fixed rate, however the server behaves. Latency counts from the moment a request was
//! due, so that a stalling server is charged for every request that had to wait (no coordinated omission).
//!
//! Uses blocking threads instead of tasks: tokio's timers are up to a millisecond late, which is the scale measured
//! here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::closed_loop::Subject;
use crate::http1::Connection;
use crate::plot::Line;
use crate::processor::Meter;

/// Enough for a server that stalls for some hundredths of a second; further requests wait, and their wait counts.
const CONNECTIONS: u64 = 64;

/// Latencies in milliseconds, ascending.
pub struct Latencies(Vec<f64>);

impl Latencies {
    pub fn percentile(&self, percentile: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let index = (percentile / 100.0 * last as f64).round() as usize;
        self.0.get(index).copied().unwrap_or(f64::NAN)
    }

    pub fn line(&self, name: &str) -> Line {
        let percentiles = [1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.99];
        Line { name: name.to_owned(), points: percentiles.map(|at| (at, self.percentile(at))).to_vec() }
    }

    /// Merges the latencies of several turns.
    pub fn together(turns: Vec<Latencies>) -> Latencies {
        turns.into_iter().flat_map(|turn| turn.0).collect()
    }
}

/// From milliseconds in any order.
impl FromIterator<f64> for Latencies {
    fn from_iter<I: IntoIterator<Item = f64>>(milliseconds: I) -> Latencies {
        let mut all: Vec<f64> = milliseconds.into_iter().collect();
        all.sort_by(f64::total_cmp);
        Latencies(all)
    }
}

impl Subject {
    /// Sends `rate` requests a second for `seconds`. Panics unless every answer is right.
    pub async fn at_rate(&self, rate: f64, seconds: u64) -> Latencies {
        let (subject, meter) = (self.clone(), Meter::start(&self.workers));
        let run = move || subject.send_at(rate, (rate * seconds as f64) as u64);
        let latencies = tokio::task::spawn_blocking(run).await.expect("the load");
        println!(
            "  {:<44} {rate:>9.0} req/s   p50 {:>7.2} ms   p99 {:>7.2} ms   {}   (open loop)",
            self.name,
            latencies.percentile(50.0),
            latencies.percentile(99.0),
            meter.per_request(latencies.0.len() as f64).line()
        );
        latencies
    }

    fn send_at(&self, rate: f64, count: u64) -> Latencies {
        let next = AtomicU64::new(0);
        // Leaves time to open the connections before the first request is due.
        let start = Instant::now() + Duration::from_millis(200);
        let mut all: Vec<f64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..CONNECTIONS)
                .map(|_| {
                    scope.spawn(|| {
                        let mut connection = Connection::open(&self.url).expect("a connection");
                        let mut latencies = Vec::new();
                        loop {
                            let number = next.fetch_add(1, Ordering::Relaxed);
                            if number >= count {
                                return latencies;
                            }
                            let due = start + Duration::from_secs_f64(number as f64 / rate);
                            std::thread::sleep(due.saturating_duration_since(Instant::now()));
                            let request = &self.requests[number as usize % self.requests.len()];
                            let answer = connection.send(request).expect("an answer");
                            latencies.push(due.elapsed().as_secs_f64() * 1000.0);
                            assert!((self.is_right)(&answer), "{}: {answer:?}", self.name);
                        }
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("the load")).collect()
        });
        all.sort_by(f64::total_cmp);
        Latencies(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_all_turns() {
        let all = Latencies::together(vec![Latencies(vec![2.0, 4.0]), Latencies(vec![1.0, 3.0, 5.0])]);
        assert_eq!((all.percentile(0.0), all.percentile(50.0), all.percentile(100.0)), (1.0, 3.0, 5.0));
    }
}
