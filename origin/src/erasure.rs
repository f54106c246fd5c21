//! The erasure domain: what follows, within the hour, once an account is erased.
//!
//! What happens before the answer is [`crate::people::erasing`]'s. A job takes the waiting erasures through steps, each of short
//! transactions, and notes how far it is; another searches each region's Redis. The archive writes its objects anew by itself.

mod steps;
mod job;
mod circles;
mod messages;
mod reactions;
mod rows;
mod keys;
pub mod outside;
pub mod tables;
pub mod verifying;

use std::time::Duration;

use optimist_plane::domain::{Domain, Job};
use optimist_plane::own::MINUTE;

pub use job::apply;

pub const DOMAIN: Domain = Domain {
    statements: &[
        job::STATEMENTS,
        circles::STATEMENTS,
        messages::STATEMENTS,
        reactions::STATEMENTS,
        rows::STATEMENTS,
        keys::STATEMENTS,
        outside::STATEMENTS,
        verifying::STATEMENTS,
    ],
    jobs: JOBS,
    ..Domain::new("erasure")
};

#[rustfmt::skip] // One line a row.
const JOBS: &[Job] = &[
    Job { name: "erasure.run", what: "removes what erased accounts have left", every: Duration::from_secs(10), run: |ctx| Box::pin(job::run(ctx)) },
    Job { name: "erasure.keys", what: "removes the keys of erased accounts from the region's Redis", every: MINUTE, run: |ctx| Box::pin(keys::sweep(ctx)) },
];
