//! Stores that die, lose data, hang, or are cut off, under load. Wrong answers last five seconds at most, nothing
//! acknowledged is lost, and afterwards all promises hold again.

#![allow(clippy::unwrap_used)] // A test that cannot go on panics.

mod postgres;
mod reactions;
mod redis;
mod worker;
