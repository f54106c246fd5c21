//! Real time: the gateway, which tells subscribers of events and states.
//!
//! One loop ([`reading`]) reads the streams of the partitions that somebody here follows, up to what the relay has settled, and
//! puts each event once into the rings of its topics ([`hub`]). Each connection has a cursor ([`follower`]) and no queue: a slow
//! reader falls from the rings to the streams ([`replay`]), and from the streams to a notice that it should load anew.
//!
//! It names no domain: domains say what is told, to whom, and what that changes.

pub mod place;
pub mod frame;
pub mod rights;
pub mod veil;
pub mod door;
pub mod hub;
pub mod reading;
pub mod states;
pub mod telling;
pub mod replay;
pub mod follower;
pub mod pass;
pub mod tickets;
pub mod waking;
pub mod gateway;
mod commands;
mod stream;
mod socket;
