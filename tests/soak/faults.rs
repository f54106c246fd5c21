//! Inflicts faults on a running system, and mends them.

use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use optimist_tests::proxy::{Mode, Proxy};
use optimist_tests::{Origin, System};

use crate::attic::Attic;
use crate::schedule::{Fault, Part, Way};

/// A system, and the mechanisms that are switched off in its origins.
pub struct Target {
    pub system: System,
    /// Names of mechanisms, to show that the judges notice their absence.
    pub without: Vec<String>,
    /// The migration or restoration under way.
    pub command: Option<Child>,
    /// Where a schedule archives.
    pub attic: Option<Arc<Attic>>,
}

impl Target {
    pub async fn inflict(&mut self, fault: Fault) {
        let system = &mut self.system;
        match fault {
            Fault::Kill(Part::Edge) => system.edge.kill(),
            Fault::Kill(Part::Origin(index)) => system.origins[index].kill(),
            Fault::Kill(Part::Redis) | Fault::Emptied => system.redis.kill(),
            Fault::Kill(Part::Postgres) => postgres(system).kill(),
            Fault::Stop(part) => signal(system, part, "STOP"),
            Fault::DieAt(index, step) => system.origins[index].arm(step, "abort", 0, 1).await,
            Fault::Dawdle(index, step, by) => {
                system.origins[index].arm(step, "pause", by.as_millis() as u64, u64::MAX).await;
            }
            Fault::Network(way, mode) => proxy(system, way).set(mode),
            Fault::FullDisk => {
                postgres(system).disk.as_ref().expect("a small disk").fill();
                // Postgres may or may not survive this.
                let _ = postgres(system).psql("postgres", "select pg_switch_wal()");
            }
            Fault::FullMemory => system.redis.refuse_writes(true).await,
            Fault::Clock(index, hours) => set_clock(system, index, hours).await,
            Fault::Migrate => self.command = Some(Origin::begin(&system.environment(), &["migrate"])),
            Fault::Archive(step) => {
                attic(self.attic.as_deref()).advance(system, step);
                for origin in &system.origins {
                    try_arm(origin, step, 1).await;
                }
                drop_ahead(system);
                archive_now(system);
            }
            Fault::Restore(step) => {
                let attic = attic(self.attic.as_deref());
                attic.advance(system, "archive.attached");
                let mut environment = system.environment();
                environment.push(("OPTIMIST_TEST_ABORT".to_owned(), step.to_owned()));
                self.command = Some(Origin::begin(&environment, &attic.restore()));
            }
            Fault::ManyTransactions => {
                let postgres = postgres(system);
                let next = postgres.sql("postgres", "select pg_snapshot_xmax(pg_current_snapshot())");
                let next: u64 = next.parse().expect("a transaction");
                postgres.skip_to_transaction(next + (3 << 24));
            }
        }
    }

    pub async fn mend(&mut self, fault: Fault) {
        let system = &mut self.system;
        match fault {
            Fault::Kill(Part::Edge) => system.replace_edge(),
            Fault::Kill(Part::Origin(index)) | Fault::DieAt(index, _) => {
                // It may not have reached the step.
                system.origins[index].kill();
                system.replace_origin(index);
                self.switch_off(index).await;
            }
            Fault::Kill(Part::Redis) => system.redis.launch(),
            Fault::Emptied => {
                system.redis.empty();
                system.redis.launch();
            }
            Fault::Kill(Part::Postgres) => postgres(system).launch(),
            Fault::Stop(part) => signal(system, part, "CONT"),
            Fault::Dawdle(index, step, _) => {
                system.origins[index].arm(step, "pause", 0, 0).await;
                system.origins[index].release().await;
            }
            Fault::Network(way, _) => proxy(system, way).set(Mode::Open),
            Fault::FullDisk => {
                postgres(system).disk.as_ref().expect("a small disk").relieve();
                recover(system);
            }
            Fault::FullMemory => system.redis.refuse_writes(false).await,
            Fault::Clock(index, _) => set_clock(system, index, 0).await,
            Fault::Migrate => {
                self.end_command();
                self.command = Some(Origin::begin(&self.system.environment(), &["migrate"]));
            }
            Fault::Archive(step) => {
                let dead = (0..system.origins.len()).find(|index| !system.origins[*index].is_running());
                // None may have reached the step.
                let index = dead.unwrap_or(0);
                system.origins[index].kill();
                system.replace_origin(index);
                for origin in &system.origins {
                    try_arm(origin, step, 0).await;
                }
                attic(self.attic.as_deref()).age(system);
                archive_now(system);
                self.switch_off(index).await;
            }
            Fault::Restore(_) => {
                self.end_command();
                let attic = attic(self.attic.as_deref());
                self.command = Some(Origin::begin(&self.system.environment(), &attic.restore()));
            }
            Fault::ManyTransactions => {}
        }
    }

