//! Exports: all that a person has here, as lines of JSON, to take with them.
//!
//! A job reads section after section, and seals what it has read under a key that only the export's link carries; Postgres keeps that key
//! sealed by the person's own. A day after it is ready an export is gone. It has nothing of what others have written.

mod asking;
mod building;
mod pieces;
mod sections;
mod texts;
mod wrote;

use std::time::Duration;

use optimist_plane::domain::{Domain, Job};
use optimist_plane::http::served::Served;
use optimist_plane::own::MINUTE;

pub const DOMAIN: Domain = Domain {
    routes,
    tags: &[("exports", "All that one has here, to take along.")],
    statements: &[
        asking::STATEMENTS,
        building::STATEMENTS,
        pieces::STATEMENTS,
        sections::STATEMENTS,
        texts::STATEMENTS,
        wrote::STATEMENTS,
    ],
    jobs: JOBS,
    ..Domain::new("export")
};

#[rustfmt::skip] // One line a row.
const JOBS: &[Job] = &[
    Job { name: "exports.build", what: "writes the exports that people have asked for", every: Duration::from_secs(10), run: |ctx| Box::pin(building::run(ctx)) },
    Job { name: "exports.clean", what: "removes exports that have been ready for a day", every: MINUTE, run: |ctx| Box::pin(building::clean(ctx)) },
];

fn routes() -> Vec<Served> {
    [asking::routes(), pieces::routes()].into_iter().flatten().collect()
}
