//! `cargo xtask mutants`: switches each mechanism off in turn, by a flag of the test build, and requires the tests that
//! cover it to fail; with everything on they must pass. `hooks::disabled` in the origin and `Config::is_disabled` in
//! the edge implement the flags.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::edges::Edge;
use crate::suite::{Results, Suite};
use crate::terminal::{Colour, heading, paint};
use crate::workspace;

/// Where a mechanism is implemented.
#[derive(Clone, Copy)]
enum At {
    Origin,
    Edge,
}

struct Mutant {
    /// Its flag.
    name: &'static str,
    at: At,
    mechanism: &'static str,
    switched_off: &'static str,
    target: &'static str,
    tests: &'static [&'static str],
}

const SLOW_RELEASE: &str =
    "staleness::once_a_write_is_seen_its_predecessor_is_not_although_it_is_not_released";
const SLOW_FILL: &str = "staleness::a_fill_that_began_before_a_write_does_not_outlast_it";
const OTHER_REGION: &str = "staleness::a_write_of_another_region_is_seen_although_a_fill_began_before_it";
const REPLICA_FIRST: &str =
    "staleness::a_write_that_a_replica_shows_first_is_seen_although_a_fill_began_after_the_relay_told_of_it";
const ONE_OF_TWO: &str = "redis::cut_off_from_one_origin_of_two";
const HANGS: &str = "redis::a_redis_that_hangs_costs_a_deadline_now_and_then_and_not_with_every_request";

