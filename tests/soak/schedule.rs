//! The faults of a schedule and their times: a function of the seed alone.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use optimist_tests::proxy::Mode;

/// The number of origins in the system.
pub const ORIGINS: usize = 2;

/// A process that can be killed or stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Edge,
    Origin(usize),
    Redis,
    Postgres,
}

/// A connection between two parts, with its proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    EdgeToOrigins,
    EdgeToRedis,
    OriginToRedis(usize),
    OriginToPostgres(usize),
}

/// One fault, until it is mended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// `kill -9`; mended by a start on the data that it had written.
    Kill(Part),
    /// `SIGSTOP`; mended by `SIGCONT`.
    Stop(Part),
    /// The origin dies when it next reaches this step; mended by a start.
    DieAt(usize, &'static str),
    /// The origin pauses this long whenever it reaches this step, so that others act in between.
    Dawdle(usize, &'static str, Duration),
    /// The connections of this way misbehave.
    Network(Way, Mode),
    /// Postgres's disk is full, and it needs a new segment of its log.
    FullDisk,
    /// Redis is out of memory: it refuses every command that needs more.
    FullMemory,
    /// Redis is killed, and starts empty.
    Emptied,
    /// The clock by which the origin tells days jumps by this many hours.
    Clock(usize, i64),
    /// Tables are as the release before left them, and are brought into partitions; mended by `kill -9` of that, and by a
    /// second try.
    Migrate,
    /// Postgres restarts after as many transactions as three partitions of the outbox hold.
    ManyTransactions,
    /// A serving origin archives old months and dies at this step, and partitions of months to come are missing; mended by a start,
    /// and by going on.
    Archive(&'static str),
    /// The command that brings an archived month back dies at this step; mended by a second try.
    Restore(&'static str),
}

impl Fault {
    /// Whether a store restarts, or some processes cannot reach it: answers may be wrong for five seconds.
    pub fn is_of_a_store(self) -> bool {
        match self {
            Fault::Kill(part) | Fault::Stop(part) => matches!(part, Part::Redis | Part::Postgres),
            Fault::Network(way, mode) => way != Way::EdgeToOrigins && !is_mere_slowness(mode),
            // Postgres does not survive if it cannot write its log.
            Fault::FullDisk | Fault::Emptied | Fault::ManyTransactions => true,
            Fault::DieAt(..) | Fault::Dawdle(..) | Fault::FullMemory | Fault::Clock(..) => false,
            Fault::Migrate | Fault::Archive(_) | Fault::Restore(_) => false,
        }
    }

    /// Whether both harm one part. Any origin may be the one that archives.
    fn harms_the_part_of(self, other: Fault) -> bool {
        let is_of_an_origin = |fault: Fault| fault.victim().0 == 1;
        let may_be = |one: Fault, two: Fault| matches!(one, Fault::Archive(_)) && is_of_an_origin(two);
        self.victim() == other.victim() || may_be(self, other) || may_be(other, self)
    }

    fn is_of_the_archive(self) -> bool {
        matches!(self, Fault::Archive(_) | Fault::Restore(_))
    }

    /// Whether mending restarts a store, which counts as another fault.
    pub fn ends_in_a_restart(self) -> bool {
        matches!(self, Fault::Kill(Part::Redis | Part::Postgres) | Fault::FullDisk | Fault::Emptied)
    }

    /// The harmed part: two faults of one victim do not overlap.
    fn victim(self) -> (u8, usize) {
        match self {
            Fault::Kill(part) | Fault::Stop(part) => match part {
                Part::Edge => (0, 0),
                Part::Origin(index) => (1, index),
                Part::Redis => (2, 0),
                Part::Postgres => (3, 0),
            },
            Fault::DieAt(index, _) | Fault::Dawdle(index, ..) => (1, index),
            Fault::Clock(index, _) => (4, index),
            Fault::FullMemory | Fault::Emptied => (2, 0),
            // Steps of the archive are taken while Postgres answers.
            Fault::FullDisk | Fault::ManyTransactions | Fault::Archive(_) | Fault::Restore(_) => (3, 0),
            Fault::Migrate => (9, 0),
            Fault::Network(way, _) => match way {
                Way::EdgeToOrigins => (5, 0),
                Way::EdgeToRedis => (6, 0),
                Way::OriginToRedis(index) => (7, index),
                Way::OriginToPostgres(index) => (8, index),
            },
        }
    }
}

/// Slower than usual, but within every deadline.
fn is_mere_slowness(mode: Mode) -> bool {
    matches!(mode, Mode::Delayed(by) if by <= SLOW)
}

/// A tenth of the deadlines for Redis.
const SLOW: Duration = Duration::from_millis(25);

/// What the faults of a schedule have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// Origins and edges die, and connections slow down: no answer may be wrong, ever.
    Servers,
    /// Any fault, except that Redis keeps what it has written.
    Anything,
    /// Any fault, and Redis loses all its data.
    Loss,
    /// No fault, and an account that does the worst its limits allow.
    Adversary,
}

#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// Measured from the schedule's beginning.
    pub at: Duration,
    pub lasts: Duration,
    pub fault: Fault,
}

#[derive(Clone, Debug)]
pub struct Schedule {
    pub seed: u64,
    pub theme: Theme,
    pub faults: Vec<Planned>,
    /// How long the clients work.
    pub length: Duration,
}

/// Steps of a write and of a fill, at which an origin can die or pause.
const OFTEN: &[&str] = &[
    "tx.begun",
    "tx.statements",
    "tx.outbox",
    "tx.fenced",
    "tx.committed",
    "tx.released",
    "fill.leased",
    "fill.loaded",
];

/// Steps of the relay, a batch, a partition's opening, a draft's flush, a projection.
const AT_TIMES: &[&str] = &[
    "relay.row",
    "relay.append",
    "relay.appended",
    "flush.read",
    "flush.applied",
    "flush.committed",
    "install.read",
    "open.counted",
    "open.flushed",
    "open.opened",
    "drafts.read",
    "drafts.flush",
    "drafts.flushed",
    "projections.done",
];

/// Steps of an origin that archives.
pub const ARCHIVING: &[&str] = &[
    "archive.closed",
    "archive.part",
    "archive.written",
    "archive.described",
    "archive.compared",
    "archive.leaving",
    "archive.detached",
    "archive.dropped",
];

/// Steps of a command that brings a month back.
pub const RESTORING: &[&str] = &["archive.part", "archive.loaded", "archive.attached"];

fn step(random: &mut Rng) -> &'static str {
    let steps = if random.bool() { OFTEN } else { AT_TIMES };
    steps[random.usize(..steps.len())]
}

