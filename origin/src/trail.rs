//! The audit trail: who did what to an account, a circle or a role. Written from the outbox, in its order, and kept for longer than
//! the outbox.
//!
//! What people write is not in it, nor who reads what.

mod keeping;
mod reading;

use optimist_plane::domain::Domain;

pub const DOMAIN: Domain = Domain {
    routes: reading::routes,
    statements: &[keeping::STATEMENTS, reading::STATEMENTS],
    follows: keeping::FOLLOWS,
    ..Domain::new("trail")
};
