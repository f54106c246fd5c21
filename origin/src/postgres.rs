//! Postgres: the pool, the one function that runs a write, migrations.
//!
//! No query of a domain lives here; each stands beside its handler.

use std::time::{Duration, Instant};

use deadpool_postgres::{Client, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{Key, Parameters};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::app::Ctx;
use crate::breaker::Breaker;
use crate::cache::TouchedKey;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::hooks;
use crate::region::Mode;
use crate::request::RequestContext;

/// Milliseconds that a statement may take, wait for a lock, or leave its transaction idle. Together they stay below the
/// five seconds that a fence stands, so that no commit comes after its fence has lapsed.
const SESSION: &str = "-c statement_timeout=2000 -c lock_timeout=1500 -c idle_in_transaction_session_timeout=2500 -c timezone=UTC";

pub struct Postgres {
    pool: Pool,
    breaker: Breaker,
}

impl Postgres {
    /// A pool of so many connections to the server at `url`; `name` is the log's for it.
    pub fn new(
        name: &'static str,
        url: &str,
        connections: usize,
    ) -> std::result::Result<Postgres, Box<dyn std::error::Error>> {
        let manager = Manager::from_config(
            connection_config(url)?,
            tls(),
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let timeouts = Timeouts {
            wait: Some(Duration::from_secs(2)),
            create: Some(Duration::from_secs(1)),
            recycle: Some(Duration::from_secs(1)),
        };
        let pool = Pool::builder(manager)
            .max_size(connections)
            .timeouts(timeouts)
            .runtime(Runtime::Tokio1)
            .build()?;
        Ok(Postgres { pool, breaker: Breaker::new(name) })
    }

    /// A connection for reads outside transactions, or to begin one on.
    pub async fn client(&self) -> Result<Client> {
        if !self.breaker.admits() {
            return Err(Error::unavailable("The database"));
        }
        match self.pool.get().await {
            Ok(client) => {
                self.breaker.succeeded();
                Ok(client)
            }
            Err(deadpool_postgres::PoolError::Timeout(deadpool_postgres::TimeoutType::Wait)) => {
                tracing::warn!("every connection to postgres is busy");
                Err(Error::unavailable("The database"))
            }
            Err(error) => {
                self.breaker.failed(&error);
                Err(Error::unavailable("The database"))
            }
        }
    }

    /// One query outside a transaction.
    pub async fn query(&self, sql: &'static str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        let client = self.client().await?;
        query(&client, sql, parameters).await
    }

    /// How many rows a statement without parameters changed.
    pub async fn execute(&self, sql: &'static str) -> Result<u64> {
        hooks::statement(sql);
        let client = self.client().await?;
        let statement = client.prepare_cached(sql).await?;
        Ok(client.execute(&statement, &[]).await?)
    }

    pub async fn query_opt(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>> {
        Ok(self.query(sql, parameters).await?.into_iter().next())
    }
}

async fn query(client: &Client, sql: &'static str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
    hooks::statement(sql);
    let statement = client.prepare_cached(sql).await?;
    Ok(client.query(&statement, parameters).await?)
}

fn connection_config(url: &str) -> std::result::Result<tokio_postgres::Config, tokio_postgres::Error> {
    let mut config: tokio_postgres::Config = url.parse()?;
    config.options(SESSION).application_name("optimist-origin").connect_timeout(Duration::from_secs(1));
    // A peer that vanished is noticed within seconds, not hours.
    config.keepalives_idle(Duration::from_secs(10)).tcp_user_timeout(Duration::from_secs(5));
    Ok(config)
}

/// Used as the URL's `sslmode` says.
fn tls() -> MakeRustlsConnect {
    MakeRustlsConnect::with_webpki_roots()
}

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

/// A running transaction, and what it will have to tell the cache and the outbox.
pub struct Tx {
    client: Client,
    touched: Vec<TouchedKey>,
    event: Option<(&'static str, serde_json::Value)>,
    unchanged: bool,
}

impl Tx {
    pub async fn query(&self, sql: &'static str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        query(&self.client, sql, parameters).await
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
        let statement = self.client.prepare_cached(sql).await?;
        Ok(self.client.execute(&statement, parameters).await?)
    }

    /// Names a key that this write makes stale.
    pub fn touch(&mut self, key: Key, parameters: Parameters) {
        match TouchedKey::new(key, parameters) {
            Some(touched) => self.touched.push(touched),
            None => debug_assert!(false, "a parameter of {key:?} is missing"),
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
}

/// Attempts at a transaction that fails to serialise, or finds the region in another mode than it thought.
const ATTEMPTS: u32 = 4;

const LOCK: &str = "-- postgres::lock
select pg_advisory_xact_lock(hashtextextended($1, 0))";

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
        let mut write = $crate::postgres::Write::new($app, $context);
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
        let tx = Tx { client: app.db.client().await?, touched: Vec::new(), event: None, unchanged: false };
        tx.client.batch_execute("begin").await?;
        match self.prepare(&tx).await {
            Ok(()) => Ok(tx),
            Err(error) => {
                rollback(tx).await;
                Err(error)
            }
        }
    }

    async fn prepare(&self, tx: &Tx) -> Result<()> {
        if self.mode == Mode::Unfenced {
            self.app.region.hold_off(self.app, tx).await?;
        }
        let mut order = self.context.order.to_vec();
        order.sort_unstable();
        order.dedup();
        for id in order {
            tx.execute(LOCK, &[&id.to_string()]).await?;
        }
        hooks::step("tx.begun").await;
        Ok(())
    }

    /// Ends the transaction: rolls back a failure, or fences, commits and releases.
    pub async fn end<T>(&self, mut tx: Tx, result: Result<T>) -> Result<T> {
        let result = match result {
            Ok(value) => self.record(&tx).await.map(|()| value),
            Err(error) => Err(error),
        };
        let value = match result {
            Ok(value) => value,
            Err(error) => {
                rollback(tx).await;
                return Err(error);
            }
        };
        let token = Uuid::now_v7().simple().to_string();
        let touched = std::mem::take(&mut tx.touched);
        self.commit(tx, &touched, &token).await?;
        hooks::step("tx.committed").await;
        self.release(&touched, &token).await?;
        hooks::step("tx.released").await;
        self.app.relay_wake.notify_one();
        Ok(value)
    }

    /// The outbox row, unless nothing was changed.
    async fn record(&self, tx: &Tx) -> Result<()> {
        hooks::step("tx.statements").await;
        debug_assert!(
            tx.touched.iter().all(|touched| self.context.request.route.fences.contains(&touched.key)),
            "{} touches keys that its route does not name",
            self.context.name
        );
        if !tx.unchanged {
            insert_outbox(tx, self.app, self.context).await?;
        }
        hooks::step("tx.outbox").await;
        Ok(())
    }

    async fn commit(&self, tx: Tx, touched: &[TouchedKey], token: &str) -> Result<()> {
        let app = self.app;
        let fence =
            self.mode == Mode::Fenced && !touched.is_empty() && !tx.unchanged && !hooks::disabled("fence");
        if fence && app.cache.fence(touched, token).await.is_err() {
            // Some fences may stand: what they hide lapses by itself, and nothing was committed.
            rollback(tx).await;
            app.region.switch_off(app).await?;
            return Err(retry_unfenced());
        }
        hooks::step("tx.fenced").await;
        let Err(error) = tx.client.batch_execute("commit").await else { return Ok(()) };
        let certain = error.as_db_error().is_some();
        discard(tx);
        if certain {
            if fence {
                app.cache.unhide(touched, token).await;
            }
            return Err(error.into());
        }
        // The commit may have happened: the fence lapses by itself, and the client has to look.
        tracing::warn!(name = self.context.name, why = %error, "the outcome of a commit is unknown");
        let detail = "The outcome is unknown: the connection was lost while committing.";
        Err(Error::unavailable("The database").detail(detail))
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
async fn rollback(tx: Tx) {
    if tx.client.batch_execute("rollback").await.is_err() {
        discard(tx);
    }
}

fn discard(tx: Tx) {
    drop(deadpool_postgres::Object::take(tx.client));
}

refinery::embed_migrations!("../migrations");

/// Brings the schema up to date. Safe to run at once from several places: one works, the rest wait.
pub async fn migrate(config: &Config) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let url = config.migrate_database_url.as_deref().unwrap_or(&config.database_url);
    let mut connection: tokio_postgres::Config = url.parse()?;
    connection.options("-c lock_timeout=10000 -c timezone=UTC").application_name("optimist-migrate");
    let (mut client, driver) = connection.connect(tls()).await?;
    let driver = tokio::spawn(driver);
    client
        .batch_execute("set lock_timeout = 0; select pg_advisory_lock(7083410); set lock_timeout = '10s'")
        .await?;
    let report = migrations::runner().run_async(&mut client).await?;
    for applied in report.applied_migrations() {
        tracing::info!(version = applied.version(), name = applied.name(), "migrated");
    }
    // The role that serves may use what the migrating role owns, and change none of it.
    if let Some(role) = serving_role(config).filter(|_| config.migrate_database_url.is_some()) {
        let role = format!("\"{}\"", role.replace('"', "\"\""));
        client
            .batch_execute(&format!(
                "grant usage on schema public to {role};
                 grant select, insert, update, delete on all tables in schema public to {role};
                 grant usage on all sequences in schema public to {role};
                 revoke all on refinery_schema_history from {role}"
            ))
            .await?;
    }
    drop(client);
    driver.await??;
    Ok(())
}

fn serving_role(config: &Config) -> Option<String> {
    config.database_url.parse::<tokio_postgres::Config>().ok()?.get_user().map(str::to_owned)
}

/// Prepares every statement of every domain, and says which fails.
pub async fn check_statements(config: &Config) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (client, driver) = connection_config(&config.database_url)?.connect(tls()).await?;
    tokio::spawn(driver);
    let mut failures = 0;
    let mut count = 0;
    for sql in crate::app::statements() {
        count += 1;
        let name = sql.lines().next().unwrap_or_default();
        if !name.starts_with("-- ") {
            failures += 1;
            println!("unnamed: {sql}");
        }
        if let Err(error) = client.prepare(sql).await {
            failures += 1;
            println!(
                "{name}: {}",
                error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
            );
        }
    }
    println!("{count} statements, {failures} failures");
    if failures > 0 { Err("a statement does not fit the schema".into()) } else { Ok(()) }
}
