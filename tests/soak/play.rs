//! One schedule from beginning to end: a fresh system, clients at work, faults, rest, judgement.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures_util::FutureExt as _;
use optimist_tests::disk::Disk;
use optimist_tests::{Options, Origin, System};

use crate::adversary::Adversary;
use crate::attic::{self, Attic};
use crate::faults::Target;
use crate::history::{History, Inflicted, Violation};
use crate::schedule::{Fault, ORIGINS, Schedule, Theme};
use crate::world::World;
use crate::{checks, clients, finals};

/// The outcome of a schedule.
pub struct Outcome {
    pub schedule: Schedule,
    pub history: History,
    pub violations: Vec<Violation>,
    /// Faults that this machine cannot inflict.
    pub left_out: Vec<Fault>,
    pub took: Duration,
}

/// How many tables are not in partitions.
const UNPARTED: &str = "select count(*) from partitioned where parted(name) <> name";

/// Plays a schedule. A panic in a client or in the harness is a violation too.
pub async fn play(schedule: Schedule, without: &[String], folder: &Path) -> Outcome {
    let began = Instant::now();
    let mut outcome = Outcome {
        schedule,
        history: History::default(),
        violations: Vec::new(),
        left_out: Vec::new(),
        took: Duration::ZERO,
    };
    let went = AssertUnwindSafe(attempt(&mut outcome, without, folder)).catch_unwind().await;
    if let Err(panic) = went {
        outcome.violations.push(Violation { check: "the course of it", what: told(&panic) });
    }
    outcome.took = began.elapsed();
    outcome
}

async fn attempt(outcome: &mut Outcome, without: &[String], folder: &Path) {
    let has_disk = Disk::is_possible();
    // Separate from the schedule's generator, so that each can change without the other.
    let mut random = Rng::with_seed(outcome.schedule.seed ^ 0x0051_DE55);
    let (mut target, world) = set_up(&outcome.schedule, without, has_disk, &mut random).await;
    let mut tasks = clients::start(&world, &mut random);
    if outcome.schedule.theme == Theme::Adversary {
        Adversary::new(&target.system).await.start(&world, &mut tasks);
    }
    if let Some(attic) = target.attic.clone() {
        let world = world.clone();
        tasks.spawn(async move { attic.read(&world).await });
    }
    let went = AssertUnwindSafe(play_faults(outcome, &mut target, &world, has_disk)).catch_unwind().await;
    world.record.stop();
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && let Ok(panic) = error.try_into_panic()
        {
            outcome.violations.push(Violation { check: "an answer that cannot be", what: told(&panic) });
        }
    }
    outcome.history.calls = world.record.calls();
    if outcome.schedule.has_former_tables() && went.is_ok() {
        target.end_command();
        let (succeeded, output) = Origin::command(&target.system.environment(), &["migrate"]);
        if !succeeded || target.system.sql(UNPARTED) != "0" {
            outcome.violations.push(Violation { check: "tables are in partitions", what: output });
        }
    }
    target.end_command();
    let system = &target.system;
    if let (Some(attic), Ok(())) = (&target.attic, &went)
        && let Err(what) = attic.finish(system, without)
    {
        outcome.violations.push(Violation { check: "the archive", what });
    }
    let went = match went {
        Ok(()) => AssertUnwindSafe(judge(outcome, system, &world)).catch_unwind().await,
        Err(panic) => Err(panic),
    };
    if let Err(panic) = went {
        outcome.violations.push(Violation { check: "the course of it", what: told(&panic) });
    }
    if !outcome.violations.is_empty() {
        keep(outcome, system, folder);
    }
}

/// A fresh system. On a slow machine a deadline may pass before any fault: then it starts again, up to three times.
async fn set_up(
    schedule: &Schedule,
    without: &[String],
    has_disk: bool,
    random: &mut Rng,
) -> (Target, Arc<World>) {
    let at_first = random.clone();
    for _ in 0..3 {
        *random = at_first.clone();
        if let Ok(made) = AssertUnwindSafe(start(schedule, without, has_disk, random)).catch_unwind().await {
            return made;
        }
    }
    *random = at_first;
    start(schedule, without, has_disk, random).await
}

