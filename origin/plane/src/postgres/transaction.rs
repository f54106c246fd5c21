//! A running transaction: its statements, its locks, and the keys and event that it records for the cache and the outbox.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join3;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::BoundKey;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::cache::touched::TouchedKey;
use crate::error::{Error, Result};
use crate::hooks;
use crate::postgres::connecting::Client;
use crate::postgres::left::{Changed, Left, Ticket};
use crate::postgres::pool::Postgres;
use crate::postgres::prepared::Prepared;
use crate::postgres::shards::Shards;
use crate::statements;

statements! {
    const LOCK: &str = "-- postgres::lock
select pg_advisory_xact_lock(hashtextextended(name, 0)) from unnest($1::text[]) as name";

    /// Locks the names that nobody else holds. Leaves them in a setting of the transaction for the statement that is sent in
    /// the same trip.
    const LOCK_FREE: &str = "-- postgres::lock_free
with free as materialized (
    select name from unnest($1::text[]) as name where pg_try_advisory_xact_lock(hashtextextended(name, 0)))
select coalesce(array_agg(name), '{}'), set_config('optimist.locked', coalesce(string_agg(name, ' '), ''), true) from free";
}

/// The locks that a transaction begins with, on circles and users, or whatever else the ids name.
pub(super) struct Locks {
    pub order: Vec<Uuid>,
    /// Takes only those that are free. Otherwise the transaction waits for all of them.
    pub leaves_busy: bool,
}

/// How long a request's transaction may run until its last statement begins, each of which has a timeout.
const DEADLINE: Duration = Duration::from_secs(4);
/// The same for work outside of requests: everyone's fills wait for the oldest transaction.
const WORK_DEADLINE: Duration = Duration::from_millis(800);
const BEGIN: &str = "begin";
/// With timeouts that suit [`WORK_DEADLINE`].
const BEGIN_WORK: &str = "begin; set local statement_timeout = 1000; set local lock_timeout = 500";

