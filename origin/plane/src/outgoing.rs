//! What leaves the service for other people's machines: Web Push, webhooks, mail. Rows in Postgres are the truth, written in the
//! transaction that they follow from; a queue in Redis feeds the senders.
//!
//! A sender claims a row for a time, sends, and marks it. If the process dies in between, the claim lapses and another sends again,
//! with the same id; a row that is marked is never sent again. Domains say what is sent, and how (see
//! [`crate::domain::Channel`]).

pub mod settings;
pub mod addresses;
pub mod http;
pub mod mail;
pub mod delivery;
pub mod state;
pub mod rows;
pub mod senders;
mod queue;
