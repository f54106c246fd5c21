//! Statements of requests, and those that follow writes, touch no more than two partitions of a table, so that neither plans nor
//! locks cost more the longer the history is. Jobs that touch all are listed here, each with its reason.
//!
//! Locks tell, for each way in which Postgres may plan a statement. With these rows it chose generic plans, which lock all partitions,
//! for all that read partitioned tables but eleven: it charges a generic plan for the partitions that it reads, not for those
//! that it locks. So such statements are planned anew, and this test says which.

use optimist_tests::sql::{Full, MODES, Statement, When};

use crate::Verdict;

/// A page may end in one month and go on in another.
const LEAVES: usize = 2;

/// Jobs that touch more, and the reason.
pub const LISTED: &super::Listed = &[
    (
        "notifications::clean",
        "a job's plan is generic: those that it removes are of few months, which the plan does not know",
    ),
    (
        "notifications::old",
        "a notification's time, which a fold moves, says how old it is; months that are gone have no partition",
    ),
    ("notifications::clean_actors", "the queue names notifications of whichever months"),
    ("notifications::audit_counts", "it counts all that people have"),
    ("audit::reaction_counts", "it goes through all messages"),
    ("thread::audit_counts", "it goes through all messages, and comments are of any age"),
    ("activity::audit_days", "it goes through all days"),
    ("jobs::clean_reactions", "people take back reactions to messages of any age"),
    ("names::shown", "it looks for what someone wrote lately, wherever that is"),
    (
        "jobs::busiest_circles",
        "without parameters its plan is generic: of today and yesterday, which the plan does not know",
    ),
];

/// Planned anew although they read no partitions, and the reason.
const FOR_THEIR_PARAMETERS: &super::Listed = &[(
    "journal::list",
    "a plan for all filters looks at each entry of a person to find a tag that few have, twenty rows each time",
)];

/// Looks at the partitions that each statement locks, by table.
pub async fn judge(full: &Full, statements: &[Statement], verdict: &mut Verdict) {
    verdict.statements = statements.len();
    for statement in statements {
        let name = statement.name.as_str();
        let mut touches = false;
        for mode in MODES {
            let touched = full.leaves(statement, mode).await;
            touches |= !touched.is_empty();
            let many = touched.into_iter().find(|(_, leaves)| leaves.len() > LEAVES);
            match many {
                None if FOR_THEIR_PARAMETERS.iter().any(|row| row.0 == name) => {}
                None if statement.planned_anew && !statement.modes().contains(&mode) => {
                    verdict.faults.push(format!("{name}: need not be planned anew"));
                }
                Some(_) if !statement.modes().contains(&mode) => {}
                Some(_) if statement.when() == When::Otherwise && LISTED.iter().any(|row| row.0 == name) => {
                    verdict.found.insert(name.to_owned());
                }
                Some((table, leaves)) => {
                    let count = leaves.len();
                    verdict
                        .faults
                        .push(format!("{name}: {count} partitions of {table}: {leaves:?} ({mode})"));
                }
                None => {}
            }
        }
        verdict.touching += usize::from(touches);
    }
}
