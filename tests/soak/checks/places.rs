//! A thing that one client switches on and off: its possible final states.

use crate::history::{At, Outcome};

/// The tries at one place, in order: whether each was to switch it on, its outcome, and when it ended.
pub type Tries<'a> = Vec<(bool, &'a Outcome, At)>;

/// The possible final states, as (may be off, may be on). Possible is the state that the newest acknowledged try left
/// (off, if there was none), and that of any try of unknown outcome, however old, since it may have executed late.
/// State that only Redis had when it lost its data may be lost.
pub fn possible(tries: &Tries<'_>, loss: Option<At>) -> (bool, bool) {
    let (mut may_be_off, mut may_be_on) = (true, false);
    let mut may = |on: bool, reset: bool| {
        if reset {
            (may_be_off, may_be_on) = (!on, on);
        } else if on {
            may_be_on = true;
        } else {
            may_be_off = true;
        }
    };
    for (on, outcome, ended) in tries {
        if let Outcome::Acknowledged { in_postgres } = outcome {
            // One more second covers requests in flight.
            let may_be_lost = !in_postgres && loss.is_some_and(|at| *ended <= at + At::from_secs(1));
            may(*on, !may_be_lost);
        }
    }
    for (on, outcome, _) in tries {
        if matches!(outcome, Outcome::Unknown(_)) {
            may(*on, false);
        }
    }
    (may_be_off, may_be_on)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{at, done, unknown};
    use super::*;

    #[test]
    fn the_newest_acknowledged_try_counts() {
        let (done, unknown) = (done(), unknown());
        let limited = Outcome::Limited;
        assert_eq!(possible(&vec![], None), (true, false));
        assert_eq!(possible(&vec![(true, &done, at(1))], None), (false, true));
        assert_eq!(possible(&vec![(true, &done, at(1)), (false, &limited, at(2))], None), (false, true));
        assert_eq!(possible(&vec![(true, &done, at(1)), (false, &done, at(2))], None), (true, false));
        assert_eq!(possible(&vec![(true, &unknown, at(1)), (false, &done, at(2))], None), (true, true));
        assert_eq!(possible(&vec![(false, &unknown, at(1)), (false, &done, at(2))], None), (true, false));
    }

    #[test]
    fn what_redis_alone_had_may_be_lost_with_it() {
        let in_redis = Outcome::Acknowledged { in_postgres: false };
        assert_eq!(possible(&vec![(true, &in_redis, at(1_000))], Some(at(2_000))), (true, true));
        assert_eq!(possible(&vec![(true, &in_redis, at(3_001))], Some(at(2_000))), (false, true));
        assert_eq!(possible(&vec![(true, &done(), at(1_000))], Some(at(2_000))), (false, true));
    }
}
