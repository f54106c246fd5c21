//! Limits at the origin: the table's, applied through the edge's scripts, or in memory when Redis cannot be asked.

pub mod charge;
pub mod charged;
pub mod checks;
pub mod memory;
