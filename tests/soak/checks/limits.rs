//! No window of a limit admits more than its number, and nobody is refused while fewer were admitted.
//!
//! Judged are callers whose limits the harness does not reset, by the charges in Redis. If the edge could not ask Redis
//! about an attempt, an origin charges it in memory, and its outcome says so. Only a Redis that lost its data is
//! forgiven.

use std::collections::BTreeMap;

use optimist_shared::limits::Limit;

use crate::history::{Call, History, Outcome};

pub fn check(history: &History) -> Vec<String> {
    let mut callers: BTreeMap<(&str, &str), (Limit, Vec<&Call>)> = BTreeMap::new();
    for call in &history.calls {
        // Charges that Redis lost no longer count.
        if let Some(counted) = &call.counted
            && history.loss().is_none_or(|loss| call.begun > loss)
        {
            let name = (counted.user.as_str(), counted.limit.row().name);
            callers.entry(name).or_insert((counted.limit, Vec::new())).1.push(call);
        }
    }
    let judged = callers.into_iter().map(|((user, _), (limit, calls))| {
        [exceeded(user, limit, &calls), refused_early(user, limit, history, &calls)].concat()
    });
    judged.flatten().collect()
}

/// More than the limit's number were admitted between the beginning of the first and the end of the last of them.
fn exceeded(user: &str, limit: Limit, calls: &[&Call]) -> Vec<String> {
    let in_redis = |call: &Call| call.counted.as_ref().is_some_and(|counted| counted.in_redis);
    let is_admitted = |call: &&&Call| matches!(call.outcome, Outcome::Acknowledged { .. }) && in_redis(call);
    let admitted: Vec<&&Call> = calls.iter().filter(is_admitted).collect();
    let mut found = Vec::new();
    for window in limit.row().windows {
        let length = std::time::Duration::from_secs(window.seconds.into());
        let most = admitted.iter().map(|first| {
            let within = |call: &&&&Call| call.begun >= first.begun && call.ended < first.begun + length;
            admitted.iter().filter(within).count()
        });
        let most = most.max().unwrap_or_default();
        if most > window.admitted as usize {
            let policy = limit.row().policy(window);
            found
                .push(format!("{most} of {policy} were admitted for {user}, and {} may be", window.admitted));
        }
    }
    found
}

/// A caller was refused before enough attempts were made that could have been charged.
fn refused_early(user: &str, limit: Limit, history: &History, calls: &[&Call]) -> Vec<String> {
    // Redis may remember part of what came before its loss.
    if history.loss().is_some() {
        return Vec::new();
    }
    let least = limit.row().windows.iter().map(|window| window.admitted as usize).min().unwrap_or_default();
    let mut found = Vec::new();
    for refused in calls.iter().filter(|call| matches!(call.outcome, Outcome::Limited)) {
        let before = |call: &&&Call| !matches!(call.outcome, Outcome::Limited) && call.begun <= refused.ended;
        let attempts = calls.iter().filter(before).count();
        if attempts < least {
            let name = limit.row().name;
            found.push(format!(
                "{user} was refused by {name} at {:?}, after {attempts} attempts",
                refused.ended
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, done, history, redis_killed, unknown};
    use super::*;
    use crate::history::{Counted, Intent};

    fn attempt(begun: u64, outcome: Outcome) -> Call {
        let intent = Intent::Post { circle: "c".to_owned(), text: begun.to_string() };
        let counted = Some(Counted { limit: Limit::Messages, user: "u".to_owned(), in_redis: true });
        Call { counted, ..call(begun, begun + 10, intent, outcome) }
    }

    #[test]
    fn an_eleventh_message_in_a_minute_is_found() {
        let calls = |count| (0..count).map(|n| attempt(n * 100, done())).collect::<Vec<_>>();
        assert!(check(&history(calls(10))).is_empty());
        assert_eq!(check(&history(calls(11))).len(), 1);
        // A fault makes no difference.
        let with_fault = History { faults: vec![redis_killed(500)], ..history(calls(11)) };
        assert_eq!(check(&with_fault).len(), 1);
    }

    #[test]
    fn an_eleventh_a_minute_after_the_first_is_none_too_many() {
        let mut calls: Vec<Call> = (0..10).map(|n| attempt(n * 100, done())).collect();
        calls.push(attempt(60_001, done()));
        assert!(check(&history(calls)).is_empty());
    }

    #[test]
    fn a_refusal_before_the_tenth_is_found() {
        let mut calls: Vec<Call> = (0..9).map(|n| attempt(n * 100, done())).collect();
        calls.push(attempt(1_000, Outcome::Limited));
        assert_eq!(check(&history(calls.clone())).len(), 1);
        // An attempt of unknown outcome may have been charged.
        calls.insert(0, attempt(50, unknown()));
        assert!(check(&history(calls)).is_empty());
    }

    #[test]
    fn what_was_charged_in_memory_is_not_redis_s_to_count() {
        let mut calls: Vec<Call> = (0..11).map(|n| attempt(n * 100, done())).collect();
        calls[3].counted.as_mut().unwrap().in_redis = false;
        assert!(check(&history(calls)).is_empty());
    }

    #[test]
    fn what_a_redis_counted_that_lost_it_counts_no_more() {
        let calls: Vec<Call> = (0..15).map(|n| attempt(n * 100, done())).collect();
        let mut fault = redis_killed(0);
        (fault.loses_redis, fault.ended) = (true, std::time::Duration::from_millis(650));
        assert!(check(&History { faults: vec![fault], ..history(calls) }).is_empty());
    }
}
