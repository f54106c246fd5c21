//! A revoked session is refused from the acknowledgement on, and a session that nobody revokes is not refused.

use std::collections::BTreeMap;

use optimist_shared::keys::Key;
use optimist_tests::registers::Seen;

use crate::history::{At, History, Intent, Outcome};

pub fn check(history: &History) -> Vec<String> {
    let mut begun: BTreeMap<u64, At> = BTreeMap::new();
    let mut acknowledged: BTreeMap<u64, At> = BTreeMap::new();
    for call in &history.calls {
        if let Intent::Write { key: Key::Session, number } = call.intent {
            begun.entry(number).or_insert(call.begun);
            if matches!(call.outcome, Outcome::Acknowledged { .. }) {
                acknowledged.entry(number).or_insert(call.ended);
            }
        }
    }
    let mut found = Vec::new();
    for call in &history.calls {
        let Outcome::Seen(Seen::Session { revoked_by, accepted }) = call.outcome else { continue };
        if history.is_forgiven(call.begun, call.ended) {
            continue;
        }
        let is_over = acknowledged.get(&revoked_by).is_some_and(|at| *at < call.begun);
        let may_be_over = begun.get(&revoked_by).is_some_and(|at| *at <= call.ended);
        if accepted && is_over {
            found.push(format!("session {revoked_by} was revoked, and accepted at {:?}", call.begun));
        }
        if !accepted && !may_be_over {
            found
                .push(format!("session {revoked_by} was refused at {:?}, and nobody revoked it", call.begun));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, done, history, redis_killed, unknown};
    use super::*;
    use crate::history::Call;

    fn revoke(begun: u64, outcome: Outcome) -> Call {
        call(begun, begun + 10, Intent::Write { key: Key::Session, number: 1 }, outcome)
    }

    fn used(begun: u64, accepted: bool) -> Call {
        let seen = Seen::Session { revoked_by: 1, accepted };
        call(begun, begun + 5, Intent::Read { key: Key::Session }, Outcome::Seen(seen))
    }

    #[test]
    fn a_session_alive_after_its_revocation_is_found() {
        assert_eq!(check(&history(vec![revoke(100, done()), used(120, true)])).len(), 1);
        assert!(check(&history(vec![revoke(100, done()), used(120, false)])).is_empty());
        assert!(check(&history(vec![revoke(100, done()), used(105, true), used(105, false)])).is_empty());
    }

    #[test]
    fn one_that_nobody_revoked_is_not_refused() {
        assert_eq!(check(&history(vec![used(50, false), revoke(100, done())])).len(), 1);
        assert_eq!(check(&history(vec![used(50, false)])).len(), 1);
    }

    #[test]
    fn a_revocation_of_unknown_outcome_promises_nothing() {
        let calls = vec![revoke(100, unknown()), used(120, true), used(130, false)];
        assert!(check(&history(calls)).is_empty());
    }

    #[test]
    fn a_store_s_fault_is_forgiven_for_five_seconds() {
        let with_fault = |begun| History {
            faults: vec![redis_killed(1_000)],
            ..history(vec![revoke(100, done()), used(begun, true)])
        };
        assert!(check(&with_fault(6_000)).is_empty());
        assert_eq!(check(&with_fault(7_100)).len(), 1);
    }
}
