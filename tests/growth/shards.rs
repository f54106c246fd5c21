//! Statements of requests stay in one person's rows, so that these can be spread over shards by person. Hash partitions stand for the
//! shards: Postgres has the same rules for their keys as Citus, and locks tell which of them a statement is in. Statements of jobs and
//! batches that are about several people are listed here, each with its reason.

use std::collections::BTreeSet;

use optimist_tests::sql::{Full, MODES, Statement, When};

use crate::Verdict;

/// Statements that are about several people, and the reason. None is a request's.
pub const LISTED: &super::Listed = &[
    ("sealing::keyless", "a flush has drafts of several people"),
    ("sealing::next", "everyone's keys are wrapped anew, a hundred at a time"),
    ("drafts::why", "a flush has drafts of several people"),
    ("drafts::clean", "it removes what is old, whoever has it"),
    ("drafts::clean_saved", "it removes what is old, whoever has it"),
    ("folding::allow", "reactions that are flushed together are to several people"),
    ("folding::unread", "reactions that are flushed together are to several people"),
    ("folding::remove", "reactions that are flushed together are to several people"),
    ("folding::settle", "reactions that are flushed together are to several people"),
    ("folding::drop", "reactions that are flushed together are to several people"),
    ("folding::count", "reactions that are flushed together are to several people"),
    (
        "erasure::mails",
        "mails about accounts are filed by registration, or by themselves: an address may have several",
    ),
    ("outgoing::due", "it looks for what is late, whoever has it"),
    ("exports::waiting", "it looks for what is to be written, whoever asked for it"),
    ("exports::old", "it looks for what is old, whoever has it"),
    ("outgoing::clean", "it removes what is old, whoever has it"),
    ("notifications::lock", "on shards it is sent for each"),
    ("notifications::told", "members of a circle are told, and forget, together"),
    ("notifications::forget_message", "members of a circle are told, and forget, together"),
    ("notifications::more_again", "members of a circle are told, and forget, together"),
    ("notifications::more", "members of a circle are told, and forget, together"),
    ("deliveries::plan", "members of a circle are told, and forget, together"),
    ("notifications::tell", "members of a circle are told, and forget, together"),
    ("notifications::forget_naming", "members of a circle are told, and forget, together"),
    ("threads::again", "members of a circle are told, and forget, together"),
    ("threads::less", "members of a circle are told, and forget, together"),
    ("threads::gone", "members of a circle are told, and forget, together"),
    ("notifications::evict", "members of a circle are told, and forget, together"),
    ("notifications::over", "it looks for those who have too many"),
    ("notifications::old", "it removes what is old, whoever has it"),
    ("notifications::clean", "it removes what is old, whoever has it"),
    ("notifications::clean_actors", "it removes what is old, whoever has it"),
    ("notifications::audit_counts", "it goes through everyone"),
];

/// Looks at the hash partitions that each statement locks.
pub async fn judge(full: &Full, statements: &[Statement], verdict: &mut Verdict) {
    verdict.statements = statements.len();
    for statement in statements {
        let name = statement.name.as_str();
        let leaves = full.leaves(statement, MODES[0]).await;
        let shards: BTreeSet<&str> =
            leaves.values().flatten().filter_map(|leaf| Some(leaf.split_once("_shard_")?.1)).collect();
        verdict.touching += usize::from(!shards.is_empty());
        if shards.len() < 2 {
            continue;
        }
        if statement.when() != When::Request && LISTED.iter().any(|row| row.0 == name) {
            verdict.found.insert(name.to_owned());
        } else {
            verdict.faults.push(format!("{name}: {leaves:?}"));
        }
    }
}
