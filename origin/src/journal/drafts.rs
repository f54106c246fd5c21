//! Drafts: each change goes to Redis, batches to Postgres, and no edit is lost to another.
//!
//! A version is opaque, new with each save, and grows. A save names the version that it is based on; if that is not the
//! current one, its text is kept as a draft of its own, a sibling, which the refusal names; unless the current one says the
//! same.

mod audit;
mod draft;
pub mod flush;
mod handling;
mod saving;
pub mod store;

use optimist_plane::domain::{Domain, Job};
use optimist_plane::jobs::clean;
use optimist_plane::own::{HOUR, MINUTE};
use optimist_shared::keys::Key;

pub const DOMAIN: Domain = Domain {
    routes: handling::routes,
    statements: &[flush::STATEMENTS, saving::STATEMENTS, store::STATEMENTS],
    jobs: JOBS,
    audits: &[(Key::Draft, |app, suspect| Box::pin(audit::compare(app, suspect)))],
    tasks: &[|app| Box::pin(flush::run(app))],
    ..Domain::new("drafts")
};

#[rustfmt::skip] // One line a row.
const JOBS: &[Job] = &[
    // The origins do so all the time, every three seconds: should they be behind, and before Redis is taken away.
    Job { name: "drafts.flush", what: "brings drafts to Postgres", every: MINUTE, run: |app| Box::pin(flush::flush_waiting(app)) },
    Job { name: "drafts.clean", what: "removes what is left of drafts a day after they were saved or discarded", every: HOUR, run: |app| Box::pin(clean(app, flush::CLEAN)) },
];
