//! Statements of requests, and those that follow writes, touch no more than two partitions of a table, so that neither plans nor
//! locks cost more the longer the history is. Jobs that touch all are listed here, each with its reason.
//!
//! Locks tell, for each way in which Postgres may plan a statement. With these rows it chose generic plans, which lock all partitions,
//! for all that read partitioned tables but eleven: it charges a generic plan for the partitions that it reads, not for those
//! that it locks. So such statements are planned anew, and this test says which.

use std::collections::{BTreeMap, BTreeSet};

use optimist_tests::sql::{Full, MODES, Statement, When};
use optimist_tests::stores::Postgres;

/// A page may end in one month and go on in another.
const LEAVES: usize = 2;

/// Jobs that touch more, and the reason.
const OF_ALL: &[(&str, &str)] = &[
    (
        "notifications::clean",
        "a notification's time, which a fold moves, says how old it is; months that are gone have no partition",
    ),
    ("notifications::clean_actors", "the queue names notifications of whichever months"),
    ("notifications::audit_counts", "it counts all that people have"),
    ("audit::reaction_counts", "it goes through all messages"),
    ("jobs::clean_reactions", "people take back reactions to messages of any age"),
    ("names::shown", "it looks for what someone wrote lately, wherever that is"),
    (
        "jobs::busiest_circles",
        "without parameters its plan is generic: of today and yesterday, which the plan does not know",
    ),
];

/// Planned anew although they read no partitions, and the reason.
const FOR_THEIR_PARAMETERS: &[(&str, &str)] = &[(
    "journal::list",
    "a plan for all filters looks at each entry of a person to find a tag that few have, twenty rows each time",
)];

#[tokio::test(flavor = "multi_thread")]
async fn statements_touch_two_partitions_of_a_table_at_most() {
    let statements = Statement::all();
    let postgres = Postgres::start();
    let full = Full::new(&postgres, &statements, 0.1).await;
    let listed: BTreeMap<&str, &str> = OF_ALL.iter().copied().collect();
    let for_parameters: BTreeSet<&str> = FOR_THEIR_PARAMETERS.iter().map(|(name, _)| *name).collect();
    let (mut faults, mut found) = (Vec::new(), BTreeSet::new());
    for statement in &statements {
        let name = statement.name.as_str();
        for mode in MODES {
            let touched = full.leaves(statement, mode).await;
            let many = touched.into_iter().find(|(_, leaves)| leaves.len() > LEAVES);
            match many {
                None if for_parameters.contains(name) => {}
                None if statement.planned_anew && !statement.modes().contains(&mode) => {
                    faults.push(format!("{name}: need not be planned anew"));
                }
                Some(_) if !statement.modes().contains(&mode) => {}
                Some(_) if statement.when() == When::Otherwise && listed.contains_key(name) => {
                    found.insert(name);
                }
                Some((table, leaves)) => {
                    faults
                        .push(format!("{name}: {} partitions of {table}: {leaves:?} ({mode})", leaves.len()));
                }
                None => {}
            }
        }
    }
    let superfluous = listed.keys().filter(|name| !found.contains(*name));
    faults.extend(
        superfluous.map(|name| format!("{name}: is listed, and touches no more than two partitions")),
    );
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
