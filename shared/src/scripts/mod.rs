//! The Redis scripts. The Rust module beside each is the only one that knows the order of its KEYS and ARGV and the meaning
//! of its reply. `*_core.lua` files are prefixes that several scripts share. The sender of a [`Call`] decides how to send it:
//! EVALSHA first, and EVAL when Redis does not know the script (it was restarted).
//!
//! Each script is a static: a binary ships only those that it calls.

mod script;
mod call;

pub mod admit;
pub mod limit;
pub mod counts;
pub mod react;
pub mod admit_react;
pub mod mine;
pub mod visit;
pub mod mark_read;
pub mod presence;
pub mod message_drafts;
pub mod recent;
pub mod joins;

pub mod fence;
pub mod lease;
pub mod invalidate;
pub mod vouch;
pub mod append;
pub mod settle;
pub mod install;
pub mod ledger;
pub mod drafts;

pub use call::{Call, Scalars, crosses_slots, is_about_the_call, is_unknown_script};
pub use script::{Bound, Script};

/// Every script, for tests and for callers that load them all.
pub const ALL: [&Script; 45] = [
    &admit::ADMIT,
    &limit::LIMIT,
    &limit::PEEK,
    &limit::GIVE_BACK,
    &counts::COUNTS,
    &react::REACT,
    &admit_react::ADMIT_REACT,
    &mine::MINE,
    &visit::VISIT,
    &mark_read::MARK_READ,
    &presence::SAY_PRESENCE,
    &presence::CLAIM_PRESENCE,
    &presence::TOLD_PRESENCE,
    &presence::RENEW_PRESENCE,
    &presence::READ_PRESENCE,
    &presence::SHOW_ONLINE,
    &presence::READ_LIVE,
    &presence::TYPE,
    &message_drafts::SAVE_MESSAGE_DRAFT,
    &message_drafts::READ_MESSAGE_DRAFT,
    &message_drafts::DROP_MESSAGE_DRAFT,
    &message_drafts::LIST_MESSAGE_DRAFTS,
    &fence::FENCE,
    &fence::RELEASE,
    &fence::UNHIDE,
    &lease::LEASE,
    &lease::FILL,
    &invalidate::INVALIDATE,
    &vouch::VOUCH,
    &append::APPEND,
    &settle::SETTLE,
    &install::INSTALL,
    &install::FILL_COUNTED,
    &install::AUDIT,
    &ledger::OPEN,
    &ledger::TRIM,
    &drafts::AUTOSAVE,
    &drafts::RESTORE,
    &drafts::FLUSHED,
    &drafts::DROP_FLUSHED,
    &drafts::COUNT_DRAFTS,
    &recent::NOTE_RECENT,
    &recent::LIST_RECENT,
    &joins::ASK_JOIN,
    &joins::LIST_JOINS,
];

#[cfg(test)]
mod tests;