impl Schedule {
    /// Whether it begins with the tables of the release before.
    pub fn has_former_tables(&self) -> bool {
        self.faults.iter().any(|planned| planned.fault == Fault::Migrate)
    }

    /// Whether it begins with messages of months ago.
    pub fn archives(&self) -> bool {
        self.faults.iter().any(|planned| planned.fault.is_of_the_archive())
    }

    pub fn of(seed: u64) -> Schedule {
        let mut random = Rng::with_seed(seed);
        let theme = match random.u8(0..10) {
            _ if seed % 10 == 4 => Theme::Adversary,
            0..4 => Theme::Servers,
            4..9 => Theme::Anything,
            _ => Theme::Loss,
        };
        let mut faults: Vec<Planned> = Vec::new();
        let mut at = 1_500;
        if theme == Theme::Adversary {
            return Schedule { seed, theme, faults, length: BESIDE_ADVERSARY };
        }
        let count = random.usize(2..=4);
        let lossy = (theme == Theme::Loss).then(|| random.usize(..count));
        while faults.len() < count {
            let fault = if lossy == Some(faults.len()) { Fault::Emptied } else { draw(theme, &mut random) };
            let planned = Planned {
                at: Duration::from_millis(at),
                lasts: Duration::from_millis(duration_ms(fault, &mut random)),
                fault,
            };
            let overlaps = |other: &Planned| {
                other.fault.harms_the_part_of(fault) && other.at + other.lasts + PAUSE > planned.at
            };
            // What is not in partitions has no months to archive.
            let excludes = |other: &Planned| {
                (other.fault == Fault::Migrate && fault.is_of_the_archive())
                    || (fault == Fault::Migrate && other.fault.is_of_the_archive())
            };
            if faults.iter().any(|other| overlaps(other) || excludes(other)) {
                at += 500;
                continue;
            }
            faults.push(planned);
            at += random.u64(300..3_500);
        }
        // Long enough for every wrong answer to end, and for some right ones after it.
        let last = faults.iter().map(|planned| planned.at + planned.lasts).max().unwrap_or_default();
        let rest = if faults.iter().any(|planned| planned.fault.is_of_a_store()) { 7 } else { 2 };
        Schedule { seed, theme, faults, length: last + Duration::from_secs(rest) }
    }
}

