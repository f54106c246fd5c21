//! The auditor: compares Redis with Postgres, bit by bit and for ever, where and when the two are comparable, and repairs
//! from Postgres what differs. Postgres's own sums are compared with their rows as well.

pub mod copies;
pub mod sums;
pub mod tally;
pub mod walk;
