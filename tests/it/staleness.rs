//! After a write was acknowledged, or its effect seen, nobody reads what it replaced: on every key that writers fence,
//! whatever is slow and whoever dies. And with either half of the protocol switched off, the same check finds fault.

use std::sync::Arc;
use std::time::{Duration, Instant};

use optimist_shared::keys::Key;
use optimist_tests::registers::{Registers, fenced_keys};
use optimist_tests::{Edge, Kind, Load, Options, System};

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
        let load = Load::start(key, &pair.registers).await;
        pair.slow_fills(0).await;
        load.run(each).await;
        pair.slow_fills(15).await;
        load.run(each).await;
        let violations = load.stop().await;
        assert!(violations.is_empty(), "{violations:#?}");
        assert!(load.written() >= 20, "{key:?}: hardly a write");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_killed_at_any_step_leaves_nothing_stale_and_loses_nothing() {
    const STEPS: [&str; 6] =
        ["tx.begun", "tx.statements", "tx.outbox", "tx.fenced", "tx.committed", "tx.released"];
    let mut pair = Pair::start().await;
    for key in fenced_keys() {
        let load = Load::start(key, &pair.registers).await;
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
        let violations = load.stop().await;
        assert!(violations.is_empty(), "{violations:#?}");
        if key == Key::CircleMessages {
            // One was there before, and one was written to begin with.
            let posted = pair.registers[0].messages_posted().await;
            assert_eq!(posted, load.written() + 2, "each once, however often it was sent");
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
        let load = Load::start(Key::CircleMessages, &pair.registers).await;
        let deadline = Instant::now() + Duration::from_secs(60);
        while load.violations().is_empty() {
            assert!(
                Instant::now() < deadline,
                "without its {mechanism} nothing was stale: this test is blind"
            );
            load.run(50).await;
        }
        load.stop().await;
    }
}