/// How long the clients work beside an adversary.
const BESIDE_ADVERSARY: Duration = Duration::from_secs(15);

/// Between two faults of one victim: the time that a start may take.
const PAUSE: Duration = Duration::from_millis(1_500);

fn draw(theme: Theme, random: &mut Rng) -> Fault {
    let origin = random.usize(..ORIGINS);
    match (theme, random.u8(0..30)) {
        (_, 24 | 25) => Fault::Migrate,
        (_, 27 | 28) => Fault::Archive(ARCHIVING[random.usize(..ARCHIVING.len())]),
        (_, 29) => Fault::Restore(RESTORING[random.usize(..RESTORING.len())]),
        (Theme::Anything | Theme::Loss, 26) => Fault::ManyTransactions,
        (_, 0..3) => Fault::Kill(Part::Origin(origin)),
        (_, 3..5) => Fault::DieAt(origin, step(random)),
        (_, 5..8) => {
            let step = step(random);
            Fault::Dawdle(origin, step, Duration::from_millis(random.u64(20..1_000)))
        }
        (_, 8) => Fault::Stop(Part::Origin(origin)),
        (_, 9) => Fault::Clock(origin, random.i64(-72..=72)),
        (_, 10) => Fault::Kill(Part::Edge),
        (Theme::Servers, 11) => Fault::Stop(Part::Edge),
        (Theme::Servers, 12..18) => Fault::Network(Way::EdgeToOrigins, mode(random)),
        (Theme::Servers, _) => Fault::Network(way(random), Mode::Delayed(SLOW)),
        (_, 11 | 12) => Fault::Kill(Part::Redis),
        (_, 13) => Fault::Stop(Part::Redis),
        (_, 14) => Fault::FullMemory,
        (_, 15) => Fault::Kill(Part::Postgres),
        (_, 16) => {
            if random.bool() {
                Fault::Stop(Part::Postgres)
            } else {
                Fault::FullDisk
            }
        }
        (_, _) => Fault::Network(way(random), mode(random)),
    }
}

fn way(random: &mut Rng) -> Way {
    let origin = random.usize(..ORIGINS);
    match random.u8(0..4) {
        0 => Way::EdgeToOrigins,
        1 => Way::EdgeToRedis,
        2 => Way::OriginToRedis(origin),
        _ => Way::OriginToPostgres(origin),
    }
}

fn mode(random: &mut Rng) -> Mode {
    match random.u8(0..5) {
        0 => Mode::Delayed(Duration::from_millis(random.u64(50..1_500))),
        1 => Mode::Throttled(random.u32(500..20_000)),
        2 => Mode::Cut,
        3 => Mode::HalfOpen,
        _ => Mode::Reset,
    }
}