const MUTANTS: [Mutant; 31] = [
    Mutant {
        name: "fence",
        at: At::Origin,
        mechanism: "the fence",
        switched_off: "a write commits without having fenced its keys",
        target: "it",
        tests: &[SLOW_RELEASE],
    },
    Mutant {
        name: "lease",
        at: At::Origin,
        mechanism: "the lease",
        switched_off: "a write's fence and release void no lease",
        target: "it",
        tests: &[SLOW_FILL],
    },
    Mutant {
        name: "fill",
        at: At::Origin,
        mechanism: "the fill check",
        switched_off: "a fill is stored whatever became of its lease",
        target: "it",
        tests: &[SLOW_FILL],
    },
    Mutant {
        name: "floor",
        at: At::Origin,
        mechanism: "the floor",
        switched_off: "the relay leaves no floor, so that a fill need not have seen what the relay told of",
        target: "it",
        tests: &[OTHER_REGION, REPLICA_FIRST],
    },
    Mutant {
        name: "vouching",
        at: At::Origin,
        mechanism: "vouching",
        switched_off: "a relay vouches although the region is off",
        target: "faults",
        tests: &[ONE_OF_TWO],
    },
    Mutant {
        name: "veil",
        at: At::Origin,
        mechanism: "the veil",
        switched_off: "answers and frames show people whom their reader has blocked",
        target: "it",
        tests: &[
            "api::blocks::nothing_of_somebody_blocked_is_in_any_answer",
            "live::blocks::nothing_of_somebody_blocked_is_told",
        ],
    },
    Mutant {
        name: "edge-veil",
        at: At::Edge,
        mechanism: "the edge's part of the veil",
        switched_off: "the edge answers with copies that name people whom the caller has blocked",
        target: "it",
        tests: &["api::blocks::nothing_of_somebody_blocked_is_in_any_answer"],
    },
    Mutant {
        name: "edge-vouching",
        at: At::Edge,
        mechanism: "vouching, at the edge",
        switched_off: "the edge trusts copies that nobody vouches for",
        target: "faults",
        tests: &[ONE_OF_TWO],
    },
    Mutant {
        name: "edge-belief",
        at: At::Edge,
        mechanism: "epochs, in the script that admits and reacts",
        switched_off: "the script trusts copies of any epoch",
        target: "it",
        tests: &["write_behind::copies_of_another_epoch_admit_no_reaction"],
    },
    Mutant {
        name: "position",
        at: At::Origin,
        mechanism: "the write-behind position",
        switched_off: "a flush does not move the partition's position",
        target: "it",
        tests: &["write_behind::what_is_applied_and_still_in_the_stream_counts_once"],
    },
    Mutant {
        name: "order",
        at: At::Origin,
        mechanism: "the relay's order rule",
        switched_off: "a relay appends rows although older transactions may still commit",
        target: "it",
        tests: &["events::an_event_that_others_overtake_is_not_left_out"],
    },
    Mutant {
        name: "grace",
        at: At::Origin,
        mechanism: "the refresh grace",
        switched_off: "a refresh token that is repeated revokes its family at once",
        target: "it",
        tests: &["api::sessions::refreshing_again_and_at_once_never_logs_out"],
    },
    Mutant {
        name: "reuse",
        at: At::Origin,
        mechanism: "the refresh grace's end",
        switched_off: "a refresh token may be repeated for ever",
        target: "it",
        tests: &["api::sessions::a_late_replay_revokes_the_family"],
    },
    Mutant {
        name: "succession",
        at: At::Origin,
        mechanism: "the end of a log-in's older sessions",
        switched_off: "a refresh leaves every earlier session of its log-in alive",
        target: "it",
        tests: &["api::families::a_refresh_ends_the_session_before_the_refreshed_one"],
    },
    Mutant {
        name: "steps",
        at: At::Origin,
        mechanism: "the order of an ending's steps",
        switched_off: "the session that asks ends in the first step",
        target: "it",
        tests: &["api::families::a_family_of_ten_thousand_ends_in_steps_and_redis_stays_trusted"],
    },
    Mutant {
        name: "account-address",
        at: At::Origin,
        mechanism: "counting log-ins by account and address together",
        switched_off: "ten attempts from anywhere use up an account's",
        target: "it",
        tests: &["log_ins::nobody_keeps_an_owner_out_from_elsewhere"],
    },
    Mutant {
        name: "device",
        at: At::Origin,
        mechanism: "a known device's own log-ins",
        switched_off: "a known device counts like any other",
        target: "it",
        tests: &["log_ins::when_many_addresses_guess_a_known_device_gets_in"],
    },
    Mutant {
        name: "rounds",
        at: At::Origin,
        mechanism: "turns at hashing by network and address",
        switched_off: "log-ins are hashed in the order in which they come",
        target: "it",
        tests: &["log_ins::fifty_addresses_that_log_in_leave_others_their_turn"],
    },
    Mutant {
        name: "breaker",
        at: At::Origin,
        mechanism: "the breaker",
        switched_off: "the origin asks a lost store again with every request",
        target: "faults",
        tests: &[HANGS],
    },
    Mutant {
        name: "edge-breaker",
        at: At::Edge,
        mechanism: "the breaker, at the edge",
        switched_off: "the edge asks a lost Redis again with every request",
        target: "faults",
        tests: &[HANGS],
    },
    Mutant {
        name: "replica-lag",
        at: At::Origin,
        mechanism: "how far a replica may lag",
        switched_off: "a replica that lags answers as if it did not",
        target: "it",
        tests: &["replicas::one_that_lags_is_left_out_until_it_has_caught_up"],
    },
    Mutant {
        name: "replica-role",
        at: At::Origin,
        mechanism: "the role of a replica",
        switched_off: "a replica that was promoted goes on answering",
        target: "it",
        tests: &["replicas::one_that_was_promoted_is_left_out"],
    },
    Mutant {
        name: "claim",
        at: At::Origin,
        mechanism: "the claim of a delivery",
        switched_off: "a claim has lapsed before the delivery is sent",
        target: "it",
        tests: &["deliveries::failing::a_delivery_that_is_under_way_is_nobody_elses"],
    },
    Mutant {
        name: "mark",
        at: At::Origin,
        mechanism: "the mark of a delivery",
        switched_off: "an origin forgets to note what became of what it sent",
        target: "it",
        tests: &["deliveries::failing::a_sender_whose_claim_has_lapsed_marks_nothing"],
    },
    Mutant {
        name: "addresses",
        at: At::Origin,
        mechanism: "the guard of addresses",
        switched_off: "deliveries go to private addresses",
        target: "it",
        tests: &["deliveries::failing::nothing_goes_to_a_private_address"],
    },
    Mutant {
        name: "checked-again",
        at: At::Origin,
        mechanism: "rights and preferences, checked again before sending",
        switched_off: "a delivery is sent once it was planned",
        target: "it",
        tests: &["deliveries::preferences::rights_and_preferences_are_checked_again_before_sending"],
    },
    Mutant {
        name: "edge-presence-lease",
        at: At::Edge,
        mechanism: "the lease of a device's presence",
        switched_off: "a device that vanishes stays present",
        target: "it",
        tests: &["presence::whoever_vanishes_is_gone_and_nobody_else_flaps"],
    },
    Mutant {
        name: "invisible",
        at: At::Origin,
        mechanism: "being invisible",
        switched_off: "others are told that somebody is invisible",
        target: "it",
        tests: &["api::presence::the_strongest_state_of_ones_devices_counts"],
    },
    Mutant {
        name: "wake",
        at: At::Origin,
        mechanism: "the gateway's wakes",
        switched_off: "the gateway hears of no event, and only looks every two seconds",
        target: "it",
        tests: &["live::what_happens_in_a_circle_comes_at_once_to_its_members"],
    },
    Mutant {
        name: "overrun",
        at: At::Origin,
        mechanism: "the rings' beginnings",
        switched_off: "a ring that has dropped events claims to hold them",
        target: "it",
        tests: &["live::gaps::there_is_no_gap_whoever_dies"],
    },
    Mutant {
        name: "rights",
        at: At::Origin,
        mechanism: "rights by position",
        switched_off: "the gateway passes over events that end rights",
        target: "it",
        tests: &["live::rights::nothing_comes_past_the_end_of_a_right"],
    },
];

