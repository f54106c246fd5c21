//! The audit trail: who did what to an account, a circle or a role. Written from the outbox, in its order, and kept for longer than
//! the outbox.
//!
//! What people write is not in it, nor who reads what.

mod keeping;
mod reading;
mod feed;

use optimist_plane::audit::copies;
use optimist_plane::domain::{Domain, Loader};
use optimist_plane::http::served::Served;
use optimist_shared::keys::Key;

pub const DOMAIN: Domain = Domain {
    routes,
    statements: &[keeping::STATEMENTS, reading::STATEMENTS, feed::STATEMENTS],
    loaders: &[(Key::CircleActivity, Loader::Copy(|ctx, key| Box::pin(feed::load(ctx, key))))],
    // A job drops the copies that show a former name, within a minute.
    audits: &[(Key::CircleActivity, |ctx, suspect| {
        Box::pin(copies::compare_but_for(ctx, suspect, Some("/user")))
    })],
    follows: keeping::FOLLOWS,
    ..Domain::new("trail")
};

fn routes() -> Vec<Served> {
    [reading::routes(), feed::routes()].into_iter().flatten().collect()
}