fn duration_ms(fault: Fault, random: &mut Rng) -> u64 {
    match fault {
        // It dies if it reaches the step in this time.
        Fault::DieAt(..) => random.u64(300..1_500),
        Fault::Kill(_) | Fault::Emptied => random.u64(0..2_500),
        Fault::Network(_, mode) if is_mere_slowness(mode) => random.u64(1_000..4_000),
        Fault::Dawdle(..) => random.u64(2_000..5_000),
        // Origins look for jobs that are due every five seconds; before it, other steps are taken.
        Fault::Archive(_) => random.u64(8_000..11_000),
        _ => random.u64(300..6_000),
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |duration: Duration| format!("{:.1}", duration.as_secs_f64());
        write!(out, "{:?}:", self.theme)?;
        for Planned { at, lasts, fault } in &self.faults {
            write!(out, " {}+{}s {fault};", seconds(*at), seconds(*lasts))?;
        }
        write!(out, " load {}s", seconds(self.length))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Kill(part) => write!(out, "kill {part:?}"),
            Fault::Stop(part) => write!(out, "stop {part:?}"),
            Fault::DieAt(index, step) => write!(out, "origin {index} dies at {step}"),
            Fault::Dawdle(index, step, by) => write!(out, "origin {index} takes {by:?} at {step}"),
            Fault::Network(way, mode) => write!(out, "{way:?} {mode:?}"),
            Fault::FullDisk => write!(out, "Postgres's disk full"),
            Fault::FullMemory => write!(out, "Redis out of memory"),
            Fault::Emptied => write!(out, "Redis killed and emptied"),
            Fault::Clock(index, hours) => write!(out, "origin {index}'s clock by {hours} h"),
            Fault::Migrate => write!(out, "tables brought into partitions"),
            Fault::ManyTransactions => write!(out, "fifty million transactions later"),
            Fault::Archive(step) => write!(out, "whoever archives dies at {step}"),
            Fault::Restore(step) => write!(out, "a restoration dies at {step}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_schedule() {
        for seed in 0..500 {
            assert_eq!(Schedule::of(seed).to_string(), Schedule::of(seed).to_string());
        }
        // Those beside an adversary have no faults to differ by.
        let with_faults = (0..500).map(Schedule::of).filter(|schedule| schedule.theme != Theme::Adversary);
        let different: std::collections::BTreeSet<String> =
            with_faults.map(|schedule| schedule.to_string()).collect();
        assert!(different.len() > 440);
    }

    #[test]
    fn five_hundred_seeds_try_every_kind_of_fault() {
        let schedules: Vec<Schedule> = (1..=500).map(Schedule::of).collect();
        let faults: Vec<Fault> =
            schedules.iter().flat_map(|schedule| &schedule.faults).map(|planned| planned.fault).collect();
        let tried = |wanted: &dyn Fn(Fault) -> bool| faults.iter().any(|fault| wanted(*fault));
        for part in [Part::Edge, Part::Origin(0), Part::Origin(1), Part::Redis, Part::Postgres] {
            assert!(tried(&|fault| fault == Fault::Kill(part)), "kill {part:?}");
            assert!(tried(&|fault| fault == Fault::Stop(part)), "stop {part:?}");
        }
        for step in OFTEN.iter().chain(AT_TIMES) {
            let is_here =
                |fault| matches!(fault, Fault::DieAt(_, at) | Fault::Dawdle(_, at, _) if at == *step);
            assert!(tried(&is_here), "{step}");
        }
        for way in [Way::EdgeToOrigins, Way::EdgeToRedis, Way::OriginToRedis(1), Way::OriginToPostgres(0)] {
            for kind in 0..5 {
                let of_kind = |mode: Mode| match mode {
                    Mode::Delayed(_) => 0,
                    Mode::Throttled(_) => 1,
                    Mode::Cut => 2,
                    Mode::HalfOpen => 3,
                    Mode::Reset => 4,
                    Mode::Open => 5,
                };
                assert!(
                    tried(
                        &|fault| matches!(fault, Fault::Network(of, mode) if of == way && of_kind(mode) == kind)
                    ),
                    "{way:?}, kind {kind}"
                );
            }
        }
        assert!(ARCHIVING.iter().all(|step| tried(&|fault| fault == Fault::Archive(step))));
        assert!(RESTORING.iter().all(|step| tried(&|fault| fault == Fault::Restore(step))));
        assert!(!schedules.iter().any(|schedule| schedule.archives() && schedule.has_former_tables()));
        assert!(tried(&|fault| fault == Fault::FullDisk) && tried(&|fault| fault == Fault::FullMemory));
        assert!(tried(&|fault| fault == Fault::Migrate) && tried(&|fault| fault == Fault::ManyTransactions));
        assert!(tried(&|fault| fault == Fault::Emptied) && tried(&|fault| matches!(fault, Fault::Clock(..))));
    }

    #[test]
    fn servers_alone_give_no_grace() {
        for schedule in (0..500).map(Schedule::of).filter(|schedule| schedule.theme == Theme::Servers) {
            assert!(!schedule.faults.iter().any(|planned| planned.fault.is_of_a_store()), "{schedule}");
        }
    }
}
