//! The auditor: compares Redis with Postgres, continuously and part by part, where and when the two are comparable, and
//! repairs differences from Postgres. It compares Postgres's own sums with their rows as well.

pub mod copies;
pub mod sums;
pub mod tally;
pub mod walk;
