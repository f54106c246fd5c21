//! After a write is acknowledged, no read returns what it replaced.
//!
//! A register has one writer, which repeats a write until it is acknowledged before it makes the next. A try of unknown
//! outcome may still execute, even after later writes: its value is never called stale.

use std::collections::BTreeMap;

use optimist_shared::keys::Key;
use optimist_tests::registers::Seen;

use crate::history::{At, Call, History, Intent, Outcome};

/// The known facts about one write of a register.
#[derive(Clone, Copy, Debug)]
struct Write {
    begun: At,
    /// When it had certainly taken effect: acknowledged, or seen.
    in_effect: Option<At>,
    /// When it could certainly no longer execute; `None` if that is not known.
    over: Option<At>,
}

pub fn check(history: &History) -> Vec<String> {
    let mut found = Vec::new();
    let mut keys: Vec<Key> = Vec::new();
    for call in &history.calls {
        if let Intent::Read { key } = call.intent
            && key != Key::Session
            && !keys.contains(&key)
        {
            keys.push(key);
        }
    }
    for key in keys {
        let mut writes = writes_of(history, key);
        let mut reads: Vec<(&Call, Seen)> = reads_of(history, key).collect();
        reads.sort_by_key(|(call, _)| call.ended);
        for (call, seen) in reads {
            let current: Vec<u64> = candidates(&writes, call);
            if !current.iter().any(|number| seen.fits(*number, *number)) {
                let (low, high) = (current.first(), current.last());
                found.push(format!(
                    "{key:?} at {:?}..{:?}: {seen:?}, when it was one of {low:?}..{high:?}",
                    call.begun, call.ended
                ));
            }
            // A read that returned a write proves that it has taken effect.
            if let Seen::Number(number) = seen
                && let Some(write) = writes.get_mut(&number)
            {
                write.in_effect = Some(write.in_effect.map_or(call.ended, |at| at.min(call.ended)));
            }
        }
    }
    found
}

/// Reads that returned a value and are judged.
fn reads_of(history: &History, key: Key) -> impl Iterator<Item = (&Call, Seen)> {
    history.calls.iter().filter_map(move |call| match (&call.intent, &call.outcome) {
        (Intent::Read { key: of }, Outcome::Seen(seen))
            if *of == key
                && !matches!(seen, Seen::Marked | Seen::Unknown)
                && !history.is_forgiven(call.begun, call.ended) =>
        {
            Some((call, *seen))
        }
        _ => None,
    })
}

/// The register's writes; number 0 is its initial state.
fn writes_of(history: &History, key: Key) -> BTreeMap<u64, Write> {
    let first = Write { begun: At::ZERO, in_effect: Some(At::ZERO), over: Some(At::ZERO) };
    let mut writes = BTreeMap::from([(0, first)]);
    for call in &history.calls {
        let Intent::Write { key: of, number } = call.intent else { continue };
        if of != key {
            continue;
        }
        let write = writes.entry(number).or_insert(Write {
            begun: call.begun,
            in_effect: None,
            over: Some(call.begun),
        });
        match call.outcome {
            Outcome::Acknowledged { .. } => {
                write.in_effect = Some(call.ended);
                write.over = write.over.map(|over| over.max(call.ended));
            }
            Outcome::Unknown(_) => write.over = None,
            _ => write.over = write.over.map(|over| over.max(call.ended)),
        }
    }
    writes
}

/// Writes whose effect a read may have seen: begun before it ended, and not certainly replaced before it began.
fn candidates(writes: &BTreeMap<u64, Write>, read: &Call) -> Vec<u64> {
    // The latest beginning of a write that was in effect before the read.
    let replaced_at = writes
        .values()
        .filter(|write| write.in_effect.is_some_and(|at| at < read.begun))
        .map(|write| write.begun)
        .max()
        .unwrap_or_default();
    let may_be = |(_, write): &(&u64, &Write)| {
        write.begun <= read.ended && write.over.is_none_or(|over| over >= replaced_at)
    };
    writes.iter().filter(may_be).map(|(number, _)| *number).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, done, history, redis_killed, unknown};
    use super::*;

    fn write(number: u64, begun: u64, outcome: Outcome) -> Call {
        call(begun, begun + 10, Intent::Write { key: Key::Me, number }, outcome)
    }

    fn read(begun: u64, seen: Seen) -> Call {
        call(begun, begun + 5, Intent::Read { key: Key::Me }, Outcome::Seen(seen))
    }

    #[test]
    fn what_was_replaced_before_the_read_is_found() {
        let calls = vec![write(1, 100, done()), write(2, 200, done()), read(300, Seen::Number(1))];
        assert_eq!(check(&history(calls)).len(), 1);
        let calls = vec![write(1, 100, done()), write(2, 200, done()), read(300, Seen::Number(2))];
        assert!(check(&history(calls)).is_empty());
    }

    #[test]
    fn a_read_during_the_write_may_see_either() {
        for number in [0, 1] {
            assert!(check(&history(vec![write(1, 100, done()), read(104, Seen::Number(number))])).is_empty());
        }
    }

    #[test]
    fn what_nobody_has_begun_to_write_is_found() {
        assert_eq!(check(&history(vec![write(1, 100, done()), read(50, Seen::Number(1))])).len(), 1);
        assert_eq!(check(&history(vec![read(50, Seen::Number(9))])).len(), 1);
    }

    #[test]
    fn who_looks_again_does_not_see_older_things() {
        let calls = vec![write(1, 100, unknown()), read(120, Seen::Number(1)), read(130, Seen::Number(0))];
        assert_eq!(check(&history(calls)).len(), 1);
    }

    #[test]
    fn a_try_of_unknown_outcome_may_come_to_pass_late() {
        let calls = vec![
            write(1, 100, unknown()),
            write(1, 120, done()),
            write(2, 200, done()),
            read(300, Seen::Number(1)),
        ];
        assert!(check(&history(calls)).is_empty());
        let calls = vec![
            write(1, 100, done()),
            write(2, 200, unknown()),
            write(2, 220, done()),
            read(300, Seen::Number(1)),
        ];
        assert_eq!(check(&history(calls)).len(), 1, "but not what was certainly over before");
    }

    #[test]
    fn a_toggle_is_held_to_its_side() {
        let at = |begun, odd| read(begun, Seen::Odd(odd));
        let writes = vec![write(1, 100, done()), write(2, 200, done())];
        assert_eq!(check(&history([writes.clone(), vec![at(300, true)]].concat())).len(), 1);
        assert!(check(&history([writes, vec![at(300, false), at(150, true)]].concat())).is_empty());
    }

    #[test]
    fn five_seconds_after_a_store_s_fault_nothing_is_forgiven_any_more() {
        let calls = |begun| vec![write(1, 100, done()), read(begun, Seen::Number(0))];
        let with_fault = |begun| History { faults: vec![redis_killed(1_000)], ..history(calls(begun)) };
        assert!(check(&with_fault(5_500)).is_empty());
        // One second down, and five from the restart.
        assert!(check(&with_fault(6_900)).is_empty());
        assert_eq!(check(&with_fault(7_100)).len(), 1);
        assert_eq!(check(&with_fault(900)).len(), 1, "nor before it");
    }

    #[test]
    fn what_is_marked_is_not_held_to_anything() {
        assert!(check(&history(vec![write(1, 100, done()), read(300, Seen::Marked)])).is_empty());
    }
}
