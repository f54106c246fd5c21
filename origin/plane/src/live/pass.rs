//! A connection's place at the gateway, and how all of them leave when the process stops.

use std::time::{Duration, Instant};

use optimist_shared::ids::Uuid;

use crate::ctx::Ctx;
use crate::error::Result;
use crate::live::door::{Arrival, Through};
use crate::live::hub::{BEATS, BEATS_THROUGH_EDGE, STOP};

/// A connection's place among those that there may be, until it is dropped.
pub struct Pass {
    pub ctx: Ctx,
    user: Uuid,
    address: String,
    through: Option<Through>,
}

/// How long the connections take to leave, one by one, when the process stops.
const LEAVING: Duration = Duration::from_secs(10);

/// Tells all connections to end, spread over some seconds, and waits until they are gone.
pub async fn stop(ctx: &Ctx) {
    let connections = ctx.live.lock().stop();
    let pause = LEAVING / u32::try_from(connections.len()).unwrap_or(u32::MAX).max(1);
    let began = Instant::now();
    for (index, connection) in connections.into_iter().enumerate() {
        connection.raise(STOP);
        let due = pause * u32::try_from(index).unwrap_or(u32::MAX);
        tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
    }
    while ctx.live.door.count().all > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Pass {
    /// A place for a connection: 429 or 503 if there is none.
    pub fn take(ctx: &Ctx, user: Uuid, address: &str, through: Option<Through>) -> Result<Pass> {
        let gateway = ctx.live.url.get().map_or("the gateway", String::as_str);
        ctx.live.door.enter(&Arrival { user, address, through }).map_err(|full| full.error(gateway))?;
        metrics::gauge!("optimist_live_connections").increment(1);
        Ok(Pass { ctx: ctx.clone(), user, address: address.to_owned(), through })
    }
}

impl Pass {
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Seconds between its heartbeats.
    pub fn beats(&self) -> u64 {
        if self.through.is_some() { BEATS_THROUGH_EDGE } else { BEATS }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        metrics::gauge!("optimist_live_connections").decrement(1);
        self.ctx.live.door.count().leave(&self.user, &self.address, self.through);
    }
}
