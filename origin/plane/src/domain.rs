//! The rows that a domain hands to the plane: one constant [`Domain`] says what the plane does for the domain, and when.
//!
//! Rows only: [`crate::cache`], [`crate::outbox`], [`crate::write_behind`], [`crate::jobs`], [`crate::audit`] and
//! [`crate::http`] run them.

use std::time::Duration;

use futures_util::future::BoxFuture;
use optimist_shared::blocks::Blocked;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{BoundKey, Key};
use optimist_shared::session::Token;
use serde_json::Value;

use crate::audit::tally::{Suspect, Tally};
use crate::cache::value::{Loaded, Snapshot};
use crate::ctx::Ctx;
use crate::error::Result;
use crate::http::served::{Served, Tag};
use crate::live::rights::{Change, Subscription};
use crate::operation::Shape;
use crate::outbox::event::{Done, Event};
use crate::outgoing::delivery::{Delivery, Outcome};
use crate::postgres::transaction::Tx;
use crate::write_behind::entry::Placed;

/// All domains, the API's title and description, and the guard that checks tokens and administrators.
pub struct Registry {
    /// The API's name and description, for its document.
    pub title: &'static str,
    pub description: &'static str,
    pub domains: &'static [Domain],
    pub guard: Guard,
}

/// A domain's rows.
#[derive(Clone, Copy)]
pub struct Domain {
    pub name: &'static str,
    /// Its handlers: each route of the table has one, in one domain.
    pub routes: fn() -> Vec<Served>,
    /// The descriptions of its groups of operations.
    pub tags: &'static [Tag],
    /// Its SQL, each statement named in its first line.
    pub statements: &'static [&'static [&'static str]],
    /// The loaders of its cached keys: each cached key has one, in one domain.
    pub loaders: &'static [(Key, Loader)],
    /// The consequences of events, by their kinds.
    pub follows: &'static [(&'static str, Follow)],
    /// The events that subscribers receive.
    pub told: &'static [Told],
    /// The events that change what subscribers may receive, by their kinds.
    pub rights: &'static [Right],
    /// The states that subscribers receive whole.
    pub states: &'static [State],
    /// Its routes that clients may also call through a socket.
    pub commands: &'static [Command],
    /// Its entries in the write-behind streams.
    pub entries: &'static [Entries],
    pub jobs: &'static [Job],
    /// Comparisons of keys with Postgres, where comparing the copy with a fresh one is not enough.
    pub audits: &'static [(Key, Compare)],
    /// Sums that it keeps beside their rows.
    pub sums: &'static [Sum],
    /// The ways on which it sends out of the service.
    pub channels: &'static [Channel],
    /// Loops that run as long as the process.
    pub tasks: &'static [Task],
    /// Settings that hold its secret keys: `token_keys` is `OPTIMIST_TOKEN_KEYS`, or `OPTIMIST_TOKEN_KEYS_FILE`.
    pub key_rings: &'static [&'static str],
    /// Puts rows in place at each migration.
    pub seed: Option<Seed>,
}

impl Domain {
    /// A domain without rows, as a base for those that have few: `Domain { jobs: JOBS, ..Domain::new("name") }`.
    pub const fn new(name: &'static str) -> Domain {
        Domain {
            name,
            routes: Vec::new,
            tags: &[],
            statements: &[],
            loaders: &[],
            follows: &[],
            told: &[],
            rights: &[],
            states: &[],
            commands: &[],
            entries: &[],
            jobs: &[],
            audits: &[],
            sums: &[],
            channels: &[],
            tasks: &[],
            key_rings: &[],
            seed: None,
        }
    }
}

