//! Describes a path through the model in words.

use stateright::Path;

use crate::state::{ATTEMPTS, Set, State, WRITERS};
use crate::{Step, reader, surroundings, writer};

/// One line per step, with what Redis and Postgres hold after it.
pub fn narrate(path: Path<State, Step>) -> String {
    let steps = path.into_vec();
    let after = steps.iter().skip(1).map(|(state, _)| state);
    let mut lines = String::new();
    for ((_, step), after) in steps.iter().zip(after) {
        if let Some(step) = step {
            let held = held(after);
            lines.push_str(&format!("  {:<62} {held}\n", words(*step)));
        }
    }
    if let Some((State { missed: Some(copy), known, .. }, _)) = steps.last() {
        let (has, lacks) = (writes(copy.read.has), writes(known.without(copy.read.has)));
        lines.push_str(&format!("  That read got {has}, and lacks what is known: {lacks}.\n"));
    }
    lines
}

fn held(state: &State) -> String {
    let redis = &state.redis;
    let mut parts = vec![format!("committed: {}", writes(state.committed))];
    if let Some(copy) = redis.value {
        parts.push(format!("copy: {}, epoch {}", writes(copy.read.has), copy.epoch));
    }
    if let Some(copy) = redis.hidden {
        parts.push(format!("hidden: {}", writes(copy.read.has)));
    }
    if redis.fences != 0 {
        parts.push(format!("fences: {}", redis.fences.count_ones()));
    }
    if let Some(lease) = redis.lease {
        parts.push(format!("lease: reader {}", lease.holder + 1));
    }
    if let Some(floor) = redis.floor {
        parts.push(format!("floor: write {}", floor.writer + 1));
    }
    if redis.vouch != 0 {
        parts.push(format!("vouched: {}", redis.vouch));
    }
    parts.join("; ")
}

fn writes(set: Set) -> String {
    let names: Vec<String> = (0..WRITERS)
        .filter(|writer| set.has(*writer))
        .map(|writer| format!("write {}", writer + 1))
        .collect();
    if names.is_empty() { "nothing new".to_owned() } else { names.join(" and ") }
}

fn words(step: Step) -> String {
    match step {
        Step::Writer(writer, step) => format!("writer {} {}", writer + 1, writer_words(step)),
        Step::Reader(step) => reader_words(step),
        Step::Around(step) => surrounding_words(step),
    }
}

fn writer_words(step: writer::Step) -> &'static str {
    use writer::Step::*;
    match step {
        Begin { fenced: true } => "begins",
        Begin { fenced: false } => "begins, unfenced, as the region is off",
        BeginElsewhere => "begins, in another region",
        Show => "has committed, as a replica shows and the primary does not yet",
        RaiseFence => "has run its statements and raised its fence",
        FenceUnanswered { executed: true } => "raises its fence, hears nothing of it, and rolls back",
        FenceUnanswered { executed: false } => "cannot reach Redis to raise its fence, and rolls back",
        Commit => "commits",
        CommitRefused => "is refused the commit",
        Crash => "is killed",
        EndInDoubt { commits: true } => "was killed, but Postgres commits",
        EndInDoubt { commits: false } => "was killed, and Postgres rolls back",
        Unhide => "unhides what it hid",
        Release => "releases, and acknowledges",
        ReleaseUnanswered { executed: true } => "releases, and hears nothing of it",
        ReleaseUnanswered { executed: false } => "cannot reach Redis to release",
        TurnRegionOff => "turns the region off",
        Repeat => "is asked again",
    }
}

fn reader_words(step: reader::Step) -> String {
    use reader::Step::*;
    match step {
        ReadCopy => "an edge answers from the copy".to_owned(),
        ReadPostgres => "the origin answers from Postgres".to_owned(),
        Miss { reader, epoch } => format!("reader {} asks for a lease, in epoch {epoch}", reader + 1),
        Check { reader, epoch } => format!("reader {} is about to ask for one, in epoch {epoch}", reader + 1),
        AskForLease { reader } => format!("reader {} asks for the lease", reader + 1),
        Load { reader } => format!("reader {} loads, and answers", reader + 1),
        Fill { reader } => format!("reader {} fills, or tries to", reader + 1),
        Crash { reader } => format!("reader {} is killed", reader + 1),
    }
}

fn surrounding_words(step: surroundings::Step) -> String {
    use surroundings::Step::*;
    let words = match step {
        RelayVouches => "the relay vouches",
        RelayVouchesLate => "the relay vouches by a row from before",
        RelayStartsEpoch => "the relay finds another Redis: a new epoch",
        RelayTurnsOn => "the relay turns the region on: a new epoch",
        RelayInvalidates { writer } => return format!("the relay tells of writer {}'s write", writer + 1),
        FenceLapses { token } => return format!("writer {}'s fence lapses", token / ATTEMPTS + 1),
        LeaseLapses => "the lease lapses",
        FloorLapses => "the floor lapses",
        CopyLapses => "the copy lapses",
        VouchingOfBeforeLapses => "three seconds after the restart",
        OffForLong => "3.5 seconds after the region was turned off",
        RestartWhole => "Redis restarts, with everything",
        RestartEmpty => "Redis restarts, empty",
        RestartOld => "Redis restarts, as it was in the beginning",
    };
    words.to_owned()
}
