//! Reactions to messages. They live in Redis and come to Postgres in batches; without Redis they are written to Postgres.

pub mod apply;
mod audit;
mod cleaning;
mod installing;
pub mod live;
mod mine;
mod reactors;
pub mod reacting;
pub mod shapes;
pub mod snapshot;

use optimist_plane::domain::{Compare, Domain, Entries, Job, Sum};
use optimist_plane::jobs::clean;
use optimist_plane::own::HOUR;
use optimist_shared::keys::Key;

const COMPARE: Compare = |ctx, suspect| Box::pin(audit::compare(ctx, suspect));

pub const DOMAIN: Domain = Domain {
    routes: reacting::routes,
    tags: &[("reactions", "How people take a message. Counts are live.")],
    statements: &[
        apply::STATEMENTS,
        audit::STATEMENTS,
        cleaning::STATEMENTS,
        live::STATEMENTS,
        mine::STATEMENTS,
        reactors::STATEMENTS,
        snapshot::STATEMENTS,
    ],
    entries: &[Entries {
        field: "reaction",
        is_understood: |value| apply::ReactionEntry::parse(value).is_some(),
        apply: |tx, placed| Box::pin(apply::apply(tx, placed)),
    }],
    jobs: &[Job {
        name: "reactions.clean",
        what: "removes reactions a day after they were taken back",
        every: HOUR,
        run: |ctx| Box::pin(clean(ctx, cleaning::CLEAN)),
    }],
    audits: &[(Key::Reactions, COMPARE), (Key::Counts, COMPARE), (Key::CountsPage, COMPARE)],
    sums: &[Sum {
        data_type: "reaction_counts",
        sql: audit::REACTION_COUNTS,
        is_grouped: true,
        mended: None,
    }],
    ..Domain::new("reactions")
};
