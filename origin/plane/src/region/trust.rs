//! Whether the region's Redis is trusted, as far as this origin knows.
//!
//! State only: the relay and [`super::switch`] change it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Milliseconds that the region must have been off before anyone writes without fences: vouching lasts 3,000 from before
/// the relay read the row, and clocks may differ a little.
pub const OFF_FOR_MS: i64 = 3_500;

/// Beats that are kept: a few more than the reader of the outbox may lag behind.
const BEATS: usize = 16;

/// How this origin writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// With fences on the keys that it changes.
    Fenced,
    /// Without Redis, which nobody trusts.
    Unfenced,
}

impl Mode {
    /// The region's state in its row: whether Redis may be trusted.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Fenced => "on",
            Mode::Unfenced => "off",
        }
    }
}

pub struct Trust {
    mode: AtomicU8,
    /// The epoch that this origin's relay last vouched for, and until when.
    vouched: Mutex<Option<(u64, Instant)>>,
    /// The relay has dropped the copies that any commit before this moment made stale.
    invalidated: Mutex<Option<Instant>>,
    /// How far the primary's write-ahead log was at each of the latest beats, the newest last.
    written: Mutex<VecDeque<(Instant, u64)>>,
    over_budget: AtomicBool,
    /// Held by the caller that turns the region off; the others share its wait.
    pub switching: tokio::sync::Mutex<()>,
}

impl Default for Trust {
    fn default() -> Trust {
        Trust {
            mode: AtomicU8::new(Mode::Fenced as u8),
            vouched: Mutex::new(None),
            invalidated: Mutex::new(None),
            written: Mutex::default(),
            over_budget: AtomicBool::new(false),
            switching: tokio::sync::Mutex::new(()),
        }
    }
}

impl Trust {
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
    pub fn vouched(&self) -> Option<u64> {
        let vouched = *self.vouched.lock().unwrap_or_else(PoisonError::into_inner);
        vouched.filter(|(_, until)| *until > Instant::now()).map(|(epoch, _)| epoch)
    }

    pub fn set_vouched(&self, vouched: Option<(u64, Instant)>) {
        *self.vouched.lock().unwrap_or_else(PoisonError::into_inner) = vouched;
    }

    /// How long ago the moment was up to which the relay has dropped stale copies. `None` before its first pass.
    pub fn relay_lag(&self) -> Option<Duration> {
        let invalidated = *self.invalidated.lock().unwrap_or_else(PoisonError::into_inner);
        invalidated.map(|moment| moment.elapsed())
    }

    pub fn set_invalidated(&self, moment: Instant) {
        *self.invalidated.lock().unwrap_or_else(PoisonError::into_inner) = Some(moment);
    }

    /// Notes that everything that the primary had committed by `moment` stands in its write-ahead log before `lsn`, in bytes.
    pub fn note_written(&self, moment: Instant, lsn: u64) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.push_back((moment, lsn));
        if written.len() > BEATS {
            written.pop_front();
        }
    }

    /// The latest moment by which the primary had written no more than this. `None` if it is older than all that are known.
    pub fn moment_of(&self, lsn: u64) -> Option<Instant> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.iter().rev().find(|(_, then)| *then <= lsn).map(|(moment, _)| *moment)
    }

    /// Whether Redis holds more bytes than values may take.
    pub fn is_over_budget(&self) -> bool {
        self.over_budget.load(Ordering::Relaxed)
    }

    pub fn set_over_budget(&self, over: bool) {
        self.over_budget.store(over, Ordering::Relaxed);
    }
}
