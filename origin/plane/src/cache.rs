//! The origin's side of the cache protocol: filling on a miss, and fencing for writers.
//!
//! Domains load the values (see [`crate::domain::Loader`]); [`crate::region`] knows whether Redis is trusted.

pub mod value;
pub mod touched;
pub mod waiting;
pub mod read;
pub mod many;
pub mod fence;
