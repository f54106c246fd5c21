//! The benchmarks, one comparison per file.

pub mod cold_start;
pub mod community;
pub mod drafts;
pub mod floor;
pub mod growth;
pub mod held;
pub mod memory;
pub mod miss;
pub mod neighbours;
pub mod object;
pub mod overload;
pub mod posting;
pub mod reactions;
pub mod realtime;
pub mod redis_cpu;
pub mod search;
pub mod sizes;
pub mod sql;
pub mod warm;
