//! The outbox, read twice: by each region's relay, for its Redis, and once by all origins together, for what follows from
//! writes.

pub mod event;
pub mod projections;
pub mod relay;
