//! The Redis scripts, each with a Rust face beside it: the one module that knows the order of its KEYS and ARGV and what its
//! reply means. `*_core.lua` files are prefixes that several scripts share. Whoever sends a [`Call`] tries EVALSHA first, and
//! EVAL when Redis does not know the script (it was restarted); how it is sent is theirs.
//!
//! Each script is a static: a binary ships those that it calls, and no others.

mod script;
mod call;

pub mod admit;
pub mod limit;
pub mod counts;
pub mod react;
pub mod visit;

pub mod fence;
pub mod lease;
pub mod invalidate;
pub mod vouch;
pub mod append;
pub mod install;
pub mod ledger;
pub mod drafts;

pub use call::{Call, Scalars, is_about_the_call, is_unknown_script};
pub use script::Script;

pub use crate::compat::{Scripts, describe_limits}; // compat: origin

/// Every script: for tests, and for whoever loads them all.
pub const ALL: [&Script; 23] = [
    &admit::ADMIT,
    &limit::LIMIT,
    &limit::PEEK,
    &limit::GIVE_BACK,
    &counts::COUNTS,
    &react::REACT,
    &visit::VISIT,
    &fence::FENCE,
    &fence::RELEASE,
    &fence::UNHIDE,
    &lease::LEASE,
    &lease::FILL,
    &invalidate::INVALIDATE,
    &vouch::VOUCH,
    &append::APPEND,
    &install::INSTALL,
    &install::AUDIT,
    &ledger::OPEN,
    &ledger::TRIM,
    &drafts::AUTOSAVE,
    &drafts::RESTORE,
    &drafts::FLUSHED,
    &drafts::DROP_FLUSHED,
];

#[cfg(test)]
mod tests;
