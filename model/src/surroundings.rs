//! The surroundings of readers and writers: the relay (`origin/plane/src/region/vouching.rs` and
//! `origin/plane/src/outbox/relay.rs`), time, and restarts of Redis.

use crate::Protocol;
use crate::reader::forgive;
use crate::state::{
    ATTEMPTS, Copy, Reading, Redis, Region, RegionState, Set, Snapshot, State, WRITERS, Writing, token,
};
use crate::writer::finish_waiting;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A relay reads the region's row, and vouches.
    RelayVouches,
    /// It vouches by a row that it read before the region was turned off.
    RelayVouchesLate,
    /// It finds another Redis process: the row gets a new epoch.
    RelayStartsEpoch,
    /// The row is turned on again, with a new epoch.
    RelayTurnsOn,
    /// It sees a committed writer's row in the outbox, and drops copies that have not seen the write.
    RelayInvalidates {
        writer: u8,
    },

    FenceLapses {
        token: u8,
    },
    LeaseLapses,
    FloorLapses,
    CopyLapses,
    /// Three seconds have passed since Redis restarted.
    VouchingOfBeforeLapses,
    /// 3.5 seconds have passed since the region was turned off.
    OffForLong,

    /// Redis restarts, and has lost nothing.
    RestartWhole,
    /// It has lost everything.
    RestartEmpty,
    /// It comes back in its initial state.
    RestartOld,
}

pub fn open(protocol: &Protocol, state: &State) -> Vec<Step> {
    let mut steps = Vec::with_capacity(24);
    // An update of the row waits for those who hold it.
    let row_is_free = !state.writers.iter().any(|writer| writer.holds_row());
    match state.region {
        Region { knows_redis: false, .. } if row_is_free => steps.push(Step::RelayStartsEpoch),
        Region { knows_redis: true, state: RegionState::On, .. } => steps.push(Step::RelayVouches),
        _ => {}
    }
    steps.extend(state.relay.map(|_| Step::RelayVouchesLate));
    if state.region.state == RegionState::OffLong && row_is_free {
        steps.push(Step::RelayTurnsOn);
    }
    let is_shown = |writer: u8| state.writers[usize::from(writer)].writing == Writing::Shown;
    let is_early = |writer: u8| protocol.relays_read_replicas && is_shown(writer);
    let told = (0..WRITERS).filter(|writer| state.committed.has(*writer) || is_early(*writer));
    steps.extend(told.map(|writer| Step::RelayInvalidates { writer }));

    steps.extend(lapsing_fences(protocol, state).map(|token| Step::FenceLapses { token }));
    steps.extend(state.redis.lease.map(|_| Step::LeaseLapses));
    steps.extend(state.redis.floor.filter(|_| floor_may_lapse(state)).map(|_| Step::FloorLapses));
    steps.extend(state.redis.value.map(|_| Step::CopyLapses));
    steps.extend((state.shaken != 0).then_some(Step::VouchingOfBeforeLapses));
    steps.extend((state.region.state == RegionState::Off).then_some(Step::OffForLong));
    if state.restarts > 0 && !(0..WRITERS).any(is_shown) {
        steps.extend([Step::RestartWhole, Step::RestartEmpty, Step::RestartOld]);
    }
    steps
}

/// Whether the primary shows every write that was told of, and no fill from before is under way. Each telling renews the
/// floor's time.
fn floor_may_lapse(state: &State) -> bool {
    let holder = state.redis.lease.map(|lease| state.readers[usize::from(lease.holder)]);
    let lacks = |reading| matches!(reading, Reading::Loaded { read, .. } if !read.has.contains(state.known));
    !state.writers.iter().any(|writer| writer.writing == Writing::Shown) && !holder.is_some_and(lacks)
}

/// Fences whose time may be over: all but those of transactions that can still commit.
fn lapsing_fences(protocol: &Protocol, state: &State) -> impl Iterator<Item = u8> {
    let protected = (0..WRITERS).zip(&state.writers).filter(|(_, writer)| writer.is_running());
    let protected = protected.map(|(number, writer)| token(number, writer.attempt));
    let kept = protected.fold(0u8, |kept, token| kept | 1 << token);
    let lapsing =
        if protocol.fences_outlive_commits { state.redis.fences & !kept } else { state.redis.fences };
    (0..WRITERS * ATTEMPTS).filter(move |token| lapsing >> token & 1 == 1)
}

pub fn take(protocol: &Protocol, state: &mut State, step: Step) {
    match step {
        Step::RelayVouches => vouch(state, state.region.epoch),
        Step::RelayVouchesLate => {
            if let Some(epoch) = state.relay.take() {
                vouch(state, epoch);
            }
        }
        Step::RelayStartsEpoch => {
            (state.region.epoch, state.region.knows_redis) = (state.region.epoch + 1, true);
        }
        Step::RelayTurnsOn => {
            (state.region.epoch, state.region.state) = (state.region.epoch + 1, RegionState::On);
        }
        Step::RelayInvalidates { writer } => {
            state.redis.invalidate(protocol, writer, &state.writers);
            state.make_known(Set::of(writer));
        }
        Step::FenceLapses { token } => state.redis.lapse(protocol, token),
        Step::LeaseLapses => state.redis.lease = None,
        Step::FloorLapses => state.redis.floor = None,
        Step::CopyLapses => state.redis.value = None,
        Step::VouchingOfBeforeLapses => {
            if state.redis.vouch <= state.shaken {
                state.redis.vouch = 0;
            }
            state.told &= !((2 << state.shaken) - 1);
            state.shaken = 0;
        }
        Step::OffForLong => be_off_for_long(protocol, state),
        Step::RestartWhole | Step::RestartEmpty | Step::RestartOld => restart(state, step),
    }
}

fn vouch(state: &mut State, epoch: u8) {
    if state.redis.vouch(epoch) {
        state.told |= 1 << epoch;
    }
}

/// All vouching by a row from before has lapsed, and a late one will be refused.
fn be_off_for_long(protocol: &Protocol, state: &mut State) {
    state.region.state = RegionState::OffLong;
    (state.redis.vouch, state.told) = (0, 0);
    if protocol.late_vouching_is_refused {
        state.relay = None;
    }
    (0..WRITERS).for_each(|writer| finish_waiting(state, writer));
}

fn restart(state: &mut State, step: Step) {
    state.restarts -= 1;
    state.shaken = state.region.epoch;
    state.region.knows_redis = false;
    // Its connection was to the previous Redis process.
    state.relay = None;
    forgive(state);
    let Redis { epoch, vouch, .. } = state.redis;
    let value = Copy { read: Snapshot::default(), epoch: 1 };
    match step {
        Step::RestartEmpty => state.redis = Redis::default(),
        Step::RestartOld => state.redis = Redis { value: Some(value), epoch, vouch, ..Redis::default() },
        _ => return,
    }
    let is_swept = |writing| matches!(writing, Writing::Fenced | Writing::InDoubt { fenced: true });
    let swept = (0..WRITERS).zip(&state.writers).filter(|(_, writer)| is_swept(writer.writing));
    state.bare = swept.fold(state.bare, |set, (writer, _)| set.with(Set::of(writer)));
}
