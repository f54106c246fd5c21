//! The cache protocol as a model, and a checker that explores everything that can happen in it.
//!
//! Two writers of one key, either of which may belong to another region, two readers and the refill of a warm key, the relay, the region's row, Postgres and Redis.
//! Each takes one step at a time, in any order; each may be killed before any step, calls to Redis may go unanswered,
//! and Redis may restart: whole, empty, or in an old state. The property: **no read returns less than what was known
//! when it began**. A write is known once it is acknowledged, once any read has returned it, and once the relay has
//! told of it.
//!
//! The model follows `shared/src/scripts`, `origin/plane/src/cache/read.rs` and `fence.rs`, `origin/plane/src/region/`,
//! `origin/plane/src/outbox/relay.rs`, `origin/plane/src/postgres/write.rs` and `edge/core/src/answer.rs`; a change of
//! the protocol there needs the same change here. The model has no time. These assumptions exclude what time excludes
//! in reality; everything else may happen:
//!
//! | assumed | because |
//! |-|-|
//! | a fence does not lapse while its transaction can commit | `FENCE_MS` 7,000 > 2,000 a statement + 2,500 idle + 2,000 the commit (`postgres/pool.rs`) |
//! | a value hidden by a fence does not outlive it | `fence.lua` gives it 100 ms less, and a later fence no more |
//! | when the region has been off for long, nobody vouches by a row from before, and no origin gives leases by it | `OFF_FOR_MS` 3,500 > `VOUCH_MS` 3,000 from before the row was read |
//! | nobody turns the region on sooner, nor while someone writes unfenced | `SWITCH_ON` (`region/vouching.rs`); `hold_off` (`postgres/write.rs`) holds the row |
//! | nobody vouches for a Redis except by its own epoch | the relay's connection is to one process (`run_id`) |
//! | a fill that comes later than `LEASE_MS` finds its lease gone | Redis's expiry; a lease may lapse at any time here |
//! | a floor does not lapse before the primary shows its commit, nor while a fill from before is under way | `FLOOR_MS` 60,000 > `LAG_MS` 10,000 + 2,000 the commit + `LEASE_MS` 5,000 |
//! | Redis does not restart between the moments at which a replica and the primary show a commit | they are milliseconds apart |
//!
//! An event that only removes possibilities is not a step: a vouching that lapses early, a refill that nobody starts, a
//! fence or a release that Redis executes long after its caller has given up. A party that may take a step may also
//! never take it.
//!
//! A restart may cost five seconds, until earlier vouching has lapsed and transactions whose fences it swept away have
//! ended. Answers within that time may be wrong, and are not judged.
//!
//! A writer of another region is known here once the relay has told of its write. A relay that reads a replica may tell of
//! it before the primary shows it. An answer from the primary in that moment is not judged; a copy that it leaves is.
//!
//! Left out: answers marked as degraded, which promise nothing; several keys in one write, each of which has its own
//! fence; the expiry of values by age, which equals a copy gone at any time; two Redis processes alive at once, each
//! with origins that reach only it. While the latter lasts the protocol promises nothing, since a fence in one process
//! is none in the other.

pub mod mechanisms;
pub mod state;

mod forget;
mod narrate;
mod reader;
mod scripts;
mod surroundings;
mod writer;

use stateright::{Checker, Model, Property};

use state::State;

/// The mechanisms that are present, the faults that may occur, and the required guarantee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    pub fences: bool,
    pub releases: bool,
    pub leases_respect_fences: bool,
    pub floors: bool,
    pub floors_need_no_lease: bool,
    pub leases_mind_replicas: bool,
    pub fills_need_their_lease: bool,
    pub fills_respect_fences: bool,
    pub hidden_copies_lapse: bool,
    pub copies_are_vouched_for: bool,
    pub copies_carry_epochs: bool,
    pub late_vouching_is_refused: bool,
    pub off_is_waited_for: bool,
    pub fences_outlive_commits: bool,
    /// Whether a write returned to anyone must be in all later reads; otherwise only acknowledged writes must.
    pub seen_is_known: bool,
    /// The relays read a replica, which may show a commit before the primary does.
    pub relays_read_replicas: bool,
    /// How many calls to Redis may go unanswered.
    pub faults: u8,
    /// How many times Redis may restart.
    pub restarts: u8,
    pub search: Search,
}

/// How states are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// By everything.
    Plain,
    /// Without state that can no longer matter: see [`forget`].
    Forgetting,
    /// As `Forgetting`, with interchangeable parties merged: the fewest states, but the names in a path change along
    /// it.
    Alike,
}

/// The protocol as implemented.
pub const WHOLE: Protocol = Protocol {
    fences: true,
    releases: true,
    leases_respect_fences: true,
    floors: true,
    floors_need_no_lease: true,
    leases_mind_replicas: true,
    fills_need_their_lease: true,
    fills_respect_fences: true,
    hidden_copies_lapse: true,
    copies_are_vouched_for: true,
    copies_carry_epochs: true,
    late_vouching_is_refused: true,
    off_is_waited_for: true,
    fences_outlive_commits: true,
    seen_is_known: true,
    relays_read_replicas: true,
    faults: 1,
    restarts: 1,
    search: Search::Alike,
};

/// A step of one party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Writer(u8, writer::Step),
    Reader(reader::Step),
    Around(surroundings::Step),
}

/// The property's name.
pub const NO_STALE_READ: &str = "no read returns less than what was known when it began";

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::initial(self.faults, self.restarts)]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.missed.is_some() {
            return;
        }
        for writer in 0..state::WRITERS {
            let open = writer::open(self, state, writer).into_iter();
            steps.extend(open.map(|step| Step::Writer(writer, step)));
        }
        steps.extend(reader::open(self, state).into_iter().map(Step::Reader));
        steps.extend(surroundings::open(self, state).into_iter().map(Step::Around));
    }

    /// `None` if the step changes nothing.
    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        match step {
            Step::Writer(writer, step) => writer::take(self, &mut state, writer, step),
            Step::Reader(step) => reader::take(self, &mut state, step),
            Step::Around(step) => surroundings::take(self, &mut state, step),
        }
        let state = match self.search {
            Search::Plain => state,
            Search::Forgetting => state.forget(),
            Search::Alike => state.forget().merge_alike(),
        };
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always(NO_STALE_READ, |_, state: &State| state.missed.is_none())]
    }
}

/// The result of a search.
pub struct Checked {
    pub states: usize,
    pub steps: usize,
    /// The shortest path to a stale read, in words.
    pub counterexample: Option<String>,
}

/// Explores everything that can happen.
pub fn check(protocol: Protocol) -> Checked {
    let checker = protocol.checker().spawn_bfs().join();
    Checked {
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        counterexample: checker.discovery(NO_STALE_READ).map(narrate::narrate),
    }
}

#[cfg(test)]
mod tests;
