//! The one function that runs a write: transaction, outbox row, fence, commit, release.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::Client;
use futures_util::future::{join, join3};
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{Key, Parameters};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::app::Ctx;
use crate::cache::TouchedKey;
use crate::error::{Error, Result};
use crate::hooks;
use crate::redis::RedisDown;
use crate::region::Mode;
use crate::request::RequestContext;

/// Who writes, and what for.
#[derive(Clone, Copy)]
pub struct WriteContext<'a> {
    /// As the statements' names have it: `messages::post`.
    pub name: &'static str,
    pub request: &'a RequestContext,
    /// The acting user and session, once known.
    pub actor: Option<(Uuid, Option<Uuid>)>,
    /// Circles and users whose events this transaction orders, and who learn of its event.
    pub order: &'a [Uuid],
}

/// A running transaction, and what it will have to tell the cache and the outbox. Its statements run one after another.
pub struct Tx {
    /// `None` once it has ended.
    client: Option<Client>,
    /// What its first statement brings along, so that beginning and locking cost no trips of their own: circles and users to
    /// be locked, in their order. `None` once it has begun.
    opening: Mutex<Option<Vec<Uuid>>>,
    touched: Vec<TouchedKey>,
    /// A key that was to be touched and has no name: a parameter is missing.
    nameless: Option<Key>,
    event: Option<(&'static str, serde_json::Value)>,
    unchanged: bool,
    recorded: bool,
}

impl Tx {
    /// Opens a plain transaction, without locks: for what no request does. Dropped, it is rolled back with its
    /// connection.
    pub async fn begin(db: &super::Postgres) -> Result<Tx> {
        Tx::locking(db, Vec::new()).await
    }

    async fn locking(db: &super::Postgres, order: Vec<Uuid>) -> Result<Tx> {
        let client = Some(db.client().await?);
        let opening = Mutex::new(Some(order));
        Ok(Tx {
            client,
            opening,
            touched: Vec::new(),
            nameless: None,
            event: None,
            unchanged: false,
            recorded: false,
        })
    }

    /// Runs a statement of the transaction's; with the first, in the same trip and before it, what opens the transaction.
    async fn run<T>(
        &self,
        statement: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        let opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(order) = opening else { return Ok(statement.await?) };
        let client = self.client()?;
        // Prepared beforehand: nothing may come between sending it and sending what follows.
        let lock = client.prepare_cached(LOCK).await?;
        let names: Vec<String> = order.iter().map(Uuid::to_string).collect();
        let locked = async {
            if names.is_empty() {
                return Ok(0);
            }
            hooks::statement(LOCK);
            client.execute(&lock, &[&names]).await
        };
        // Sent in the order in which they are polled first, which is this.
        let (begun, locked, result) = join3(client.batch_execute("begin"), locked, statement).await;
        begun?;
        locked?;
        Ok(result?)
    }

