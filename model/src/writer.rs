//! A writer: statements, fence, commit, release, acknowledgement (`origin/plane/src/postgres/write.rs`), and its
//! reaction when Redis does not answer (`origin/plane/src/region/switch.rs`).

use crate::Protocol;
use crate::state::{ATTEMPTS, RegionState, Set, State, Then, Writing, token};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It reads how the region writes, and runs its statements.
    Begin {
        fenced: bool,
    },
    /// The same, in another region.
    BeginElsewhere,
    /// A replica shows its commit.
    Show,
    RaiseFence,
    /// Redis does not answer; it may have executed the script or not.
    FenceUnanswered {
        executed: bool,
    },
    Commit,
    /// Postgres refuses, and says so.
    CommitRefused,
    /// It is killed, or loses its connections: nobody is answered.
    Crash,
    /// Postgres ends the transaction of a writer that is gone.
    EndInDoubt {
        commits: bool,
    },
    Unhide,
    /// It releases its key, and acknowledges.
    Release,
    ReleaseUnanswered {
        executed: bool,
    },
    TurnRegionOff,
    /// Its client asks again, with the same idempotency key.
    Repeat,
}

/// The steps that a writer can take next.
pub fn open(protocol: &Protocol, state: &State, writer: u8) -> Vec<Step> {
    use Step::*;
    let can_fail = state.faults > 0;
    match state.writers[usize::from(writer)].writing {
        Writing::Idle => match may_write_unfenced(protocol, state) {
            true => vec![Begin { fenced: true }, Begin { fenced: false }, BeginElsewhere],
            false => vec![Begin { fenced: true }, BeginElsewhere],
        },
        Writing::Open { fenced: true } if can_fail && protocol.fences => {
            vec![RaiseFence, FenceUnanswered { executed: false }, FenceUnanswered { executed: true }, Crash]
        }
        Writing::Open { fenced: true } => vec![RaiseFence, Crash],
        Writing::Open { fenced: false } => vec![Commit, Crash],
        Writing::Fenced => vec![Commit, CommitRefused, Crash],
        Writing::InDoubt { .. } => vec![EndInDoubt { commits: true }, EndInDoubt { commits: false }],
        Writing::Refused => vec![Unhide, Crash],
        Writing::Committed if can_fail && protocol.releases => {
            vec![Release, ReleaseUnanswered { executed: false }, ReleaseUnanswered { executed: true }, Crash]
        }
        Writing::Committed => vec![Release, Crash],
        // An update of the row waits for those who hold it.
        Writing::CutOff(_) if state.writers.iter().any(|other| other.holds_row()) => vec![Crash],
        Writing::CutOff(_) => vec![TurnRegionOff, Crash],
        Writing::Waiting(_) => vec![Crash],
        Writing::Lost => vec![Repeat],
        Writing::Elsewhere => vec![Show, Commit],
        Writing::Shown => vec![Commit],
        Writing::Done => vec![],
    }
}

/// As `hold_off` in `origin/plane/src/postgres/write.rs`.
fn may_write_unfenced(protocol: &Protocol, state: &State) -> bool {
    match state.region.state {
        RegionState::On => false,
        RegionState::Off => !protocol.off_is_waited_for,
        RegionState::OffLong => true,
    }
}