/// Checks for requests on which the edge could not decide, and of connections that last.
#[derive(Clone, Copy)]
pub struct Guard {
    /// 401 unless the token belongs to a live session.
    pub check_token: for<'a> fn(&'a Ctx, &'a Token) -> BoxFuture<'a, Result<()>>,
    /// 403 unless the user is an administrator at this moment.
    pub require_admin: for<'a> fn(&'a Ctx, Uuid) -> BoxFuture<'a, Result<()>>,
    /// Says that a session is in use, and when it ends at the latest, in Unix milliseconds. `None` if it is over.
    pub extend_session: Extend,
    /// What a person follows besides their own topic, and from whom something is hidden.
    pub followed: Followed,
    /// Those whom a person has blocked, as [`Blocked`] reads them.
    pub blocked: for<'a> fn(&'a Ctx, Uuid) -> BoxFuture<'a, Result<String>>,
    /// What remains of an answer, or of what a subscriber receives, for those who have blocked these people. `None` if nothing does.
    pub veil: fn(Blocked<'_>, Value) -> Option<Value>,
}

pub type Extend = for<'a> fn(&'a Ctx, Uuid, Uuid) -> BoxFuture<'a, Result<Option<u64>>>;
pub type Followed = for<'a> fn(&'a Ctx, Uuid) -> BoxFuture<'a, Result<Subscription>>;

/// Reads the value of a key.
#[derive(Clone, Copy)]
pub enum Loader {
    /// Reads one snapshot of Postgres, which fills the key.
    Copy(for<'a> fn(&'a Ctx, BoundKey) -> BoxFuture<'a, Result<Snapshot>>),
    /// The same, of people's own rows: where these are on shards, it is read each time and fills nothing.
    Own(for<'a> fn(&'a Ctx, BoundKey) -> BoxFuture<'a, Result<Snapshot>>),
    /// Joins both stores into a value that Redis holds in a form of its own.
    Live(for<'a> fn(&'a Ctx, BoundKey) -> BoxFuture<'a, Result<Loaded>>),
}

/// The consequences of events of one kind, written in the transaction that moves past them.
#[derive(Clone, Copy)]
pub enum Follow {
    /// Handles as many of the events as it chooses: at least one, or a part of it. `after` is the last person that an earlier
    /// pass reached. A kind has at most one of these.
    Paced(Paced),
    /// The same, of events that may take long: after the first part an event goes on apart from all others, so that none waits for it.
    /// Its parts may come after the consequences of later events.
    Long(Paced),
    /// Handles each event once, when it is begun.
    Whole(for<'a> fn(&'a Tx, &'a [Event]) -> BoxFuture<'a, Result<()>>),
}

pub type Paced = for<'a> fn(&'a Tx, &'a [Event], Option<Uuid>) -> BoxFuture<'a, Result<Done>>;

/// A durable event: subscribers of its row's topics receive each row of this kind once, in order, with an id.
#[derive(Clone, Copy)]
pub struct Told {
    /// The kind of its rows in the outbox, and its type for subscribers.
    pub kind: &'static str,
    pub what: &'static str,
    /// The fields of the row's payload that its data has. Payloads hold ids, and whatever else only the origin may know.
    pub fields: &'static [&'static str],
    /// Its data: those fields and, if `shows` is given, `shown`.
    pub shape: Shape,
    /// The cached key whose value is `shown`: as it is when the event is delivered, and the same for everyone. Null if it is gone,
    /// or too large for a frame.
    pub shows: Option<fn(&Event) -> Option<BoundKey>>,
    /// Whether a row is for its subscribers at all.
    pub is_told: fn(&Event) -> bool,
}

impl Told {
    /// An event of whose rows all are told, and which shows nothing.
    pub const fn new(
        kind: &'static str,
        what: &'static str,
        fields: &'static [&'static str],
        shape: Shape,
    ) -> Told {
        Told { kind, what, fields, shape, shows: None, is_told: |_| true }
    }

    pub const fn shows(self, key: fn(&Event) -> Option<BoundKey>) -> Told {
        Told { shows: Some(key), ..self }
    }

    pub const fn only(self, is_told: fn(&Event) -> bool) -> Told {
        Told { is_told, ..self }
    }
}

