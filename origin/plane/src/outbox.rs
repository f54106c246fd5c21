//! The outbox and its two readers: each region's relay, for its Redis, and all origins together, for the consequences of
//! writes.

pub mod event;
pub mod projections;
mod batch;
pub mod relay;
pub mod set_aside;

/// The end of the two partitions that a reader looks at: that of a transaction, and the next.
pub fn end_of_stretch(xid: i64) -> i64 {
    /// As the migration cuts the outbox.
    const TRANSACTIONS: u32 = 24;
    ((xid >> TRANSACTIONS) + 2) << TRANSACTIONS
}
