//! A key under load: one writer, several readers, and a check of every read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use optimist_shared::keys::Key;
use tokio::task::JoinSet;

use crate::registers::{Registers, Seen};

const READERS: usize = 6;

pub struct Load {
    key: Key,
    /// The newest write that was sent; below it, the newest that was acknowledged or seen.
    started: AtomicU64,
    known: AtomicU64,
    operations: AtomicU64,
    /// Reads that were answered.
    answered: AtomicU64,
    stop: AtomicBool,
    violations: Mutex<Vec<Violation>>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

/// A read that returned a wrong value.
#[derive(Clone, Debug)]
pub struct Violation {
    /// When it was sent.
    pub at: Instant,
    pub what: String,
}

impl Load {
    /// Starts with one acknowledged write. The writer uses the first edge; the readers take the edges in turn.
    pub async fn start(key: Key, edges: &[Arc<Registers>]) -> Arc<Load> {
        let patience = crate::patience();
        while !edges[0].write(key, 0).await {
            assert!(Instant::now() < patience, "{key:?}: the first write");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let load = Arc::new(Load {
            key,
            started: AtomicU64::new(0),
            known: AtomicU64::new(0),
            operations: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            violations: Mutex::default(),
            tasks: tokio::sync::Mutex::default(),
        });
        let mut tasks = load.tasks.lock().await;
        tasks.spawn(load.clone().write(edges[0].clone()));
        for reader in 0..READERS {
            tasks.spawn(load.clone().read(edges[reader % edges.len()].clone(), reader));
        }
        drop(tasks);
        load
    }

    async fn write(self: Arc<Load>, registers: Arc<Registers>) {
        for number in 1.. {
            if self.stop.load(Ordering::SeqCst) {
                break;
            }
            self.started.store(number, Ordering::SeqCst);
            // Repeats until it is acknowledged, as a client would.
            while !registers.write(self.key, number).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            self.known.fetch_max(number, Ordering::SeqCst);
            self.operations.fetch_add(1, Ordering::SeqCst);
            // Gives readers time to warm the key.
            tokio::time::sleep(Duration::from_millis(number % 4 * 5)).await;
        }
    }

    async fn read(self: Arc<Load>, registers: Arc<Registers>, reader: usize) {
        for turn in 0u64.. {
            if self.stop.load(Ordering::SeqCst) {
                break;
            }
            let at = Instant::now();
            let low = self.known.load(Ordering::SeqCst);
            let seen =
                registers.read(self.key, low + 1 + turn % 3, reader == 0 && turn.is_multiple_of(4)).await;
            let high = self.started.load(Ordering::SeqCst);
            if !seen.fits(low, high) {
                let what = format!("{:?}: {seen:?}, though write {low} was known and {high} begun", self.key);
                self.violations.lock().expect("violations").push(Violation { at, what });
            }
            match seen {
                Seen::Number(number) => drop(self.known.fetch_max(number, Ordering::SeqCst)),
                Seen::Unknown => {
                    // Waits like a client that is told to come back.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
                // A marked copy promises nothing.
                Seen::Marked => continue,
                _ => {}
            }
            self.answered.fetch_add(1, Ordering::SeqCst);
            self.operations.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Waits until this many more operations are done.
    pub async fn run(&self, operations: u64) {
        self.wait_for(&self.operations, operations).await;
    }

    /// Waits until this many more reads are answered.
    pub async fn run_reads(&self, reads: u64) {
        self.wait_for(&self.answered, reads).await;
    }

    async fn wait_for(&self, done: &AtomicU64, more: u64) {
        let target = done.load(Ordering::SeqCst) + more;
        let deadline = crate::patience();
        while done.load(Ordering::SeqCst) < target {
            assert!(Instant::now() < deadline, "{:?}: it hangs", self.key);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The number of the newest write that was acknowledged or seen.
    pub fn written(&self) -> u64 {
        self.known.load(Ordering::SeqCst)
    }

    /// How many reads were answered so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    pub fn violations(&self) -> Vec<Violation> {
        self.violations.lock().expect("violations").clone()
    }

    /// Stops the load; returns all violations.
    pub async fn stop(&self) -> Vec<Violation> {
        self.stop.store(true, Ordering::SeqCst);
        let mut tasks = self.tasks.lock().await;
        while let Some(ended) = tasks.join_next().await {
            ended.expect("no task failed");
        }
        self.violations()
    }
}