async fn start(
    schedule: &Schedule,
    without: &[String],
    has_disk: bool,
    random: &mut Rng,
) -> (Target, Arc<World>) {
    // Beside an adversary nothing may fail, however slow the machine is: how slow it gets is measured elsewhere.
    let (redis_deadline_ms, origin_deadline_ms) =
        if schedule.theme == Theme::Adversary { (5_000, 20_000) } else { (250, 4_000) };
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let settings = if schedule.archives() { vec![attic::setting(&folder)] } else { Vec::new() };
    let system = System::with(Options {
        origins: ORIGINS,
        settings,
        own_postgres: true,
        redis_deadline_ms,
        origin_deadline_ms,
        appendfsync: "always",
        paths: true,
        own_disks: has_disk,
        has_former_tables: schedule.has_former_tables(),
        ..Options::default()
    })
    .await;
    let mut target = Target { system, without: without.to_vec(), command: None, attic: None };
    for index in 0..ORIGINS {
        target.switch_off(index).await;
    }
    let world = World::new(&target.system, random).await;
    // Afterwards: the crowd takes what messages there are for its own.
    if schedule.archives() {
        target.attic = Some(Arc::new(Attic::new(&target.system, folder).await));
    }
    (target, Arc::new(world))
}

async fn judge(outcome: &mut Outcome, system: &System, world: &World) {
    let mut violation = |check, what| outcome.violations.push(Violation { check, what });
    if let Err(what) = finals::rest(system, world).await {
        violation("coming to rest", what);
        return;
    }
    if let Err(what) = finals::audit(system) {
        violation("the auditor", what);
    }
    outcome.history.finals = finals::gather(system, world).await;
    outcome.violations.extend(checks::all(&outcome.history));
}

/// Inflicts and mends faults as planned, and waits until the clients have worked long enough.
async fn play_faults(outcome: &mut Outcome, target: &mut Target, world: &World, has_disk: bool) {
    let faults = outcome.schedule.faults.clone();
    // Beginnings and ends of faults, in the order of time.
    let mut steps: Vec<(Duration, usize, bool)> = Vec::new();
    for (index, planned) in faults.iter().enumerate() {
        if planned.fault == Fault::FullDisk && !has_disk {
            outcome.left_out.push(planned.fault);
            continue;
        }
        steps.extend([(planned.at, index, true), (planned.at + planned.lasts, index, false)]);
    }
    steps.sort_by_key(|(at, ..)| *at);
    let mut begun = vec![Duration::ZERO; faults.len()];
    for (at, index, begins) in steps {
        tokio::time::sleep(at.saturating_sub(world.record.now())).await;
        let fault = faults[index].fault;
        if begins {
            begun[index] = world.record.now();
            target.inflict(fault).await;
        } else {
            target.mend(fault).await;
            outcome.history.faults.push(Inflicted {
                what: fault.to_string(),
                begun: begun[index],
                ended: world.record.now(),
                is_of_a_store: fault.is_of_a_store(),
                ends_in_a_restart: fault.ends_in_a_restart(),
                loses_redis: fault == Fault::Emptied,
            });
        }
    }
    // The clients work as long after the last fault as planned, however long mending took.
    let planned_end = faults.iter().map(|planned| planned.at + planned.lasts).max().unwrap_or_default();
    tokio::time::sleep(outcome.schedule.length.saturating_sub(planned_end)).await;
}

/// The message of a panic.
fn told(panic: &Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

/// Keeps the history and logs for inspection.
fn keep(outcome: &Outcome, system: &System, folder: &Path) {
    use std::fmt::Write as _;
    let folder = folder.join(format!("seed-{}", outcome.schedule.seed));
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut text = format!("seed {} {}\n", outcome.schedule.seed, outcome.schedule);
    for fault in &outcome.history.faults {
        let _ = writeln!(text, "{:?}..{:?} {}", fault.begun, fault.ended, fault.what);
    }
    for violation in &outcome.violations {
        let _ = writeln!(text, "{}: {}", violation.check, violation.what);
    }
    for call in &outcome.history.calls {
        let _ = writeln!(text, "{call:?}");
    }
    std::fs::write(folder.join("history.txt"), text).expect("the history");
    std::fs::write(folder.join("servers.log"), system.logs()).expect("the logs");
}
