//! Reports: what people say against messages, and what moderators and administrators decide about it.
//!
//! All reports of a message are one case, until it is decided. Who reported is told to nobody. No decision is made by itself, however
//! many report.

mod case;
mod deciding;
mod queue;
mod reporting;
mod telling;
mod upkeep;

use optimist_plane::domain::{Domain, Follow, Job};
use optimist_plane::http::served::Served;
use optimist_plane::own::HOUR;

pub const DOMAIN: Domain = Domain {
    routes,
    tags: &[("reports", "What people say against messages, and what is decided about it.")],
    statements: &[
        case::STATEMENTS,
        deciding::STATEMENTS,
        queue::STATEMENTS,
        reporting::STATEMENTS,
        telling::STATEMENTS,
        upkeep::STATEMENTS,
    ],
    follows: &[
        ("report.made", Follow::Whole(|tx, events| Box::pin(telling::tell_moderators(tx, events)))),
        ("report.decided", Follow::Whole(|tx, events| Box::pin(telling::tell_parties(tx, events)))),
        ("message.deleted", Follow::Whole(|tx, events| Box::pin(telling::tell_parties(tx, events)))),
    ],
    jobs: &[Job {
        name: "reports.clean",
        what: "removes reports that were decided ninety days ago",
        every: HOUR,
        run: |ctx| Box::pin(upkeep::remove_old(ctx)),
    }],
    ..Domain::new("reports")
};

fn routes() -> Vec<Served> {
    [reporting::routes(), queue::routes(), deciding::routes()].into_iter().flatten().collect()
}
