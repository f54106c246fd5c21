//! The printed report: the calls and violations of each schedule, and one line for all together.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::history::{History, Intent, Outcome as Became};
use crate::play::Outcome;
use crate::schedule::Fault;

/// Calls by kind: how many were acknowledged or seen, how many refused or limited, and how many of unknown outcome.
fn calls_by_kind(history: &History) -> BTreeMap<&'static str, [u64; 3]> {
    let mut kinds: BTreeMap<&'static str, [u64; 3]> = BTreeMap::new();
    for call in &history.calls {
        let kind = match call.intent {
            Intent::Write { .. } => "write",
            Intent::Read { .. } => "read",
            Intent::Post { .. } => "post",
            Intent::React { .. } => "react",
            Intent::Belong { .. } => "join/leave",
            Intent::Save { .. } => "save",
            Intent::ReadAll => "read-all",
        };
        let column = match &call.outcome {
            Became::Acknowledged { .. } | Became::KeptAside => 0,
            Became::Seen(seen) if !matches!(seen, optimist_tests::registers::Seen::Unknown) => 0,
            Became::Refused { .. } | Became::Limited => 1,
            Became::Unknown(_) | Became::Seen(_) => 2,
        };
        kinds.entry(kind).or_default()[column] += 1;
    }
    kinds
}

/// The lines of one schedule.
pub fn of_schedule(outcome: &Outcome) -> String {
    let schedule = &outcome.schedule;
    let mut lines = vec![format!("seed {} {schedule}", schedule.seed)];
    let calls: Vec<String> = calls_by_kind(&outcome.history)
        .into_iter()
        .map(|(kind, [done, refused, unknown])| format!("{kind} {done}/{refused}/{unknown}"))
        .collect();
    let calls = if calls.is_empty() { "none".to_owned() } else { calls.join(", ") };
    lines.push(format!("    calls (done/refused/unknown): {calls}; {:.0} s", outcome.took.as_secs_f64()));
    for fault in &outcome.left_out {
        lines.push(format!("    left out, since this machine cannot do it: {fault}"));
    }
    for violation in &outcome.violations {
        lines.push(format!("    VIOLATION of {}: {}", violation.check, violation.what));
    }
    if !outcome.violations.is_empty() {
        lines.push(format!("    again: cargo xtask soak --seed {}", schedule.seed));
    }
    lines.join("\n")
}

/// All schedules together.
#[derive(Default)]
pub struct Total {
    schedules: u64,
    violations: u64,
    failed: Vec<u64>,
    faults: BTreeMap<&'static str, u64>,
    calls: u64,
    unknown: u64,
}

impl Total {
    pub fn add(&mut self, outcome: &Outcome) {
        self.schedules += 1;
        self.violations += outcome.violations.len() as u64;
        if !outcome.violations.is_empty() {
            self.failed.push(outcome.schedule.seed);
        }
        for planned in &outcome.schedule.faults {
            if !outcome.left_out.contains(&planned.fault) {
                *self.faults.entry(kind(planned.fault)).or_default() += 1;
            }
        }
        for [done, refused, unknown] in calls_by_kind(&outcome.history).into_values() {
            self.calls += done + refused + unknown;
            self.unknown += unknown;
        }
    }

    pub fn found_any(&self) -> bool {
        self.violations > 0
    }

    pub fn line(&self, took: Duration) -> String {
        let faults: Vec<String> =
            self.faults.iter().map(|(kind, number)| format!("{number} {kind}")).collect();
        let failed = match self.failed.as_slice() {
            [] => String::new(),
            seeds => format!(" in seeds {seeds:?}"),
        };
        format!(
            "{} seeds, {} faults ({}), {} calls of which {} had no known outcome, {} violations{failed}; {} min",
            self.schedules,
            self.faults.values().sum::<u64>(),
            faults.join(", "),
            self.calls,
            self.unknown,
            self.violations,
            took.as_secs().div_ceil(60)
        )
    }
}

fn kind(fault: Fault) -> &'static str {
    match fault {
        Fault::Kill(_) => "kills",
        Fault::DieAt(..) => "deaths at a step",
        Fault::Dawdle(..) => "pauses at a step",
        Fault::Stop(_) => "stops",
        Fault::Network(..) => "network faults",
        Fault::FullDisk => "full disks",
        Fault::FullMemory => "full memories",
        Fault::Emptied => "losses of Redis",
        Fault::Clock(..) => "clock jumps",
        Fault::Migrate => "migrations",
        Fault::ManyTransactions => "jumps of transactions",
        Fault::Archive(_) | Fault::Restore(_) => "archives",
    }
}
