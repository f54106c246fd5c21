//! Popular messages: those of public circles that people react to and comment on, the latest before the older.
//!
//! A job ranks them, and a list is ids and scores. It gives no right: whoever asks sees those that they may read at that moment.

mod listing;
mod ranking;

use std::time::Duration;

use optimist_plane::domain::{Domain, Job, Loader};
use optimist_shared::keys::Key;

pub const DOMAIN: Domain = Domain {
    routes: listing::routes,
    statements: &[listing::STATEMENTS, ranking::STATEMENTS],
    loaders: &[(Key::Popular, Loader::Copy(|ctx, _| Box::pin(listing::load(ctx))))],
    jobs: &[Job {
        name: "messages.rank",
        what: "ranks the popular messages, and reads their list anew before its copy lapses; not while Postgres is busy",
        // Less than the copy's life.
        every: Duration::from_secs(4 * 60),
        run: |ctx| Box::pin(ranking::rank(ctx)),
    }],
    ..Domain::new("popular")
};
