//! The API on real stores, through the embedded edge.

mod misses;
mod origin;
mod staleness;
