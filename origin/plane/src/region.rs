//! Whether the region's Redis is believed: vouching for it, learning of the vouching, and turning belief off.

pub mod belief;
pub mod switch;
pub mod vouching;
