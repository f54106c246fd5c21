//! Stores that die, forget, hang, or are cut off, under load. Wrong answers last five seconds at the most, nothing
//! acknowledged is lost, and afterwards all promises hold again.

#![allow(clippy::unwrap_used)] // A test that cannot go on panics.

mod postgres;
mod reactions;
mod redis;
