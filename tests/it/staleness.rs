//! After a write was acknowledged, or its effect seen, nobody reads what it replaced: on every key that writers fence,
//! whatever is slow and whoever dies. And with either half of the protocol switched off, the same check finds fault.

mod registers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use optimist_shared::keys::Key;
use optimist_tests::{Edge, Kind, Options, System};
use tokio::task::JoinSet;

use registers::{Registers, Seen, fenced_keys};

const READERS: u64 = 6;

/// One key under load: a writer at one edge, readers at both.
struct Load {
    key: Key,
    /// The newest write that was sent, and the newest that was acknowledged or seen.
    started: AtomicU64,
    known: AtomicU64,
    operations: AtomicU64,
    stop: AtomicBool,
    /// Reads that saw what they must not.
    violations: std::sync::Mutex<Vec<String>>,
}

impl Load {
    async fn start(key: Key, edges: [Arc<Registers>; 2]) -> (Arc<Load>, JoinSet<()>) {
        assert!(edges[0].write(key, 0).await);
        let load = Arc::new(Load {
            key,
            started: AtomicU64::new(0),
            known: AtomicU64::new(0),
            operations: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            violations: std::sync::Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(load.clone().write(edges[0].clone()));
        for reader in 0..READERS {
            tasks.spawn(load.clone().read(edges[reader as usize % 2].clone(), reader));
        }
        (load, tasks)
    }

    async fn write(self: Arc<Load>, registers: Arc<Registers>) {
        for number in 1.. {
            if self.stop.load(Ordering::SeqCst) {
                break;
            }
            self.started.store(number, Ordering::SeqCst);
            // Until it is acknowledged, as a client would.
            while !registers.write(self.key, number).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            self.known.fetch_max(number, Ordering::SeqCst);
            self.operations.fetch_add(1, Ordering::SeqCst);
            // Time for readers to warm the key.
            tokio::time::sleep(Duration::from_millis(number % 4 * 5)).await;
        }
    }

    async fn read(self: Arc<Load>, registers: Arc<Registers>, reader: u64) {
        for turn in 0u64.. {
            if self.stop.load(Ordering::SeqCst) {
                break;
            }
            let low = self.known.load(Ordering::SeqCst);
            let seen = registers.read(self.key, low + 1 + turn % 3, turn % 4 == 0 && reader == 0).await;
            let high = self.started.load(Ordering::SeqCst);
            if !seen.fits(low, high) {
                let violation =
                    format!("{:?}: {seen:?} though write {low} was known and {high} begun", self.key);
                self.violations.lock().expect("violations").push(violation);
            }
            if let Seen::Number(number) = seen {
                self.known.fetch_max(number, Ordering::SeqCst);
            }
            self.operations.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Waits until so many operations more are done.
    async fn run(&self, operations: u64) {
        let target = self.operations.load(Ordering::SeqCst) + operations;
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.operations.load(Ordering::SeqCst) < target {
            assert!(Instant::now() < deadline, "{:?}: it hangs", self.key);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stop(&self, mut tasks: JoinSet<()>) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = tasks.join_next().await {
            ended.expect("no task failed");
        }
        std::mem::take(&mut self.violations.lock().expect("violations"))
    }
}

/// Two origins, each behind an edge of its own, on the same stores.
struct Pair {
    system: System,
    _other_edge: Edge,
    registers: [Arc<Registers>; 2],
}

impl Pair {
    async fn start() -> Pair {
        let system = System::with(Options { origins: 2, ..Options::default() }).await;
        let other_edge = system.edge_before(Kind::Embedded, &system.origins[1].api);
        let registers = Registers::new(&system).await;
        let other = registers.at(&other_edge.url);
        Pair { system, _other_edge: other_edge, registers: [Arc::new(registers), Arc::new(other)] }
    }

    async fn load(&self, key: Key) -> (Arc<Load>, JoinSet<()>) {
        Load::start(key, self.registers.clone()).await
    }

    async fn slow_fills(&self, millis: u64) {
        for origin in &self.system.origins {
            origin.arm("fill.loaded", "pause", millis, u64::MAX / 2).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_operations_read_nothing_stale() {
    let pair = Pair::start().await;
    let keys: Vec<Key> = fenced_keys().collect();
    let each = 10_000 / keys.len() as u64 / 2 + 1;
    for key in keys {
        let (load, tasks) = pair.load(key).await;
        pair.slow_fills(0).await;
        load.run(each).await;
        pair.slow_fills(15).await;
        load.run(each).await;
        let violations = load.stop(tasks).await;
        assert!(violations.is_empty(), "{violations:#?}");
        assert!(load.known.load(Ordering::SeqCst) >= 20, "{key:?}: hardly a write");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_killed_at_any_step_leaves_nothing_stale_and_loses_nothing() {
    const STEPS: [&str; 6] =
        ["tx.begun", "tx.statements", "tx.outbox", "tx.fenced", "tx.committed", "tx.released"];
    let mut pair = Pair::start().await;
    for key in fenced_keys() {
        let (load, tasks) = pair.load(key).await;
        for step in STEPS {
            load.run(20).await;
            pair.system.origins[0].arm(step, "abort", 0, 1).await;
            let deadline = Instant::now() + Duration::from_secs(30);
            while pair.system.origins[0].is_running() {
                assert!(Instant::now() < deadline, "{key:?}: no write came to {step}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            load.run(20).await;
            pair.system.replace_origin(0);
        }
        load.run(100).await;
        let violations = load.stop(tasks).await;
        assert!(violations.is_empty(), "{violations:#?}");
        if key == Key::CircleMessages {
            // One was there before, and one was written to begin with.
            let written = load.known.load(Ordering::SeqCst);
            assert_eq!(
                pair.registers[0].messages_posted().await,
                written + 2,
                "each once, however often it was sent"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_fence_or_the_lease_the_check_finds_fault() {
    for (mechanism, step) in [("fence", "tx.committed"), ("lease", "fill.loaded")] {
        let pair = Pair::start().await;
        for origin in &pair.system.origins {
            origin.disable(mechanism, true).await;
            origin.arm(step, "pause", 40, 1_000).await;
        }
        let (load, tasks) = pair.load(Key::CircleMessages).await;
        let deadline = Instant::now() + Duration::from_secs(60);
        while load.violations.lock().expect("violations").is_empty() {
            assert!(
                Instant::now() < deadline,
                "without its {mechanism} nothing was stale: this test is blind"
            );
            load.run(50).await;
        }
        load.stop(tasks).await;
    }
}
