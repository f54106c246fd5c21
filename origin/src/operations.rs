//! What the service tells its administrators, and does for itself across domains.

pub mod admin;
mod consistency;
mod jobs;
pub mod policies;
mod refresh;

use optimist_plane::domain::{Domain, Job};
use optimist_plane::http::served::Served;
use optimist_plane::own::HOUR;

pub const DOMAIN: Domain = Domain {
    routes,
    statements: &[consistency::STATEMENTS, jobs::STATEMENTS, refresh::STATEMENTS],
    jobs: &[Job {
        name: "cache.refresh",
        what: "reads anew what most readers read first",
        every: HOUR,
        run: |app| Box::pin(refresh::critical_keys(app)),
    }],
    ..Domain::new("operations")
};

fn routes() -> Vec<Served> {
    let routes = [admin::routes(), consistency::routes(), jobs::routes(), crate::openapi::routes()];
    routes.into_iter().flatten().collect()
}