pub fn take(protocol: &Protocol, state: &mut State, writer: u8, step: Step) {
    let index = usize::from(writer);
    let token = token(writer, state.writers[index].attempt);
    match step {
        Step::Begin { fenced } => {
            state.assign_xid(writer);
            state.writers[index].writing = Writing::Open { fenced };
        }
        Step::BeginElsewhere => {
            state.assign_xid(writer);
            state.bare = state.bare.with(Set::of(writer));
            state.writers[index].writing = Writing::Elsewhere;
        }
        Step::Show => state.writers[index].writing = Writing::Shown,
        Step::RaiseFence => {
            if protocol.fences {
                state.redis.fence(token);
            }
            state.writers[index].writing = Writing::Fenced;
        }
        Step::FenceUnanswered { executed } => {
            state.faults -= 1;
            if executed {
                state.redis.fence(token);
            }
            state.forget_xid(writer);
            state.writers[index].writing = Writing::CutOff(Then::TryAgain);
        }
        Step::Commit => {
            state.committed = state.committed.with(Set::of(writer));
            match state.writers[index].writing {
                Writing::Open { .. } => acknowledge(state, writer),
                // Its client is told in its own region.
                Writing::Elsewhere | Writing::Shown => state.writers[index].writing = Writing::Done,
                _ => state.writers[index].writing = Writing::Committed,
            }
        }
        Step::CommitRefused => {
            state.forget_xid(writer);
            state.writers[index].writing = Writing::Refused;
        }
        Step::Crash => crash(state, writer),
        Step::EndInDoubt { commits } => {
            if commits {
                state.committed = state.committed.with(Set::of(writer));
            } else {
                state.forget_xid(writer);
            }
            lose(state, writer);
        }
        Step::Unhide => {
            state.redis.unhide(token);
            lose(state, writer);
        }
        Step::Release => {
            if protocol.releases {
                state.redis.release(token);
            }
            acknowledge(state, writer);
        }
        Step::ReleaseUnanswered { executed } => {
            state.faults -= 1;
            if executed {
                state.redis.release(token);
            }
            state.writers[index].writing = Writing::CutOff(Then::Acknowledge);
        }
        Step::TurnRegionOff => {
            let Writing::CutOff(then) = state.writers[index].writing else { return };
            if state.region.state == RegionState::On {
                state.region.state = RegionState::Off;
                // A relay that has read the row just before may still vouch by it.
                state.relay = Some(state.region.epoch).filter(|_| state.region.knows_redis);
            }
            state.writers[index].writing = Writing::Waiting(then);
            if may_write_unfenced(protocol, state) {
                finish_waiting(state, writer);
            }
        }
        Step::Repeat => {
            state.writers[index].attempt += 1;
            // A repeat answered from its record still releases its keys, unless nobody trusts them anyway.
            match (state.committed.has(writer), may_write_unfenced(protocol, state)) {
                (true, false) => state.writers[index].writing = Writing::Committed,
                (true, true) => acknowledge(state, writer),
                (false, _) => state.writers[index].writing = Writing::Idle,
            }
        }
    }
}

fn crash(state: &mut State, writer: u8) {
    let index = usize::from(writer);
    match state.writers[index].writing {
        // The commit may be on its way.
        Writing::Fenced => state.writers[index].writing = Writing::InDoubt { fenced: true },
        Writing::Open { fenced: false } => state.writers[index].writing = Writing::InDoubt { fenced: false },
        Writing::Open { fenced: true } => {
            state.forget_xid(writer);
            lose(state, writer);
        }
        _ => lose(state, writer),
    }
}

/// Its client got no answer, or a failure.
fn lose(state: &mut State, writer: u8) {
    let writer = &mut state.writers[usize::from(writer)];
    writer.writing = if writer.attempt + 1 < ATTEMPTS { Writing::Lost } else { Writing::Done };
}

fn acknowledge(state: &mut State, writer: u8) {
    state.writers[usize::from(writer)].writing = Writing::Done;
    state.make_known(Set::of(writer));
}

/// The region has been off for long enough.
pub fn finish_waiting(state: &mut State, writer: u8) {
    let index = usize::from(writer);
    match state.writers[index].writing {
        Writing::Waiting(Then::Acknowledge) => acknowledge(state, writer),
        Writing::Waiting(Then::TryAgain) => try_again(state, writer),
        _ => {}
    }
}

/// Tries again in the region's current mode.
fn try_again(state: &mut State, writer: u8) {
    let writer = &mut state.writers[usize::from(writer)];
    if writer.attempt + 1 < ATTEMPTS {
        (writer.attempt, writer.writing) = (writer.attempt + 1, Writing::Idle);
    } else {
        writer.writing = Writing::Done;
    }
}