    fn has_begun(&self) -> bool {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    async fn simple(&self, sql: &str) -> Result<()> {
        self.run(self.client()?.batch_execute(sql)).await
    }

    /// Ends a plain transaction, well or not; its outcome is unknown if the connection breaks.
    pub async fn end<T, E: From<Error>>(
        mut self,
        result: std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        match result {
            Ok(value) => {
                if self.has_begun() {
                    self.simple("commit").await?;
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

    fn client(&self) -> Result<&Client> {
        self.client.as_ref().ok_or_else(|| Error::internal("postgres", &"a transaction that has ended"))
    }

    /// Its connection may serve others again.
    fn ended(&mut self) {
        self.client = None;
    }

    pub async fn query(&self, sql: &'static str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        hooks::statement(sql);
        let client = self.client()?;
        let statement = client.prepare_cached(sql).await?;
        self.run(client.query(&statement, parameters)).await
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

    /// How many rows a statement changed.
    pub async fn execute(&self, sql: &'static str, parameters: &[&(dyn ToSql + Sync)]) -> Result<u64> {
        hooks::statement(sql);
        let client = self.client()?;
        let statement = client.prepare_cached(sql).await?;
        self.run(client.execute(&statement, parameters)).await
    }

    /// Runs a part that may fail without the rest: what it did is undone then. The outer error is the transaction's.
    pub async fn part<T>(&self, part: impl Future<Output = Result<T>>) -> Result<Result<T>> {
        self.simple("savepoint part").await?;
        let result = part.await;
        let end = if result.is_ok() { "release savepoint part" } else { "rollback to savepoint part" };
        self.simple(end).await?;
        Ok(result)
    }

    /// Waits for everyone else who has locked that name, until the end of the transaction.
    pub async fn lock(&self, name: &str) -> Result<()> {
        self.execute(LOCK, &[&[name].as_slice()]).await.map(drop)
    }

    /// Names a key that this write makes stale. If a parameter of it is missing, nothing is committed.
    pub fn touch(&mut self, key: Key, parameters: Parameters) {
        match TouchedKey::new(key, parameters) {
            Some(touched) => self.touched.push(touched),
            None => self.nameless = Some(key),
        }
    }

    /// What happened, for the outbox: the audit trail, and later the streams.
    pub fn event(&mut self, kind: &'static str, payload: serde_json::Value) {
        self.event = Some((kind, payload));
    }

    /// Says that nothing was changed: the answer comes from a record, or things were so already. The keys are released
    /// all the same, since whoever did change them may not have come to it.
    pub fn unchanged(&mut self) {
        self.unchanged = true;
    }

    /// Says that the rows of the outbox are among the statements: of a batch, each part has its own.
    pub fn recorded(&mut self) {
        self.recorded = true;
    }
}

/// Attempts at a transaction that fails to serialise, or finds the region in another mode than it thought.
const ATTEMPTS: u32 = 4;

const LOCK: &str = "-- postgres::lock
select pg_advisory_xact_lock(hashtextextended(name, 0)) from unnest($1::text[]) as name";

const OUTBOX: &str = "-- outbox::insert
insert into outbox (region, actor, session, request_id, traceparent, keys, kind, payload, topics)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

pub const STATEMENTS: &[&str] = &[LOCK, OUTBOX];

/// Runs a write: the block's statements, the outbox row, the fence, the commit, the release; only then it has a value.
///
/// `transaction!(app, context, |tx| { … })`, where `tx` is a `&mut Tx` and the block ends in a [`Result`]. Isolation is
/// `read committed`; writers of the same circle or user are ordered by advisory locks, taken before the first statement
/// that can be given a transaction id. What fails to serialise is tried again, so the block may run more than once. (A
/// macro, since the future of an async closure cannot yet be promised to be `Send`.)
macro_rules! transaction {
    ($app:expr, $context:expr, |$tx:ident| $body:block) => {{
        let mut write = $crate::postgres::write::Write::new($app, $context);
        loop {
            let result = match write.begin().await {
                Ok(mut transaction) => {
                    let result: $crate::error::Result<_> = {
                        let $tx: &mut $crate::postgres::Tx = &mut transaction;
                        async { $body }.await
                    };
                    write.end(transaction, result).await
                }
                Err(error) => Err(error),
            };
            match result {
                Err(error) if write.again(&error).await => {}
                result => break write.finish(result),
            }
        }
    }};
}
pub(crate) use transaction;

/// A write under way, over all its attempts: what [`transaction!`] is made of.
pub struct Write<'a> {
    app: &'a Ctx,
    context: WriteContext<'a>,
    started: Instant,
    attempts: u32,
    mode: Mode,
}

impl<'a> Write<'a> {
    pub fn new(app: &'a Ctx, context: WriteContext<'a>) -> Write<'a> {
        Write { app, context, started: Instant::now(), attempts: 0, mode: Mode::Fenced }
    }

    /// Opens the transaction and takes its locks.
    pub async fn begin(&mut self) -> Result<Tx> {
        let app = self.app;
        self.attempts += 1;
        self.mode = app.region.mode();
        let mut order = self.context.order.to_vec();
        order.sort_unstable();
        order.dedup();
        let tx = Tx::locking(&app.db, order).await?;
        // Behind the locks: a row's lock is given a transaction id.
        if self.mode == Mode::Unfenced
            && let Err(error) = app.region.hold_off(app, &tx).await
        {
            rollback(tx).await;
            return Err(error);
        }
        hooks::step("tx.begun").await;
        Ok(tx)
    }

    /// Ends the transaction: rolls back a failure, or fences, commits and releases.
    pub async fn end<T>(&self, mut tx: Tx, result: Result<T>) -> Result<T> {
        let value = match result {
            Ok(value) => value,
            Err(error) => {
                rollback(tx).await;
                return Err(error);
            }
        };
        if let Some(key) = tx.nameless {
            rollback(tx).await;
            return Err(Error::internal(self.context.name, &format!("a parameter of {key:?} is missing")));
        }
        hooks::step("tx.statements").await;
        let token = Uuid::now_v7().simple().to_string();
        // Both before the commit; neither waits for the other.
        let (recorded, fenced) = join(self.record(&tx), self.fence(&tx, &token)).await;
        let touched = std::mem::take(&mut tx.touched);
        if let Err(error) = recorded {
            rollback(tx).await;
            if let Ok(true) = fenced {
                self.app.cache.unhide(&touched, &token).await;
            }
            return Err(error);
        }
        let Ok(is_fenced) = fenced else {
            // Some fences may stand: what they hide lapses by itself, and nothing was committed.
            rollback(tx).await;
            self.app.region.switch_off(self.app).await?;
            return Err(retry_unfenced());
        };
        hooks::step("tx.fenced").await;
        self.commit(tx, is_fenced.then_some(&touched), &token).await?;
        hooks::step("tx.committed").await;
        self.release(&touched, &token).await.map_err(Error::uncertain)?;
        hooks::step("tx.released").await;
        self.app.relay_wake.notify_one();
        Ok(value)
    }

    /// The outbox row, unless nothing was changed.
    async fn record(&self, tx: &Tx) -> Result<()> {
        debug_assert!(
            tx.touched.iter().all(|touched| self.context.request.route.fences.contains(&touched.key)),
            "{} touches keys that its route does not name",
            self.context.name
        );
        if !tx.unchanged && !tx.recorded {
            insert_outbox(tx, self.app, self.context).await?;
        }
        hooks::step("tx.outbox").await;
        Ok(())
    }

    /// Whether keys were fenced; in an error's case, some of them may be.
    async fn fence(&self, tx: &Tx, token: &str) -> Result<bool, RedisDown> {
        let wanted =
            self.mode == Mode::Fenced && !tx.touched.is_empty() && !tx.unchanged && !hooks::disabled("fence");
        if wanted {
            self.app.cache.fence(&tx.touched, token).await?;
        }
        Ok(wanted)
    }

    async fn commit(&self, mut tx: Tx, fenced: Option<&Vec<TouchedKey>>, token: &str) -> Result<()> {
        let Err(error) = tx.client()?.batch_execute("commit").await else {
            tx.ended();
            return Ok(());
        };
        let certain = error.as_db_error().is_some();
        drop(tx);
        if certain {
            if let Some(touched) = fenced {
                self.app.cache.unhide(touched, token).await;
            }
            return Err(error.into());
        }
        // The commit may have happened: the fence lapses by itself, and the client has to look.
        tracing::warn!(name = self.context.name, why = %error, "the outcome of a commit is unknown");
        let detail = "The outcome is unknown: the connection was lost while committing.";
        Err(Error::unavailable("The database").detail(detail).uncertain())
    }

    async fn release(&self, touched: &[TouchedKey], token: &str) -> Result<()> {
        let app = self.app;
        if touched.is_empty() || self.mode == Mode::Unfenced {
            return Ok(());
        }
        match app.cache.release(touched, token).await {
            Ok(warm) => {
                app.cache.refill_in_background(app, warm);
                Ok(())
            }
            // Committed, and copies may be out there: not acknowledged until nobody believes them.
            Err(_) => app.region.switch_off(app).await,
        }
    }

    /// Whether to try once more, after the wait that the error asks for.
    pub async fn again(&self, error: &Error) -> bool {
        match error.retry_in_ms {
            Some(wait) if self.attempts < ATTEMPTS => {
                tokio::time::sleep(Duration::from_millis(wait)).await;
                true
            }
            _ => false,
        }
    }

    pub fn finish<T>(&self, result: Result<T>) -> Result<T> {
        let outcome = if result.is_ok() { "committed" } else { "failed" };
        metrics::histogram!("optimist_transaction_seconds", "name" => self.context.name, "outcome" => outcome)
            .record(self.started.elapsed().as_secs_f64());
        result
    }
}

/// Another attempt, in the mode that the region is in now.
fn retry_unfenced() -> Error {
    let mut error = Error::unavailable("The cache");
    error.retry_in_ms = Some(0);
    error
}

async fn insert_outbox(tx: &Tx, app: &Ctx, context: WriteContext<'_>) -> Result<()> {
    let keys: Vec<&str> = tx.touched.iter().map(|touched| touched.name.as_str()).collect();
    let (actor, session) = context.actor.map_or((None, None), |(actor, session)| (Some(actor), session));
    let (kind, payload) = match &tx.event {
        Some((kind, payload)) => (*kind, payload.clone()),
        None => (context.name, serde_json::Value::Null),
    };
    let request = context.request;
    tx.execute(
        OUTBOX,
        &[
            &app.config.region,
            &actor,
            &session,
            &request.request_id,
            &request.traceparent,
            &keys,
            &kind,
            &payload,
            &context.order,
        ],
    )
    .await?;
    Ok(())
}

/// Rolls back; a connection on which that fails is thrown away, which rolls back as well.
async fn rollback(mut tx: Tx) {
    if let Ok(client) = tx.client()
        && (!tx.has_begun() || client.batch_execute("rollback").await.is_ok())
    {
        tx.ended();
    }
}

/// A transaction that nobody ended: its request went away, or its connection broke. Whoever took that connection from the
/// pool would be in the middle of it.
impl Drop for Tx {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            drop(deadpool_postgres::Object::take(client));
        }
    }
}
