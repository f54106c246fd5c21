//! The origin's side of the cache protocol: filling on a miss, and fencing for writers.
//!
//! What a value is made of is a domain's business (see [`crate::domain::Loader`]); whether Redis is believed is the region's.

pub mod value;
pub mod touched;
pub mod waiting;
pub mod read;
pub mod fence;
