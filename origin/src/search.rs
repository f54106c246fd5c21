//! Search: in messages, among circles, and for people, by words.
//!
//! Replicas find candidates. What is shown of them comes from the copies that writers fence, once the primary has said that the
//! caller may read it. Nobody's query is kept or logged.

mod text;
mod query;
mod place;
mod messages;
mod names;
mod answering;

use optimist_plane::domain::Domain;

pub const DOMAIN: Domain = Domain {
    routes: answering::routes,
    tags: &[("search", "Messages, circles and people, by words.")],
    statements: &[answering::STATEMENTS, messages::STATEMENTS, names::STATEMENTS],
    ..Domain::new("search")
};