pub fn run(names: &[String]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| !MUTANTS.iter().any(|mutant| mutant.name == **name)) {
        let known: Vec<&str> = MUTANTS.iter().map(|mutant| mutant.name).collect();
        bail!("there is no mutant {unknown}; the mutants are {}", known.join(", "));
    }
    let chosen: Vec<&Mutant> = MUTANTS
        .iter()
        .filter(|mutant| names.is_empty() || names.iter().any(|name| name == mutant.name))
        .collect();
    let mut suite = Suite::with_hooks()?;
    suite.build()?;
    let logs = workspace::target_folder(&suite.root)?.join("mutants");
    std::fs::create_dir_all(&logs)?;

    heading("Everything on");
    for target in ["it", "faults"] {
        let tests: BTreeSet<&str> = chosen
            .iter()
            .filter(|mutant| mutant.target == target)
            .flat_map(|mutant| mutant.tests)
            .copied()
            .collect();
        if tests.is_empty() {
            continue;
        }
        let tests: Vec<&str> = tests.into_iter().collect();
        let log = logs.join(format!("everything-on-{target}.log"));
        let outcome = play(&mut suite, None, target, &tests, &log)?;
        println!("  {target}: {} passed, {} failed, {} s", outcome.passed, outcome.failed, outcome.seconds);
        ensure!(
            outcome.failed == 0 && outcome.passed == tests.len() as u64,
            "with everything on the same tests must pass: {} did not; see {}",
            outcome.failures.join(", "),
            log.display()
        );
    }

    heading("Switched off, one at a time");
    println!("| mechanism | switched off | tests that ran | failed | seconds |\n|-|-|-|-|-|");
    let mut survivors = Vec::new();
    for mutant in chosen {
        let log = logs.join(format!("{}.log", mutant.name));
        let outcome = play(&mut suite, Some(mutant), mutant.target, mutant.tests, &log)?;
        let failed = match outcome.failed {
            0 => paint(Colour::Red, "none"),
            failed => format!("{failed} of {}", mutant.tests.len()),
        };
        println!(
            "| {} | {} | {} | {failed} | {} |",
            mutant.mechanism,
            mutant.switched_off,
            code(mutant.tests),
            outcome.seconds
        );
        if outcome.failed == 0 {
            survivors.push(mutant.name);
        }
    }
    ensure!(survivors.is_empty(), "nothing fails without {}; see {}", survivors.join(", "), logs.display());
    Ok(())
}

fn code<T: AsRef<str>>(names: &[T]) -> String {
    let mut text = String::new();
    for (index, name) in names.iter().enumerate() {
        let _ = write!(text, "{}`{}`", if index > 0 { ", " } else { "" }, name.as_ref());
    }
    text
}

struct Outcome {
    passed: u64,
    failed: u64,
    failures: Vec<String>,
    seconds: u64,
}

/// Runs these tests one after the other, with a mutant or none; their output goes to a file.
fn play(
    suite: &mut Suite,
    mutant: Option<&Mutant>,
    target: &str,
    tests: &[&str],
    log: &Path,
) -> Result<Outcome> {
    let mut command = suite.system_command(Edge::Embedded)?;
    command.stderr(std::fs::File::create(log.with_extension("stderr"))?);
    match mutant {
        Some(Mutant { name, at: At::Origin, .. }) => drop(command.env("OPTIMIST_TEST_DISABLED", name)),
        Some(Mutant { name, at: At::Edge, .. }) => drop(command.env("SPIN_VARIABLE_DISABLED", name)),
        None => {}
    }
    let arguments = [&["--exact", "--test-threads=1"], tests].concat();
    let mut printed = String::new();
    let began = Instant::now();
    let results = suite.tests(command, &[&format!("--test={target}")], &arguments, |line| {
        printed.push_str(line);
        printed.push('\n');
    });
    std::fs::write(log, printed)?;
    let Results { passed, failed, failures, .. } =
        results.with_context(|| format!("see {} and its .stderr", log.display()))?;
    Ok(Outcome { passed, failed, failures, seconds: began.elapsed().as_secs() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_of_its_own_and_a_test() {
        let names: BTreeSet<&str> = MUTANTS.iter().map(|mutant| mutant.name).collect();
        assert_eq!(names.len(), MUTANTS.len());
        assert!(MUTANTS.iter().all(|mutant| !mutant.tests.is_empty()));
    }
}