/// A running transaction, with the keys and the event that it records. Its statements run one after another.
pub struct Tx {
    /// `None` once it has ended.
    client: Option<Client>,
    /// The locks to take, in their order. The first statement brings `begin` and the locks along, so that they cost no trips
    /// of their own. `None` once the transaction has begun.
    opening: Mutex<Option<Locks>>,
    /// The names that were free, in a transaction that leaves busy ones.
    locked: Mutex<Vec<String>>,
    begin: &'static str,
    deadline: Instant,
    left: Left,
    /// Deliveries whose rows it has written.
    to_send: Mutex<Vec<Ticket>>,
    pub(super) shards: Shards,
    /// States of topics that it has changed.
    changed: Mutex<Vec<Changed>>,
    pub(super) touched: Vec<TouchedKey>,
    pub(super) event: Option<(&'static str, serde_json::Value)>,
    pub(super) unchanged: bool,
    pub(super) recorded: bool,
}

fn taken<T>(list: &Mutex<Vec<T>>) -> Vec<T> {
    std::mem::take(&mut *list.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Tx {
    /// Opens a plain transaction, without locks, for work outside of requests: it ends within about a second, or fails. If
    /// dropped, it is rolled back with its connection.
    pub async fn begin(db: &Postgres) -> Result<Tx> {
        let none = Locks { order: Vec::new(), leaves_busy: false };
        Tx::open(db, none, BEGIN_WORK, WORK_DEADLINE).await
    }

    /// Opens a transaction whose first statement takes locks.
    pub(super) async fn locking(db: &Postgres, locks: Locks) -> Result<Tx> {
        Tx::open(db, locks, BEGIN, DEADLINE).await
    }

    async fn open(db: &Postgres, locks: Locks, begin: &'static str, lasts: Duration) -> Result<Tx> {
        Ok(Tx {
            client: Some(db.client().await?),
            opening: Mutex::new(Some(locks)),
            locked: Mutex::default(),
            begin,
            deadline: Instant::now() + lasts,
            left: db.left.clone(),
            to_send: Mutex::default(),
            changed: Mutex::default(),
            shards: db.shards.clone(),
            touched: Vec::new(),
            event: None,
            unchanged: false,
            recorded: false,
        })
    }

    /// Runs a statement, unless the transaction's time is over. In the same trip and before the first one it sends `begin` and
    /// the locks.
    async fn run<T>(
        &self,
        statement: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        if Instant::now() > self.deadline {
            tracing::warn!("a transaction's time is over");
            return Err(Error::slow());
        }
        let opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Locks { order, leaves_busy }) = opening else { return Ok(statement.await?) };
        let client = self.client()?;
        let sql = if leaves_busy { LOCK_FREE } else { LOCK };
        // Prepared beforehand: nothing may come between sending this and sending the statement.
        let lock = client.prepare_cached(sql).await?;
        let names: Vec<String> = order.iter().map(Uuid::to_string).collect();
        let locked = async {
            if names.is_empty() {
                return Ok(Vec::new());
            }
            hooks::statement(sql);
            client.query(&lock, &[&names]).await
        };
        // Sent in the order of their first polls, which is this.
        let (begun, locked, result) = join3(client.batch_execute(self.begin), locked, statement).await;
        begun?;
        let locked = locked?;
        if leaves_busy && let Some(row) = locked.first() {
            *self.locked.lock().unwrap_or_else(PoisonError::into_inner) = row.get(0);
        }
        Ok(result?)
    }

    /// Whether a transaction that leaves busy names has locked this one. Known after its first statement.
    pub fn holds(&self, name: Uuid) -> bool {
        let locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        locked.iter().any(|held| *held == name.to_string())
    }

    fn has_begun(&self) -> bool {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    async fn simple(&self, sql: &str) -> Result<()> {
        self.run(self.client()?.batch_execute(sql)).await
    }

    /// Ends a plain transaction: commits a success, rolls back a failure. The outcome is unknown if the connection breaks.
    pub async fn end<T, E: From<Error>>(
        mut self,
        result: std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        match result {
            Ok(value) => {
                if self.has_begun() {
                    // The deadline does not apply to the commit, since the work is done.
                    match self.commit().await? {
                        Commit::Done => {}
                        Commit::Refused(error) => return Err(Error::from(error).into()),
                        Commit::Unknown(why) => return Err(unknown("a transaction of work", &why).into()),
                    }
                }
                self.ended();
                Ok(value)
            }
            Err(error) => {
                rollback(self).await;
                Err(error)
            }
        }
    }

    /// Commits. On any outcome but success the connection is to be closed.
    pub(super) async fn commit(&self) -> Result<Commit> {
        let client = self.client()?;
        let before = client.warnings();
        Ok(match client.batch_execute("commit").await {
            Ok(()) if client.warnings() == before => {
                self.left.add(taken(&self.to_send));
                self.left.change(taken(&self.changed));
                Commit::Done
            }
            Ok(()) => Commit::Unknown("Postgres warned of it".to_owned()),
            Err(error) if error.as_db_error().is_some() => Commit::Refused(error),
            Err(error) => Commit::Unknown(error.to_string()),
        })
    }

    pub(super) fn client(&self) -> Result<&Client> {
        self.client.as_ref().ok_or_else(|| Error::internal("postgres", &"a transaction that has ended"))
    }

    /// Returns the connection to the pool.
    pub(super) fn ended(&mut self) {
        self.client = None;
    }

    pub async fn query(&self, sql: &'static str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        hooks::statement(sql);
        let client = self.client()?;
        let statement = Prepared::new(client, sql).await?;
        self.run(statement.query(parameters)).await
    }

    pub async fn query_opt(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>> {
        Ok(self.query(sql, parameters).await?.into_iter().next())
    }

    /// For statements that return exactly one row, whatever the data.
    pub async fn query_one(&self, sql: &'static str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Row> {
        self.query_opt(sql, parameters)
            .await?
            .ok_or_else(|| Error::internal("postgres", &"a statement returned no row"))
    }

    /// Runs a statement and returns how many rows it changed.
    pub async fn execute(&self, sql: &'static str, parameters: &[&(dyn ToSql + Sync)]) -> Result<u64> {
        hooks::statement(sql);
        let client = self.client()?;
        let statement = Prepared::new(client, sql).await?;
        self.run(statement.execute(parameters)).await
    }

    /// Runs a part that may fail without the rest: its effects are undone then. The outer error is the transaction's.
    pub async fn part<T>(&self, part: impl Future<Output = Result<T>>) -> Result<Result<T>> {
        self.simple("savepoint part").await?;
        let result = part.await;
        let end = if result.is_ok() { "release savepoint part" } else { "rollback to savepoint part" };
        self.simple(end).await?;
        Ok(result)
    }

    /// Locks a name until the end of the transaction, after waiting for everyone else who holds it.
    pub async fn lock(&self, name: &str) -> Result<()> {
        self.execute(LOCK, &[&[name].as_slice()]).await.map(drop)
    }

    /// Names a key that this write makes stale.
    pub fn touch(&mut self, key: BoundKey) {
        self.touched.push(TouchedKey::new(key));
    }

    /// Records the event for the outbox: the audit trail, and later the streams.
    pub fn event(&mut self, kind: &'static str, payload: serde_json::Value) {
        self.event = Some((kind, payload));
    }

    /// Names deliveries whose rows this transaction has written: they are sent once it is committed.
    pub fn sends(&self, tickets: impl IntoIterator<Item = Ticket>) {
        self.to_send.lock().unwrap_or_else(PoisonError::into_inner).extend(tickets);
    }

    /// Names a state that this transaction changes, of some topics: their subscribers are woken once it is committed.
    pub fn changes(&self, state: &'static str, topics: impl IntoIterator<Item = Uuid>) {
        let changed = topics.into_iter().map(|topic| (state, topic));
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).extend(changed);
    }

    /// Declares that nothing changed: the answer comes from a record, or the state was so already. The keys are released all
    /// the same, since the writer that did change them may not have released them.
    pub fn unchanged(&mut self) {
        self.unchanged = true;
    }

    /// Declares that the statements include the outbox rows: in a batch, each part has its own.
    pub fn recorded(&mut self) {
        self.recorded = true;
    }
}

/// What became of a commit.
pub(super) enum Commit {
    Done,
    /// Nothing is committed.
    Refused(tokio_postgres::Error),
    /// The connection broke; or there was a warning, with which Citus says that a shard's part is not committed yet, or that a
    /// shard has not said so.
    Unknown(String),
}

/// The error for a commit whose outcome is unknown.
pub(super) fn unknown(name: &str, why: &str) -> Error {
    tracing::warn!(name, why, "the outcome of a commit is unknown");
    Error::unavailable("The database").detail("The outcome of the commit is unknown.").uncertain()
}

/// Rolls back. A connection on which that fails is closed, which rolls back as well.
pub(super) async fn rollback(mut tx: Tx) {
    if let Ok(client) = tx.client()
        && (!tx.has_begun() || client.batch_execute("rollback").await.is_ok())
    {
        tx.ended();
    }
}

/// Closes the connection of a transaction that nobody ended, since its request went away or its connection broke: the
/// connection's next user would be in the middle of it.
impl Drop for Tx {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            drop(Client::take(client));
        }
    }
}
