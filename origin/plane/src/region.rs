//! Whether the region's Redis is trusted: vouching for it, learning of the vouching, and turning the region off.

pub mod switch;
pub mod trust;
pub mod vouching;
