//! Wakes subscribers of states that committed transactions have changed.

use ::redis::Cmd;
use optimist_shared::ids::Partition;
use optimist_shared::keys::Key;
use optimist_shared::wake::Wake;

use crate::ctx::Ctx;

/// Wakes that are sent at once: some hundred microseconds of Redis's time.
const AT_ONCE: usize = 256;

/// Runs until the process ends.
pub async fn run(ctx: Ctx) {
    loop {
        let changed: Vec<_> = ctx.db.left.take_changed().await.into_iter().collect();
        for some in changed.chunks(AT_ONCE) {
            let wakes = some.iter().map(|(name, topic)| {
                let mut wake = Cmd::new();
                let channel = Key::Wake.of_partition(Partition::of(*topic));
                wake.arg("SPUBLISH").arg(channel).arg(Wake::State { name, topic: *topic }.render());
                wake
            });
            // Without Redis nobody listens: states are read anew once it is back.
            let _ = ctx.redis.send(wakes).await;
        }
    }
}
