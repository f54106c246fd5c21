//! Statistics of circles: sums that others have counted, read for those who may see them.
//!
//! Nothing is counted here, and nothing is told of single people.

mod growth;
mod stats;

use optimist_plane::domain::{Domain, Loader};
use optimist_plane::http::served::Served;
use optimist_shared::keys::Key;

pub const DOMAIN: Domain = Domain {
    routes,
    statements: &[growth::STATEMENTS, stats::STATEMENTS],
    loaders: &[(Key::CircleStats, Loader::Copy(|ctx, key| Box::pin(stats::load(ctx, key))))],
    ..Domain::new("statistics")
};

fn routes() -> Vec<Served> {
    [stats::routes(), growth::routes()].into_iter().flatten().collect()
}
