//! Write-behind: each partition's stream of entries, opened under the vouched epoch and flushed into Postgres.
//!
//! Domains define the entries' meaning (see [`crate::domain::Entries`]).

pub mod entry;
pub mod flush;
pub mod open;
