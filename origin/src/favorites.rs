//! Favourites: messages that a person keeps at hand, wherever they are.
//!
//! A row says which message, and in which circle; it gives no right. Whoever lists them sees only what they may read at that moment.

mod keeping;
mod listing;

use optimist_plane::domain::Domain;
use optimist_plane::http::served::Served;

pub const DOMAIN: Domain = Domain {
    routes,
    tags: &[("favorites", "Messages that one keeps at hand.")],
    statements: &[keeping::STATEMENTS, listing::STATEMENTS],
    ..Domain::new("favorites")
};

fn routes() -> Vec<Served> {
    [listing::routes(), keeping::routes()].into_iter().flatten().collect()
}
