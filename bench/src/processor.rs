//! Processor time: how much of it each process takes for a request. On a machine that everything measured shares, it says
//! more than a rate does. And what a process takes of memory.

use std::collections::BTreeMap;

use crate::report::Side;

/// A process with its children (Postgres and `spin up` have some), by the name that reports give it.
#[derive(Clone, Copy, Debug)]
pub struct Worker {
    pub name: &'static str,
    pub process: u32,
}

/// Microseconds a request, by worker.
#[derive(Clone, Debug, Default)]
pub struct Processor(Vec<(&'static str, f64)>);

/// Measures from its start on.
pub struct Meter<'a> {
    workers: &'a [Worker],
    used: Vec<f64>,
}

impl<'a> Meter<'a> {
    pub fn start(workers: &'a [Worker]) -> Meter<'a> {
        Meter { workers, used: all_used(workers) }
    }

    pub fn per_request(self, requests: f64) -> Processor {
        let each = self.workers.iter().zip(self.used).zip(all_used(self.workers));
        Processor(
            each.map(|((worker, before), after)| (worker.name, (after - before) / requests * 1e6)).collect(),
        )
    }
}

impl Processor {
    /// NaN if the worker was not measured.
    pub fn of(&self, name: &str) -> f64 {
        self.0.iter().find(|(worker, _)| *worker == name).map_or(f64::NAN, |(_, used)| *used)
    }

    /// `edge 96 µs, Redis 12 µs`, or nothing.
    pub fn line(&self) -> String {
        let each = self.0.iter().map(|(name, used)| format!("{name} {used:.0} µs"));
        each.collect::<Vec<_>>().join(", ")
    }
}

/// What each worker took in each run of a subject.
pub fn sides<'a>(subject: &str, runs: impl Iterator<Item = &'a Processor> + Clone) -> Vec<Side> {
    let first = runs.clone().next();
    let names = first.into_iter().flat_map(|run| run.0.iter().map(|(name, _)| *name));
    names
        .map(|name| {
            let title = format!("{subject}, processor time of {name}");
            Side::new(&title, "µs/req", runs.clone().map(|run| run.of(name)))
        })
        .collect()
}

/// Resident memory of a process in KiB.
pub fn resident(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its resident size");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

/// Seconds that each worker has used since it began.
fn all_used(workers: &[Worker]) -> Vec<f64> {
    let processes = processes();
    workers.iter().map(|worker| used(&processes, worker.process)).collect()
}

/// A process of this machine: its parent, and the seconds that it and its ended children have used.
struct Process {
    parent: u32,
    used: f64,
}

/// Of this process and its descendants.
fn used(processes: &BTreeMap<u32, Process>, root: u32) -> f64 {
    let children = processes.iter().filter(|(_, process)| process.parent == root).map(|(id, _)| *id);
    let of_children: f64 = children.map(|child| used(processes, child)).sum();
    processes.get(&root).map_or(0.0, |process| process.used) + of_children
}

fn processes() -> BTreeMap<u32, Process> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    let process = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        // It may have ended since.
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        Some((id, parse(&stat)?))
    };
    entries.filter_map(process).collect()
}

/// From `proc(5)`'s `stat`: field 4 is the parent; 14 to 17 are hundredths of a second.
fn parse(stat: &str) -> Option<Process> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let hundredths: f64 = fields.get(11..15)?.iter().filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    Some(Process { parent: fields.get(1)?.parse().ok()?, used: hundredths / 100.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_counts_with_its_descendants() {
        let line = |id: u32, parent: u32| {
            format!("{id} (a) b) S {parent} 1 1 0 -1 4194304 0 0 0 0 100 50 25 25 20 0 1 0 1 1 1")
        };
        let all: BTreeMap<u32, Process> = [(1, 0), (2, 1), (3, 2), (4, 0)]
            .map(|(id, parent)| (id, parse(&line(id, parent)).unwrap()))
            .into();
        assert_eq!(all[&2].parent, 1);
        assert_eq!((used(&all, 1), used(&all, 2), used(&all, 4), used(&all, 5)), (6.0, 4.0, 2.0, 0.0));
    }

    #[test]
    fn each_worker_is_a_side_of_its_own() {
        let runs = [1.0, 2.0].map(|used| Processor(vec![("edge", used), ("Redis", used * 10.0)]));
        let sides = sides("ours", runs.iter());
        assert_eq!(sides[1].name, "ours, processor time of Redis");
        assert_eq!(sides[1].samples.0, [10.0, 20.0]);
        assert!(runs[0].of("origin").is_nan());
        assert_eq!(runs[0].line(), "edge 1 µs, Redis 10 µs");
    }
}
