//! With `--nocapture`, prints the number of states, and what goes wrong without each mechanism.

use crate::mechanisms::MECHANISMS;
use crate::{Checked, Protocol, Search, WHOLE, check};

fn checked(name: &str, protocol: Protocol) -> Checked {
    let checked = check(protocol);
    println!("{name}: {} states, {} steps", checked.states, checked.steps);
    checked
}

fn holds(name: &str, protocol: Protocol) {
    let counterexample = checked(name, protocol).counterexample;
    assert!(counterexample.is_none(), "{name}:\n{}", counterexample.unwrap_or_default());
}

#[test]
fn no_read_is_stale_whatever_fails() {
    holds("the whole protocol", WHOLE);
}

#[test]
fn nor_if_the_relays_read_the_primary() {
    holds("on the primary", Protocol { relays_read_replicas: false, ..WHOLE });
}

#[test]
fn each_mechanism_matters() {
    for mechanism in MECHANISMS {
        let found = checked(mechanism.name, mechanism.without).counterexample;
        let path = found.unwrap_or_else(|| panic!("nothing goes wrong without: {}", mechanism.what));
        println!("{path}");
    }
}

/// Dropping state does not change the outcome.
#[test]
fn states_told_apart_by_everything_say_the_same() {
    holds("plainly", Protocol { faults: 0, restarts: 0, search: Search::Plain, ..WHOLE });
}

/// The fence protects reads that saw a write before it was acknowledged, and covers writers that die. A commit that
/// hangs for longer than its fence stands loses no acknowledged write.
#[test]
fn what_was_acknowledged_needs_no_fence() {
    let acknowledged = Protocol { seen_is_known: false, ..WHOLE };
    holds("unfenced", Protocol { fences: false, ..acknowledged });
    holds("a slow commit", Protocol { fences_outlive_commits: false, ..acknowledged });
}

/// A lease that stands was given while no fence was up, and none has been raised since. So a fill's check of the fences
/// is redundant.
#[test]
fn a_fills_look_at_the_fences_is_a_second_line() {
    holds("unlooked", Protocol { fills_respect_fences: false, ..WHOLE });
}
