//! Activity: how much each member posts, reacts and visits, by circle and day. No request waits for the counting.
//!
//! Posts are counted from the outbox, reactions when they are applied in Postgres, visits from the partitions' streams.

mod audit;
pub mod counting;
mod history;
mod visit;
mod visiting;

use optimist_plane::domain::{Domain, Entries, Follow};
use optimist_plane::http::served::Served;

pub const DOMAIN: Domain = Domain {
    routes,
    tags: &[("visits", "Being there."), ("activity", "What goes on in a circle, for its moderators.")],
    statements: &[audit::STATEMENTS, counting::STATEMENTS, history::STATEMENTS],
    follows: &[("message.posted", Follow::Whole(|tx, events| Box::pin(counting::posted(tx, events))))],
    entries: &[Entries {
        field: "visit",
        is_understood: |value| visit::VisitEntry::parse(value, 0).is_some(),
        apply: |tx, placed| Box::pin(counting::apply_visits(tx, placed)),
    }],
    sums: audit::SUMS,
    ..Domain::new("activity")
};

fn routes() -> Vec<Served> {
    [visiting::routes(), history::routes()].into_iter().flatten().collect()
}
