//! The judges: pure functions over a history. The tests of each show it a violation.

mod bystanders;
mod counts;
mod events;
mod limits;
mod places;
mod sessions;
mod stale;
mod subscribers;
mod writes;

use crate::history::{History, Violation};

pub use writes::draft_text;

type Judge = fn(&History) -> Vec<String>;

/// The judges, by name.
const JUDGES: [(&str, Judge); 8] = [
    ("stale reads", stale::check),
    ("revoked sessions", sessions::check),
    ("lost or doubled writes", writes::check),
    ("limits", limits::check),
    ("events", events::check),
    ("subscribers", subscribers::check),
    ("counts", counts::check),
    ("bystanders", bystanders::check),
];

/// Every violation in a history.
pub fn all(history: &History) -> Vec<Violation> {
    let violations = JUDGES.iter().flat_map(|(check, judge)| {
        judge(history).into_iter().map(|what| Violation { check, what }).collect::<Vec<_>>()
    });
    violations.collect()
}

#[cfg(test)]
mod testing {
    //! Histories built by hand.

    use super::*;
    use crate::history::{At, Call, Inflicted, Intent, Outcome};

    pub fn at(ms: u64) -> At {
        At::from_millis(ms)
    }

    pub fn call(begun: u64, ended: u64, intent: Intent, outcome: Outcome) -> Call {
        Call { client: "test", begun: at(begun), ended: at(ended), intent, outcome, counted: None }
    }

    pub fn history(calls: Vec<Call>) -> History {
        History { calls, ..History::default() }
    }

    pub fn done() -> Outcome {
        Outcome::Acknowledged { in_postgres: true }
    }

    pub fn unknown() -> Outcome {
        Outcome::Unknown("lost".to_owned())
    }

    /// Redis is killed, and back after a second.
    pub fn redis_killed(ms: u64) -> Inflicted {
        Inflicted {
            what: "kill Redis".to_owned(),
            begun: at(ms),
            ended: at(ms + 1_000),
            is_of_a_store: true,
            ends_in_a_restart: true,
            loses_redis: false,
        }
    }
}
