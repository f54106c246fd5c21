//! What a domain hands to the plane: one constant [`Domain`], whose rows say what the plane does for it and when.
//!
//! Rows only: who runs them is [`crate::cache`], [`crate::outbox`], [`crate::write_behind`], [`crate::jobs`], [`crate::audit`]
//! and [`crate::http`].

use std::time::Duration;

use futures_util::future::BoxFuture;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{Key, Parameters};
use optimist_shared::session::Token;

use crate::audit::tally::{Suspect, Tally};
use crate::cache::value::{Loaded, Snapshot};
use crate::ctx::Ctx;
use crate::error::Result;
use crate::http::served::Served;
use crate::outbox::event::{Done, Event};
use crate::postgres::transaction::Tx;
use crate::write_behind::entry::Placed;

/// All domains, and who decides over tokens and administrators.
pub struct Registry {
    pub domains: &'static [Domain],
    pub guard: Guard,
}

/// A domain's rows.
#[derive(Clone, Copy)]
pub struct Domain {
    pub name: &'static str,
    /// Its handlers: each route of the table has one in one domain.
    pub routes: fn() -> Vec<Served>,
    /// Its SQL, each statement named in its first line.
    pub statements: &'static [&'static [&'static str]],
    /// How its cached keys are read from Postgres: each cached key has one loader in one domain.
    pub loaders: &'static [(Key, Loader)],
    /// What follows from events, by their kinds.
    pub follows: &'static [(&'static str, Follow)],
    /// The entries of the write-behind streams that are its.
    pub entries: &'static [Entries],
    pub jobs: &'static [Job],
    /// How keys are compared with Postgres, where comparing the copy with a fresh one is not enough.
    pub audits: &'static [(Key, Compare)],
    /// Sums that it keeps beside the rows they are of.
    pub sums: &'static [Sum],
    /// Loops that run as long as the process.
    pub tasks: &'static [Task],
    /// Settings that hold its secret keys: `token_keys` is `OPTIMIST_TOKEN_KEYS`, or `OPTIMIST_TOKEN_KEYS_FILE`.
    pub key_rings: &'static [&'static str],
    /// Rows that each migration puts in place.
    pub seed: Option<Seed>,
}

impl Domain {
    /// A domain without rows, for those that have few: `Domain { jobs: JOBS, ..Domain::new("name") }`.
    pub const fn new(name: &'static str) -> Domain {
        Domain {
            name,
            routes: Vec::new,
            statements: &[],
            loaders: &[],
            follows: &[],
            entries: &[],
            jobs: &[],
            audits: &[],
            sums: &[],
            tasks: &[],
            key_rings: &[],
            seed: None,
        }
    }
}

/// Who may pass where the edge could not decide.
#[derive(Clone, Copy)]
pub struct Guard {
    /// 401 unless the token is that of a session that lives.
    pub check_token: for<'a> fn(&'a Ctx, &'a Token) -> BoxFuture<'a, Result<()>>,
    /// 403 unless the user is an administrator at this moment.
    pub require_admin: for<'a> fn(&'a Ctx, Uuid) -> BoxFuture<'a, Result<()>>,
}

/// How what a key holds is read.
#[derive(Clone, Copy)]
pub enum Loader {
    /// One snapshot of Postgres, which fills the key.
    Copy(for<'a> fn(&'a Ctx, &'a Parameters) -> BoxFuture<'a, Result<Snapshot>>),
    /// What lives in Redis in a form of its own, put together from both stores.
    Live(for<'a> fn(&'a Ctx, Parameters) -> BoxFuture<'a, Result<Loaded>>),
}

/// What follows from events of one kind, written in the transaction that moves past them.
#[derive(Clone, Copy)]
pub enum Follow {
    /// Takes as many of the events as it likes, at least one or a part of it: `after` is the last person that an earlier pass
    /// has come to. A kind has one of these at most.
    Paced(Paced),
    /// Takes each event once, when it is begun.
    Whole(for<'a> fn(&'a Tx, &'a [Event]) -> BoxFuture<'a, Result<()>>),
}

pub type Paced = for<'a> fn(&'a Tx, &'a [Event], Option<Uuid>) -> BoxFuture<'a, Result<Done>>;

/// Entries of a write-behind stream, by their field.
#[derive(Clone, Copy)]
pub struct Entries {
    pub field: &'static str,
    /// Whether a value is one that our scripts write.
    pub is_understood: fn(&str) -> bool,
    /// Applies entries that are understood, in one transaction with the partitions' positions.
    pub apply: for<'a> fn(&'a Tx, &'a [Placed<'a>]) -> BoxFuture<'a, Result<()>>,
}

/// A job: what it does, and how often. Its function says how many rows it dealt with. It may be run twice, and cut off at any
/// point: what is left is done the next time.
#[derive(Clone, Copy)]
pub struct Job {
    pub name: &'static str,
    pub what: &'static str,
    pub every: Duration,
    pub run: for<'a> fn(&'a Ctx) -> BoxFuture<'a, Result<u64>>,
}

/// Compares a key with Postgres, and repairs it where that is wanted.
pub type Compare = for<'a> fn(&'a Ctx, Suspect<'a>) -> BoxFuture<'a, Result<Tally>>;

/// A sum that Postgres keeps beside the rows it is of.
#[derive(Clone, Copy)]
pub struct Sum {
    pub data_type: &'static str,
    /// Compares up to `$2` sums after the id `$1` (in the group `$4`, if `is_grouped`), mends them if `$3`, and selects each
    /// one's group, its id and whether it differed.
    pub sql: &'static str,
    pub is_grouped: bool,
    /// Called for each that was mended: copies may show it too.
    pub mended: Option<Mended>,
}

pub type Mended = for<'a> fn(&'a Ctx, Uuid) -> BoxFuture<'a, ()>;

/// A loop that runs as long as the process.
pub type Task = fn(Ctx) -> BoxFuture<'static, ()>;

/// Puts rows in place, as the role that owns the schema. Run by each migration.
pub type Seed = for<'a> fn(&'a tokio_postgres::Client) -> BoxFuture<'a, SeedResult>;
pub type SeedResult = std::result::Result<(), Box<dyn std::error::Error>>;
