//! A delivery that is claimed, and what becomes of it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use optimist_shared::ids::Uuid;
use serde_json::Value;

use crate::hooks;

/// The pauses between attempts: about a day together. Each is drawn between its half and itself.
const PAUSES: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(3 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(2 * 60 * 60),
    Duration::from_secs(4 * 60 * 60),
    Duration::from_secs(8 * 60 * 60),
    Duration::from_secs(12 * 60 * 60),
];

/// A delivery is given up so long after it was made, however many attempts there were.
pub const GIVEN_UP_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// A row of `deliveries` that this process has claimed.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub user: Uuid,
    /// What it is about: its receivers know it by this id, in each attempt.
    pub subject: Uuid,
    /// Where it goes.
    pub target: Uuid,
    /// What its domain has left with it.
    pub about: Option<Value>,
    /// This attempt's number, from 1.
    pub attempt: i16,
    pub created_at: DateTime<Utc>,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Sent,
    /// It is not wanted any more, for this reason.
    Withdrawn(&'static str),
    /// It will never succeed.
    Failed(&'static str),
    /// Another attempt may succeed: after so long, or as the pauses say.
    Again {
        reason: &'static str,
        after: Option<Duration>,
    },
    /// Nothing was tried: it is due later. It is no attempt.
    Later(Duration),
}

/// How a row is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub state: &'static str,
    pub reason: Option<&'static str>,
    /// Attempts that count.
    pub attempts: i16,
    /// Until it is due. `None` if it has ended.
    pub due_in: Option<Duration>,
}

impl Delivery {
    /// `share`, from 0 to 1, is where in its range the pause is.
    pub(super) fn mark(&self, outcome: &Outcome, now: DateTime<Utc>, share: f64) -> Mark {
        let attempts = self.attempt;
        let ended = |state, reason| Mark { state, reason, attempts, due_in: None };
        match *outcome {
            Outcome::Sent => ended("sent", None),
            Outcome::Withdrawn(reason) => ended("withdrawn", Some(reason)),
            Outcome::Failed(reason) => ended("failed", Some(reason)),
            Outcome::Again { reason, after } => {
                let age = (now - self.created_at).to_std().unwrap_or_default();
                match self.pause(share) {
                    Some(pause) if age < GIVEN_UP_AFTER => {
                        let due_in = after.unwrap_or_default().max(pause).min(GIVEN_UP_AFTER);
                        Mark { state: "queued", reason: Some(reason), attempts, due_in: Some(due_in) }
                    }
                    _ => ended("given-up", Some(reason)),
                }
            }
            Outcome::Later(due_in) => {
                Mark { state: "queued", reason: None, attempts: attempts - 1, due_in: Some(due_in) }
            }
        }
    }

    /// The pause after this attempt. `None` after the last one.
    fn pause(&self, share: f64) -> Option<Duration> {
        let index = usize::try_from(self.attempt.max(1) - 1).unwrap_or_default();
        let pause = *PAUSES.get(index)?;
        if hooks::disabled("pauses") {
            return Some(Duration::from_millis(200));
        }
        Some(pause.mul_f64(0.5 + 0.5 * share.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(attempt: i16, hours_ago: i64) -> (Delivery, DateTime<Utc>) {
        let now = DateTime::UNIX_EPOCH + chrono::Duration::days(20_000);
        let created_at = now - chrono::Duration::hours(hours_ago);
        let id = Uuid::nil();
        (Delivery { user: id, subject: id, target: id, about: None, attempt, created_at }, now)
    }

    #[test]
    fn pauses_grow_and_end_after_a_day() {
        let again = Outcome::Again { reason: "lost", after: None };
        let mut last = Duration::ZERO;
        for attempt in 1..=PAUSES.len() {
            let (delivery, now) = delivery(attempt as i16, 1);
            let (least, most) = (delivery.mark(&again, now, 0.0), delivery.mark(&again, now, 1.0));
            assert_eq!((least.state, most.state), ("queued", "queued"));
            let (least, most) = (least.due_in.unwrap(), most.due_in.unwrap());
            assert!(least >= last && most == least * 2, "{attempt}: {least:?} to {most:?}");
            last = least;
        }
        let day: Duration = PAUSES.iter().sum();
        assert!(day > GIVEN_UP_AFTER, "{day:?}: the age ends it, not the number of attempts");
        let (over, now) = delivery(PAUSES.len() as i16 + 1, 1);
        assert_eq!(over.mark(&again, now, 0.5).state, "given-up");
        let (old, now) = delivery(2, 24);
        let mark = old.mark(&again, now, 0.5);
        assert_eq!((mark.state, mark.reason, mark.due_in), ("given-up", Some("lost"), None));
    }

    #[test]
    fn a_receiver_may_ask_for_a_longer_pause_of_a_day_at_most() {
        let after = |seconds| Outcome::Again { reason: "busy", after: Some(Duration::from_secs(seconds)) };
        let (delivery, now) = delivery(1, 0);
        assert_eq!(delivery.mark(&after(600), now, 1.0).due_in, Some(Duration::from_secs(600)));
        assert_eq!(delivery.mark(&after(1), now, 1.0).due_in, Some(PAUSES[0]));
        assert_eq!(delivery.mark(&after(u64::from(u32::MAX)), now, 1.0).due_in, Some(GIVEN_UP_AFTER));
    }

    #[test]
    fn what_was_not_tried_is_no_attempt() {
        let (delivery, now) = delivery(1, 30);
        let mark = delivery.mark(&Outcome::Later(Duration::from_secs(9)), now, 0.0);
        assert_eq!((mark.state, mark.attempts, mark.due_in), ("queued", 0, Some(Duration::from_secs(9))));
    }
}
