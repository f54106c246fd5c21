//! Whether the region's Redis is believed, as this origin knows it, and turning belief off.
//!
//! The truth is the region's row in Postgres. Turning it on again is the relay's.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::redis::Cmd;
use optimist_shared::ids::Partition;
use optimist_shared::keys::Key;
use optimist_shared::vouching::Vouched;

use crate::app::{App, Ctx};
use crate::error::{Error, Result};
use crate::postgres::Tx;
use crate::redis::Items;

/// Milliseconds that the region must have been off before anyone writes without fences: vouching lasts 3,000 from before
/// the relay read the row, and clocks may differ a little.
pub const OFF_FOR_MS: i64 = 3_500;

/// How this origin writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Fencing the keys it changes.
    Fenced,
    /// Without Redis, which nobody believes.
    Unfenced,
}

impl Mode {
    /// As the region's row has it: whether Redis is believed.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Fenced => "on",
            Mode::Unfenced => "off",
        }
    }
}

pub struct Region {
    mode: AtomicU8,
    /// The epoch that this origin's relay last vouched for, and until when.
    vouched: Mutex<Option<(u64, Instant)>>,
    over_budget: AtomicBool,
    switching: tokio::sync::Mutex<()>,
}

const SWITCH_OFF: &str = "-- region::switch_off
update regions set state = 'off', off_since = coalesce(off_since, clock_timestamp())
where name = $1
returning (extract(epoch from clock_timestamp() - off_since) * 1000)::bigint";

const HOLD_OFF: &str = "-- region::hold_off
select state = 'off', coalesce((extract(epoch from clock_timestamp() - off_since) * 1000)::bigint, 0)
from regions where name = $1 for share";

pub const STATEMENTS: &[&str] = &[SWITCH_OFF, HOLD_OFF];

/// Whether this origin may soon know of a vouching that it does not know of: the region is on, and both stores answer. That one
/// has just started, or its relay has missed a beat, is no reason to have nobody believe Redis. Fails without Postgres.
pub async fn may_soon_vouch(app: &App) -> Result<bool> {
    let mut ping = Cmd::new();
    ping.arg("PING");
    if app.region.mode() != Mode::Fenced || app.cache.redis.send([ping]).await.is_err() {
        return Ok(false);
    }
    app.db.client().await.map(|_| true)
}

/// Learns of the vouching from Redis: for a process that has no relay of its own, for as long as it runs.
pub async fn follow(app: Ctx) {
    const EVERY: Duration = Duration::from_millis(500);
    loop {
        learn(&app).await;
        tokio::time::sleep(EVERY).await;
    }
}

/// What is vouched for at the moment, marked vouching aside.
pub async fn learn(app: &App) {
    let vouch = Key::Vouch.of_partition(Partition::COMMON);
    let (mut get, mut lives) = (Cmd::new(), Cmd::new());
    get.arg("GET").arg(&vouch);
    lives.arg("PTTL").arg(&vouch);
    let asked = Instant::now();
    let Ok(values) = app.cache.redis.send([get, lives]).await else { return app.region.set_vouched(None) };
    let mut values = values.into_iter().map(Items::new);
    let vouched = values.next().and_then(|mut vouch| Vouched::parse(&vouch.bytes()));
    let epoch = vouched.filter(|vouched| !vouched.degraded).map(|vouched| vouched.epoch);
    let lives_ms = values.next().and_then(|mut lives| u64::try_from(lives.int()).ok()).unwrap_or(0);
    app.region.set_vouched(epoch.map(|epoch| (epoch, asked + Duration::from_millis(lives_ms))));
}

impl Default for Region {
    fn default() -> Region {
        Region {
            mode: AtomicU8::new(Mode::Fenced as u8),
            vouched: Mutex::new(None),
            over_budget: AtomicBool::new(false),
            switching: tokio::sync::Mutex::new(()),
        }
    }
}

impl Region {
    pub fn mode(&self) -> Mode {
        if self.mode.load(Ordering::Relaxed) == Mode::Fenced as u8 { Mode::Fenced } else { Mode::Unfenced }
    }

    pub fn set_mode(&self, mode: Mode) {
        let before = self.mode.swap(mode as u8, Ordering::Relaxed);
        if before != mode as u8 {
            tracing::warn!(?mode, "the region changes how it writes");
        }
        metrics::gauge!("optimist_region_on").set(if mode == Mode::Fenced { 1.0 } else { 0.0 });
    }

    /// The epoch that copies may be filled with now.
    pub fn vouched(&self, _partition: Partition) -> Option<u64> {
        let vouched = *self.vouched.lock().unwrap_or_else(PoisonError::into_inner);
        vouched.filter(|(_, until)| *until > Instant::now()).map(|(epoch, _)| epoch)
    }

    pub fn set_vouched(&self, vouched: Option<(u64, Instant)>) {
        *self.vouched.lock().unwrap_or_else(PoisonError::into_inner) = vouched;
    }

    /// Whether Redis holds as many bytes as values may take.
    pub fn is_over_budget(&self) -> bool {
        self.over_budget.load(Ordering::Relaxed)
    }

    pub fn set_over_budget(&self, over: bool) {
        self.over_budget.store(over, Ordering::Relaxed);
    }

    /// Turns the region off, and returns when nobody can believe Redis any more. Callers at once share the wait.
    pub async fn switch_off(&self, app: &App) -> Result<()> {
        let _one = self.switching.lock().await;
        let row = app.db.query_opt(SWITCH_OFF, &[&app.config.region]).await?;
        let off_for: i64 = row.ok_or_else(|| Error::internal("region", &"its row is missing"))?.get(0);
        self.set_vouched(None);
        self.set_mode(Mode::Unfenced);
        if let Ok(rest) = u64::try_from(OFF_FOR_MS - off_for) {
            tracing::warn!(
                milliseconds = rest,
                "redis could not be told of a write: nobody is to believe it"
            );
            tokio::time::sleep(Duration::from_millis(rest)).await;
        }
        Ok(())
    }

    /// Makes sure, within a transaction that will not fence, that the region is off and stays off until it ends.
    pub async fn hold_off(&self, app: &App, tx: &Tx) -> Result<()> {
        let row = tx.query_one(HOLD_OFF, &[&app.config.region]).await?;
        let (off, off_for): (bool, i64) = (row.get(0), row.get(1));
        if off && off_for >= OFF_FOR_MS {
            return Ok(());
        }
        let mut again = Error::unavailable("The cache");
        if off {
            again.retry_in_ms = u64::try_from(OFF_FOR_MS - off_for).ok();
        } else {
            self.set_mode(Mode::Fenced);
            again.retry_in_ms = Some(0);
        }
        Err(again)
    }
}
