//! Activity: who posts, reacts and visits, by circle and day, off the path of the requests that it comes from.
//!
//! Posts are counted from the outbox, reactions where they come to Postgres, visits from the partition's stream.

pub mod counting;
mod history;
mod visit;
mod visiting;

use optimist_plane::domain::{Domain, Entries, Follow};
use optimist_plane::http::served::Served;

pub const DOMAIN: Domain = Domain {
    routes,
    statements: &[counting::STATEMENTS, history::STATEMENTS],
    follows: &[("message.posted", Follow::Whole(|tx, events| Box::pin(counting::posted(tx, events))))],
    entries: &[Entries {
        field: "visit",
        is_understood: |value| visit::VisitEntry::parse(value, 0).is_some(),
        apply: |tx, placed| Box::pin(counting::apply_visits(tx, placed)),
    }],
    ..Domain::new("activity")
};

fn routes() -> Vec<Served> {
    [visiting::routes(), history::routes()].into_iter().flatten().collect()
}
