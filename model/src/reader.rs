//! Readers: at the edge (`edge/core/src/ask.rs` and `answer.rs`), and with a miss at the origin
//! (`origin/plane/src/cache/read.rs`).
//!
//! An edge's read of a copy and the origin's answer without a lease are each one step that leaves nothing behind, so
//! any number of such readers is covered. Only a reader that asks for a lease takes several steps: two readers, and the
//! refill of a warm key, which is a miss that nobody waits for.

use crate::Protocol;
use crate::scripts::Leased;
use crate::state::{READERS, Reading, RegionState, Set, State};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An edge finds a copy that it trusts, and answers.
    ReadCopy,
    /// The origin answers from Postgres without a lease: unvouched, fenced, leased to another, or without Redis.
    ReadPostgres,
    /// A miss at the origin, which finds an epoch vouched and asks for the lease. Later readers do not join it.
    Miss {
        reader: u8,
        epoch: u8,
    },
    /// The same, stopped before it asks. (While vouching does not lapse, this equals a later miss.)
    Check {
        reader: u8,
        epoch: u8,
    },
    AskForLease {
        reader: u8,
    },
    /// The lease holder queries Postgres, and answers.
    Load {
        reader: u8,
    },
    Fill {
        reader: u8,
    },
    /// The reader is killed.
    Crash {
        reader: u8,
    },
}

pub fn open(protocol: &Protocol, state: &State) -> Vec<Step> {
    let mut steps = vec![Step::ReadPostgres];
    if state.redis.trusted(protocol).is_some() {
        steps.push(Step::ReadCopy);
    }
    for (reader, reading) in (0..READERS as u8).zip(&state.readers) {
        match reading {
            Reading::Idle => {
                steps.extend(state.told().map(|epoch| Step::Miss { reader, epoch }));
                if state.shaken != 0 || state.region.state != RegionState::On {
                    steps.extend(state.told().map(|epoch| Step::Check { reader, epoch }));
                }
            }
            Reading::Checked { .. } => steps.extend([Step::AskForLease { reader }, Step::Crash { reader }]),
            Reading::Leased { .. } => steps.extend([Step::Load { reader }, Step::Crash { reader }]),
            Reading::Loaded { .. } => steps.extend([Step::Fill { reader }, Step::Crash { reader }]),
        }
    }
    steps
}

pub fn take(protocol: &Protocol, state: &mut State, step: Step) {
    match step {
        Step::ReadCopy => {
            if let Some(copy) = state.redis.trusted(protocol) {
                state.answer_from_copy(protocol, copy, state.required());
            }
        }
        Step::ReadPostgres => state.answer_from_postgres(protocol),
        Step::Miss { reader, epoch } => {
            check(state, reader, epoch);
            ask_for_lease(protocol, state, reader);
        }
        Step::Check { reader, epoch } => check(state, reader, epoch),
        Step::AskForLease { reader } => ask_for_lease(protocol, state, reader),
        Step::Load { reader } => {
            let Reading::Leased { epoch } = state.readers[usize::from(reader)] else { return };
            state.readers[usize::from(reader)] = Reading::Loaded { epoch, read: state.snapshot() };
            state.answer_from_postgres(protocol);
        }
        Step::Fill { reader } => {
            let Reading::Loaded { epoch, read } = state.readers[usize::from(reader)] else { return };
            state.redis.fill(protocol, reader, read, epoch);
            state.readers[usize::from(reader)] = Reading::Idle;
        }
        Step::Crash { reader } => state.readers[usize::from(reader)] = Reading::Idle,
    }
}

fn check(state: &mut State, reader: u8, epoch: u8) {
    state.readers[usize::from(reader)] = Reading::Checked { epoch, required: state.required() };
}

fn ask_for_lease(protocol: &Protocol, state: &mut State, reader: u8) {
    let Reading::Checked { epoch, required } = state.readers[usize::from(reader)] else { return };
    state.readers[usize::from(reader)] = match state.redis.lease(protocol, reader, epoch) {
        Leased::Value(copy) => {
            state.answer_from_copy(protocol, copy, required);
            Reading::Idle
        }
        Leased::Granted => Reading::Leased { epoch },
        Leased::Refused => {
            state.answer_from_postgres(protocol);
            Reading::Idle
        }
    };
}

/// Excuses readers that asked before a restart.
pub fn forgive(state: &mut State) {
    for reading in &mut state.readers {
        if let Reading::Checked { required, .. } = reading {
            *required = Set::default();
        }
    }
}
