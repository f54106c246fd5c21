//! What is measured, one comparison a file.

pub mod floor;
pub mod redis_cpu;
pub mod warm;
