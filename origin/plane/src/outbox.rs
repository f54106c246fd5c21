//! The outbox and its two readers: each region's relay, for its Redis, and all origins together, for the consequences of
//! writes.

pub mod event;
pub mod projections;
pub mod relay;
pub mod set_aside;