/// A kind of events, and how one of them changes what a subscriber may receive.
pub type Right = (&'static str, fn(&Event) -> Option<Change>);

/// A state: its value is sent whole after each connect and, within half a second, after each change. It has no id, and only its
/// last value counts. A wake (`s <name> <topic>`) or an event of `after` tells of a change.
#[derive(Clone, Copy)]
pub struct State {
    /// Its type for subscribers.
    pub name: &'static str,
    pub what: &'static str,
    pub shape: Shape,
    pub of: Of,
    /// Reads the value of a topic, the same for all who receive it, as JSON of at most 3 KiB. `None` if there is nothing to tell.
    pub load: LoadState,
    /// Kinds of events that change it: the topic's own events.
    pub after: &'static [&'static str],
}

pub type LoadState = for<'a> fn(&'a Ctx, Uuid) -> BoxFuture<'a, Result<Option<Vec<u8>>>>;

/// The topics that a state is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Each person's own.
    Person,
    /// The topics that a person follows besides.
    Followed,
}

/// A command of a socket's: the request of a route. The fields that the route's path names go there, and the others are the body.
#[derive(Clone, Copy)]
pub struct Command {
    /// Its type.
    pub name: &'static str,
    pub route: &'static str,
}

/// Entries of a write-behind stream, by their field.
#[derive(Clone, Copy)]
pub struct Entries {
    pub field: &'static str,
    /// Whether our scripts write such a value.
    pub is_understood: fn(&str) -> bool,
    /// Applies understood entries, in the transaction that moves the partitions' positions.
    pub apply: for<'a> fn(&'a Tx, &'a [Placed<'a>]) -> BoxFuture<'a, Result<()>>,
}

/// A job: its purpose, interval and function, which returns how many rows it handled. It may run twice, and may be cut off at
/// any point: the next run does the rest.
#[derive(Clone, Copy)]
pub struct Job {
    pub name: &'static str,
    pub what: &'static str,
    pub every: Duration,
    pub run: for<'a> fn(&'a Ctx) -> BoxFuture<'a, Result<u64>>,
}

/// Compares a key with Postgres, and repairs it if that is wanted.
pub type Compare = for<'a> fn(&'a Ctx, Suspect<'a>) -> BoxFuture<'a, Result<Tally>>;

/// A sum that Postgres keeps beside its rows.
#[derive(Clone, Copy)]
pub struct Sum {
    pub data_type: &'static str,
    /// Compares up to `$2` sums after the id `$1` (in the group `$4`, if `is_grouped`), mends them if `$3`, and selects each
    /// one's group, its id and whether it differed.
    pub sql: &'static str,
    pub is_grouped: bool,
    /// Called for each mended sum: copies may show it too.
    pub mended: Option<Mended>,
}

pub type Mended = for<'a> fn(&'a Ctx, Uuid) -> BoxFuture<'a, ()>;

/// A way out of the service, with senders of its own: one that is slow delays no other.
#[derive(Clone, Copy)]
pub struct Channel {
    /// As rows, the queue and metrics name it.
    pub name: &'static str,
    /// Deliveries that one origin sends at once.
    pub at_once: usize,
    /// Checks that a delivery is still wanted, and sends it. It may be called again with the same one, after it has sent it: what it
    /// sends carries the delivery's id.
    pub send: for<'a> fn(&'a Ctx, &'a Delivery) -> BoxFuture<'a, Result<Outcome>>,
}

/// A loop that runs as long as the process.
pub type Task = fn(Ctx) -> BoxFuture<'static, ()>;

/// Puts rows in place, as the role that owns the schema. Each migration runs it.
pub type Seed = for<'a> fn(&'a tokio_postgres::Client) -> BoxFuture<'a, SeedResult>;
pub type SeedResult = std::result::Result<(), Box<dyn std::error::Error>>;
