//! Drafts: each change goes to Redis, batches go to Postgres, and no edit is lost to another.
//!
//! A version is opaque to clients, new with each save, and greater than the one before. A save names the version that it is
//! based on. If that is not the current one, and the current one says something else, the text is kept as a draft of its own,
//! a sibling, which the refusal names.

pub mod store;
mod version;
pub mod flush;
mod typed;
mod draft;
pub mod late;
pub mod quota;
pub mod saving;
mod handling;
pub mod audit;

use optimist_plane::domain::Job;
use optimist_plane::http::served::Served;
use optimist_plane::jobs::clean;
use optimist_plane::own::{HOUR, MINUTE};

#[rustfmt::skip] // One line a row.
pub const JOBS: &[Job] = &[
    // The origins flush every three seconds anyway: the job is for when they are behind, and before Redis is taken away.
    Job { name: "drafts.flush", what: "brings drafts to Postgres", every: MINUTE, run: |ctx| Box::pin(flush::flush_waiting(ctx)) },
    Job { name: "drafts.clean", what: "removes what is left of drafts a day after they were discarded", every: HOUR, run: |ctx| Box::pin(clean(ctx, flush::CLEAN)) },
    Job { name: "drafts.clean-saved", what: "removes what is left of drafts a month after they were saved as entries", every: HOUR, run: |ctx| Box::pin(clean(ctx, flush::CLEAN_SAVED)) },
];

pub fn routes() -> Vec<Served> {
    handling::routes()
}
