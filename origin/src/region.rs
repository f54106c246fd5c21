//! Whether the region's Redis is believed, as this origin knows it, and turning belief off.
//!
//! The truth is the region's row in Postgres. Turning it on again is the relay's.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use optimist_shared::ids::Partition;

use crate::app::App;
use crate::error::{Error, Result};
use crate::postgres::Tx;

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
