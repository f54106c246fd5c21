//! What Redis takes first: each partition's stream of writes, opened under the vouched epoch and emptied into Postgres.
//!
//! What the entries mean is their domains' (see [`crate::domain::Entries`]).

pub mod entry;
pub mod flush;
pub mod open;