    /// Kills the command under way, if it has not ended.
    pub fn end_command(&mut self) {
        if let Some(mut command) = self.command.take() {
            let _ = command.kill();
            let _ = command.wait();
        }
    }

    /// Switches off the missing mechanisms in an origin.
    pub async fn switch_off(&self, index: usize) {
        for mechanism in &self.without {
            self.system.origins[index].disable(mechanism, true).await;
        }
    }
}

fn attic(attic: Option<&Attic>) -> &Attic {
    attic.expect("a schedule that archives")
}

/// Has an origin die when it next reaches a step, or not. It may be dead or stopped already.
async fn try_arm(origin: &Origin, step: &str, times: u64) {
    let url = format!("{}/test/hooks?step={step}&action=abort&millis=0&times={times}", origin.internal);
    let sent = reqwest::Client::new().post(url).timeout(Duration::from_secs(1)).send().await;
    drop(sent);
}

/// Makes the archive's job due: the origin that looks first runs it.
fn archive_now(system: &System) {
    system.sql("update jobs set started_at = null where name = 'archive.run'");
}

/// Drops the newest partition of each table by month, so that an origin makes it again. Somebody may hold its lock.
fn drop_ahead(system: &mut System) {
    let (database, postgres) = (system.database.clone(), postgres(system));
    for table in ["messages", "notifications", "audit"] {
        let drop = format!(
            "do $$ begin set local lock_timeout = '200ms';
                 execute format('drop table %I', leaf_name('{table}', (select max(leaf) from leaves('{table}') leaf))); end $$"
        );
        let _ = postgres.psql(&database, &drop);
    }
}

fn postgres(system: &mut System) -> &mut optimist_tests::stores::Postgres {
    system.own_postgres.as_mut().expect("a cluster of its own")
}

/// Waits until Postgres recovers by itself; restarts it if it has ended or takes too long.
fn recover(system: &mut System) {
    let postgres = postgres(system);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !postgres.psql("postgres", "select 1").0 {
        if !postgres.is_running() || Instant::now() > deadline {
            postgres.kill();
            postgres.launch();
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn signal(system: &mut System, part: Part, name: &str) {
    match part {
        Part::Edge => system.edge.signal(name),
        Part::Origin(index) => system.origins[index].signal(name),
        Part::Redis => system.redis.signal(name),
        Part::Postgres => postgres(system).signal(name),
    }
}

fn proxy(system: &System, way: Way) -> &Proxy {
    let paths = system.paths.as_ref().expect("paths");
    match way {
        Way::EdgeToOrigins => &system.to_origin,
        Way::EdgeToRedis => &paths.edge_to_redis,
        Way::OriginToRedis(index) => &paths.origin_to_redis[index],
        Way::OriginToPostgres(index) => &paths.origin_to_postgres[index],
    }
}

/// A dead or stopped origin has no clock to set; the request then fails, which does not matter.
async fn set_clock(system: &System, index: usize, hours: i64) {
    let url = format!("{}/test/clock?ahead_ms={}", system.origins[index].internal, hours * 3_600_000);
    let sent = reqwest::Client::new().post(url).timeout(Duration::from_secs(1)).send().await;
    drop(sent);
}
