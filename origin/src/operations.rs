//! The service's own upkeep across domains, and everything that it tells its administrators and clients of itself.

pub mod admin;
mod consistency;
mod jobs;
pub mod openapi;
pub mod policies;
mod refresh;

use optimist_plane::domain::{Domain, Job};
use optimist_plane::http::served::Served;
use optimist_plane::own::HOUR;

pub const DOMAIN: Domain = Domain {
    routes,
    tags: &[("openapi", "This document."), ("admin", "How the service does, for its administrators.")],
    statements: &[consistency::STATEMENTS, jobs::STATEMENTS, refresh::STATEMENTS],
    jobs: &[Job {
        name: "cache.refresh",
        what: "reads anew what most readers read first",
        every: HOUR,
        run: |ctx| Box::pin(refresh::critical_keys(ctx)),
    }],
    ..Domain::new("operations")
};

fn routes() -> Vec<Served> {
    let routes = [admin::routes(), consistency::routes(), jobs::routes(), openapi::routes()];
    routes.into_iter().flatten().collect()
}
