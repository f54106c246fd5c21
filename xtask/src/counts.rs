//! `cargo xtask counts`: runs tests at full count whose load `cargo xtask test` keeps short.

use std::time::Instant;

use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::edges::Edge;
use crate::suite::Suite;
use crate::terminal::heading;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Count {
    /// A million reactions while origins, Redis and Postgres are killed two hundred times
    Reactions,
    /// Ten million reads of versioned values while they are written
    Reads,
    /// A million random calls of each limit, against its oracle
    Limits,
    /// A million requests of five hundred callers through one object of the Worker
    Callers,
    /// Ten thousand deliveries to receivers that fail in every way, while origins are killed
    Deliveries,
    /// A hundred thousand events to two hundred clients whose connections end, while origins and Redis die
    Events,
    /// Ten thousand rights that end on open connections while events come
    Rights,
    /// A thousand devices, of which most vanish from the network
    Ghosts,
    /// A million posts through two origins whose clocks are three days apart
    Posts,
    /// Ten thousand deeds of people who block each other, while origins die
    Blocks,
    /// A hundred thousand deeds whose unread counts, markers, members and days equal an oracle, while origins die
    Deeds,
    /// A hundred thousand searches by people whose rights change
    Searches,
}

/// The tests, and the environment variables that set their counts.
struct Load {
    target: &'static str,
    tests: &'static [&'static str],
    variables: &'static [(&'static str, u32)],
}

impl Count {
    fn load(self) -> Load {
        match self {
            Count::Reactions => Load {
                target: "--test=faults",
                tests: &["reactions::origins_redis_and_postgres_killed_in_turn_lose_and_double_nothing"],
                variables: &[("OPTIMIST_REACTIONS", 1_000_000), ("OPTIMIST_KILLS", 200)],
            },
            Count::Reads => Load {
                target: "--test=it",
                tests: &["staleness::ten_thousand_reads_see_nothing_stale"],
                variables: &[("OPTIMIST_READS", 10_000_000)],
            },
            Count::Limits => Load {
                target: "--test=it",
                tests: &[
                    "limits::sliding_limits_agree_with_the_oracle_over_simulated_days",
                    "limits::counters_admit_their_number_and_start_anew",
                ],
                variables: &[("OPTIMIST_CALLS", 1_000_000)],
            },
            Count::Callers => Load {
                target: "--test=faults",
                tests: &["worker::no_answer_carries_anothers_state"],
                variables: &[("OPTIMIST_WORKER_REQUESTS", 1_000_000)],
            },
            Count::Deliveries => Load {
                target: "--test=it",
                tests: &[
                    "deliveries::counting::every_delivery_is_sent_at_least_once_and_marked_once_whatever_receivers_do",
                ],
                variables: &[("OPTIMIST_COUNT_DELIVERIES", 10_000)],
            },
            Count::Events => Load {
                target: "--test=it",
                tests: &["live::gaps::there_is_no_gap_whoever_dies"],
                variables: &[("OPTIMIST_EVENTS", 100_000), ("OPTIMIST_LISTENERS", 200)],
            },
            Count::Rights => Load {
                target: "--test=it",
                tests: &[
                    "live::rights::nothing_comes_past_the_end_of_a_right",
                    "live::rights::nothing_comes_past_the_archiving_of_a_circle",
                ],
                variables: &[("OPTIMIST_RIGHTS", 10_000)],
            },
            Count::Ghosts => Load {
                target: "--test=it",
                tests: &["live::ghosts::sockets_whose_network_vanishes_leave_no_ghosts"],
                variables: &[("OPTIMIST_GHOSTS", 1_000)],
            },
            Count::Posts => Load {
                target: "--test=it",
                tests: &["partitions::ids_and_numbers_agree_whatever_the_origins_clocks_say"],
                variables: &[("OPTIMIST_POSTS", 1_000_000)],
            },
            Count::Blocks => Load {
                target: "--test=it",
                tests: &["blocks::nothing_of_somebody_blocked_reaches_the_blocker"],
                variables: &[("OPTIMIST_BLOCK_DEEDS", 10_000)],
            },
            Count::Deeds => Load {
                target: "--test=it",
                tests: &[
                    "unread::markers_equal_an_oracle_while_origins_die",
                    "statistics::the_sums_of_days_equal_the_rows_while_origins_die",
                ],
                variables: &[("OPTIMIST_DEEDS", 100_000)],
            },
            Count::Searches => Load {
                target: "--test=it",
                tests: &["search::a_thousand_queries_find_what_their_callers_may_read_while_rights_change"],
                variables: &[("OPTIMIST_SEARCHES", 100_000)],
            },
        }
    }
}

pub fn run(counts: &[Count], scale: f64, is_debug: bool) -> Result<()> {
    ensure!(scale > 0.0 && scale <= 1.0, "--scale is a part of the full count: above 0, at most 1");
    let counts = if counts.is_empty() { Count::value_variants() } else { counts };
    let mut suite = Suite::new(!is_debug)?;
    suite.build()?;
    let mut failed = 0;
    for count in counts {
        let Load { target, tests, variables } = count.load();
        let mut command = suite.system_command(Edge::Embedded)?;
        for (name, full) in variables {
            command.env(name, format!("{:.0}", (f64::from(*full) * scale).max(1.0)));
        }
        heading(format_args!("{count:?}, {scale} of the full count"));
        let arguments = [&["--exact", "--nocapture", "--test-threads=1"], tests].concat();
        let began = Instant::now();
        let results = suite.tests(command, &[target], &arguments, |line| println!("  {line}"))?;
        println!("  {} passed, {} failed, {} s", results.passed, results.failed, began.elapsed().as_secs());
        ensure!(results.passed + results.failed == tests.len() as u64, "a test of {count:?} is missing");
        failed += results.failed;
    }
    ensure!(failed == 0, "{failed} tests failed");
    Ok(())
}
