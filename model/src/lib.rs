//! The cache protocol as a model, and a checker that walks through everything that can happen in it.
//!
//! Two writers of one key, two readers and the refill of a warm key, the relay, the region's row, Postgres and Redis. Each
//! does one step at a time, in any order; each may be killed before any step, calls of Redis may go unanswered, and Redis
//! may restart: whole, empty, or as it was long ago. The property: **no read returns less than what was known when it
//! began**; a write is known once it is acknowledged, once anyone has been shown it, and once the relay has told of it.
//!
//! The model follows `shared/src/scripts`, `origin/src/cache.rs`, `region.rs`, `relay.rs`, `postgres/write.rs` and the edge's
//! `answer.rs`; whoever changes the protocol there changes it here. It knows no time. What time rules out in reality is
//! ruled out by these assumptions, and everything else may happen:
//!
//! | assumed | because |
//! |-|-|
//! | a fence does not lapse while its transaction can commit | `FENCE_MS` 7,000 > 2,000 a statement + 2,500 idle + 2,000 the commit (`postgres.rs`) |
//! | what a fence hides does not outlive it | `fence.lua` gives it 100 ms less, and a later fence no more |
//! | when the region has been off for long, nobody vouches by a row from before, and no origin gives leases by it | `OFF_FOR_MS` 3,500 > `VOUCH_MS` 3,000 from before the row was read |
//! | nobody turns the region on sooner, nor while someone writes unfenced | `relay::switch_on`; `region::hold_off` holds the row |
//! | nobody vouches for a Redis but by its own epoch | the relay's connection is to one process (`run_id`) |
//! | a fill that comes later than `LEASE_MS` finds its lease gone | Redis's expiry; a lease may lapse at any time here |
//!
//! What only takes possibilities away is no step of its own: a vouching that lapses early, a refill that nobody starts, a
//! fence or a release that Redis executes long after its caller has given up. Whoever may do something here may also never
//! do it.
//!
//! Within the five seconds that a restart may cost (until what was vouched before has lapsed, and transactions whose fences
//! it swept away have ended) answers may be wrong, and are not judged.
//!
//! Left out: answers marked as degraded, which promise nothing; several keys of one write, each of which is fenced for
//! itself; values' expiry by their age, which is a copy gone at any time; two Redis processes alive at once, each with origins
//! that reach only it: as long as that lasts the protocol promises nothing, since a fence in one is none in the other.

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

/// Which parts of the protocol are there, what may befall it, and what it has to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    pub fences: bool,
    pub releases: bool,
    pub leases_respect_fences: bool,
    pub leases_note_transactions: bool,
    pub fills_need_their_lease: bool,
    pub fills_respect_fences: bool,
    pub hidden_copies_lapse: bool,
    pub copies_are_vouched_for: bool,
    pub copies_carry_epochs: bool,
    pub late_vouching_is_refused: bool,
    pub off_is_waited_for: bool,
    pub fences_outlive_commits: bool,
    /// Whether what anyone was shown must be shown to all from then on; else only what was acknowledged.
    pub seen_is_known: bool,
    /// How many calls of Redis may go unanswered.
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
    /// Without what can no longer come to anything: see [`forget`].
    Forgetting,
    /// And alike parties are not told apart: the fewest states, but the names in a path change along it.
    Alike,
}

/// As it is in the code.
pub const WHOLE: Protocol = Protocol {
    fences: true,
    releases: true,
    leases_respect_fences: true,
    leases_note_transactions: true,
    fills_need_their_lease: true,
    fills_respect_fences: true,
    hidden_copies_lapse: true,
    copies_are_vouched_for: true,
    copies_carry_epochs: true,
    late_vouching_is_refused: true,
    off_is_waited_for: true,
    fences_outlive_commits: true,
    seen_is_known: true,
    faults: 1,
    restarts: 1,
    search: Search::Alike,
};

/// A step of one party's.
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

    /// `None` where a step changes nothing.
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

/// What a search found.
pub struct Checked {
    pub states: usize,
    pub steps: usize,
    /// The shortest way to a stale read, in words.
    pub counterexample: Option<String>,
}

/// Goes through all that can happen.
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
