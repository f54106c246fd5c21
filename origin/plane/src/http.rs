//! The HTTP boundary: connections, admission, bodies and queries in, answers out.

pub mod serve;
pub mod socket;
pub mod handover;
pub mod served;
pub mod admit;
pub mod nonces;
pub mod body;
pub mod loaded;
pub mod sent;
pub mod time;
pub mod page;
pub mod veil;
pub mod idempotency;
