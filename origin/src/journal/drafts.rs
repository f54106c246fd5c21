//! Drafts: each change goes to Redis, batches go to Postgres, and no edit is lost to another.
//!
//! A version is opaque to clients, new with each save, and greater than the one before. A save names the version that it is
//! based on. If that is not the current one, and the current one says something else, the text is kept as a draft of its own,
//! a sibling, which the refusal names.

pub mod store;
pub mod flush;
mod draft;
mod saving;
mod handling;
mod audit;

use optimist_plane::domain::{Domain, Job};
use optimist_plane::http::served::Tag;
use optimist_plane::jobs::clean;
use optimist_plane::own::{HOUR, MINUTE};
use optimist_shared::keys::Key;

pub const DOMAIN: Domain = Domain {
    routes: handling::routes,
    tags: TAGS,
    statements: &[flush::STATEMENTS, saving::STATEMENTS, store::STATEMENTS],
    jobs: JOBS,
    audits: &[(Key::Draft, |ctx, suspect| Box::pin(audit::compare(ctx, suspect)))],
    tasks: &[|ctx| Box::pin(flush::run(ctx))],
    ..Domain::new("drafts")
};

const TAGS: &[Tag] = &[("drafts", "Journal entries while they are written. Sealed, as all of a journal is.")];

#[rustfmt::skip] // One line a row.
const JOBS: &[Job] = &[
    // The origins flush every three seconds anyway: the job is for when they are behind, and before Redis is taken away.
    Job { name: "drafts.flush", what: "brings drafts to Postgres", every: MINUTE, run: |ctx| Box::pin(flush::flush_waiting(ctx)) },
    Job { name: "drafts.clean", what: "removes what is left of drafts a day after they were saved or discarded", every: HOUR, run: |ctx| Box::pin(clean(ctx, flush::CLEAN)) },
];
