//! The origin as a whole: what it is made of, its two listeners, its start and its end.
//!
//! The API's router is built from the routes table and nothing else; what the handlers do is their domains'.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::{MethodRouter, get};
use metrics_exporter_prometheus::PrometheusHandle;
use optimist_shared::keys::{Key, Parameters};
use optimist_shared::routes::{Method, ROUTES};
use tokio::signal::unix::{SignalKind, signal};

use crate::cache::{Cache, Snapshot};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::journal::{drafts, entries, moods, prompts, streaks};
use crate::limits::Limits;
use crate::postgres::Postgres;
use crate::redis::Redis;
use crate::region::Region;
use crate::request::Nonces;
use crate::{
    activity, admin, audit, auth, circles, jobs, me, members, messages, notifications, openapi, projections,
    reactions, relay, request, serve, session, telemetry, write_behind,
};

/// Everything that a request may need.
pub struct App {
    pub config: Config,
    pub db: Postgres,
    /// Where the relay reads the outbox, if not from the primary.
    pub replica: Option<Postgres>,
    pub cache: Cache,
    pub region: Region,
    pub limits: Limits,
    pub nonces: Nonces,
    pub posting: messages::posting::Posting,
    pub passwords: auth::Passwords,
    /// Told after each commit of this process.
    pub relay_wake: tokio::sync::Notify,
    metrics: PrometheusHandle,
}

pub type Ctx = Arc<App>;

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A route's name in the table, and what handles it.
pub type Handlers = Vec<(&'static str, MethodRouter<Ctx>)>;

fn handlers() -> Handlers {
    let mut handlers = auth::routes();
    handlers.extend(me::routes());
    handlers.extend(jobs::routes());
    handlers.extend(admin::routes());
    handlers.extend(circles::routes());
    handlers.extend(members::routes());
    handlers.extend(messages::routes());
    handlers.extend(reactions::routes());
    handlers.extend(drafts::routes());
    handlers.extend(entries::routes());
    handlers.extend(moods::routes());
    handlers.extend(prompts::routes());
    handlers.extend(streaks::routes());
    handlers.extend(activity::routes());
    handlers.extend(audit::routes());
    handlers.extend(notifications::routes());
    handlers.extend(openapi::routes());
    handlers
}

/// Every SQL statement there is.
pub fn statements() -> Vec<&'static str> {
    [
        &[PING][..],
        crate::postgres::STATEMENTS,
        crate::region::STATEMENTS,
        relay::STATEMENTS,
        relay::OUTBOX_STATEMENTS,
        jobs::STATEMENTS,
        admin::STATEMENTS,
        session::STATEMENTS,
        crate::limits::STATEMENTS,
        crate::idempotency::STATEMENTS,
        auth::STATEMENTS,
        me::STATEMENTS,
        circles::STATEMENTS,
        members::STATEMENTS,
        messages::STATEMENTS,
        messages::posting::STATEMENTS,
        reactions::STATEMENTS,
        reactions::live::STATEMENTS,
        reactions::snapshot::STATEMENTS,
        write_behind::STATEMENTS,
        crate::sealing::STATEMENTS,
        drafts::STATEMENTS,
        drafts::saving::STATEMENTS,
        drafts::flush::STATEMENTS,
        entries::STATEMENTS,
        moods::STATEMENTS,
        prompts::STATEMENTS,
        streaks::STATEMENTS,
        projections::STATEMENTS,
        notifications::STATEMENTS,
        notifications::folding::STATEMENTS,
        activity::STATEMENTS,
        audit::STATEMENTS,
        audit::DERIVED_STATEMENTS,
        write_behind::ENTRY_STATEMENTS,
        write_behind::FLUSH_STATEMENTS,
    ]
    .concat()
}

/// Reads what a cached key holds from Postgres.
pub async fn load(app: &Ctx, key: Key, parameters: &Parameters) -> Result<Snapshot> {
    match key {
        Key::Session => session::load_session(app, parameters).await,
        Key::Membership => session::load_membership(app, parameters).await,
        Key::CircleAccess => circles::load_access(app, parameters).await,
        Key::Me => me::load_me(app, parameters).await,
        Key::Profile => me::load_profile(app, parameters).await,
        Key::Circle => circles::load_circle(app, parameters).await,
        Key::Discovery => circles::load_discovery(app).await,
        Key::CircleMembers => members::load_members(app, parameters).await,
        Key::CircleMessages => messages::load_list(app, parameters).await,
        Key::Message => messages::load_message(app, parameters).await,
        Key::RecentTags => entries::load_recent_tags(app, parameters).await,
        Key::Streak => streaks::load_streak(app, parameters).await,
        Key::Prompts => prompts::load_prompts(app).await,
        _ => Err(Error::internal("cache", &"a key that is no copy has no loader")),
    }
}

impl App {
    /// Everything but the listeners. Connects to nothing yet.
    pub fn build(config: Config) -> std::result::Result<Ctx, Box<dyn std::error::Error>> {
        let metrics = telemetry::start_metrics()?;
        let redis = Redis::new(&config)?;
        Ok(Arc::new(App {
            db: Postgres::new("postgres", &config.database_url, config.database_pool)?,
            replica: config.replica_url.as_deref().map(|url| Postgres::new("replica", url, 2)).transpose()?,
            cache: Cache::new(redis),
            region: Region::default(),
            limits: Limits::default(),
            nonces: Nonces::default(),
            posting: messages::posting::Posting::default(),
            passwords: auth::Passwords::new()?,
            relay_wake: tokio::sync::Notify::new(),
            metrics,
            config,
        }))
    }
}

/// Serves until SIGTERM or SIGINT, then finishes what has begun.
pub async fn serve(config: Config) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let app = App::build(config)?;
    relay::check_redis(&app).await?;
    let api = serve::listen(app.config.listen)?;
    let internal = serve::listen(app.config.internal_listen)?;
    println!("listening api=http://{} internal=http://{}", api.local_addr()?, internal.local_addr()?);
    tokio::spawn(relay::run(app.clone()));
    tokio::spawn(jobs::run(app.clone()));
    tokio::spawn(write_behind::run(app.clone()));
    tokio::spawn(projections::run(app.clone()));
    tokio::spawn(drafts::flush::run(app.clone()));
    tokio::spawn(serve::serve(internal, internal_router(app.clone()), std::future::pending()));
    let patience = async {
        stop_signal().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        () = serve::serve(api, api_router(app), stop_signal()) => {}
        () = patience => tracing::warn!("requests were still under way"),
    }
    tracing::info!("stopped");
    Ok(())
}

/// How long requests may take to finish once the process is told to stop.
const DRAIN: Duration = Duration::from_secs(20);

async fn stop_signal() {
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = terminate => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// The API, exactly as the table has it.
fn api_router(app: Ctx) -> Router {
    let mut handlers: HashMap<&str, MethodRouter<Ctx>> = handlers().into_iter().collect();
    let mut router = Router::new();
    for route in ROUTES {
        // Start-up, and a test: a table without its handlers must not serve.
        let handler = handlers.remove(route.name).unwrap_or_else(|| panic!("no handler for {}", route.name));
        router = router.route(route.path, handler);
    }
    assert!(handlers.is_empty(), "handlers without a route: {:?}", handlers.keys());
    router
        .fallback(|| async { Error::new(optimist_shared::error::ErrorCode::NotFound) })
        .layer(axum::middleware::from_fn_with_state(app.clone(), request::admit))
        .with_state(app)
}

/// A handler as the router wants it, for a route's method.
pub fn on<H, T>(name: &'static str, handler: H) -> (&'static str, MethodRouter<Ctx>)
where
    H: axum::handler::Handler<T, Ctx>,
    T: 'static,
{
    let method = optimist_shared::routes::by_name(name).map(|route| route.method);
    let router = match method {
        Some(Method::Get) => axum::routing::get(handler),
        Some(Method::Post) => axum::routing::post(handler),
        Some(Method::Put) => axum::routing::put(handler),
        Some(Method::Patch) => axum::routing::patch(handler),
        Some(Method::Delete) => axum::routing::delete(handler),
        None => panic!("no route is called {name}"),
    };
    (name, router)
}

/// Probes and metrics: for the operator, on a listener that the edge does not know.
fn internal_router(app: Ctx) -> Router {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_page))
        .with_state(app);
    #[cfg(feature = "test-hooks")]
    let router = router.merge(crate::hooks::routes());
    router
}

const PING: &str = "-- app::ping
select 1";

/// 200 while requests can be answered (Postgres answers); each store's state either way.
async fn ready(State(app): State<Ctx>) -> (axum::http::StatusCode, axum::Json<serde_json::Value>) {
    let postgres = app.db.query(PING, &[]).await.is_ok();
    let redis = app.cache.redis.reachable().await;
    let status =
        if postgres { axum::http::StatusCode::OK } else { axum::http::StatusCode::SERVICE_UNAVAILABLE };
    let state = |up| if up { "up" } else { "down" };
    let body = serde_json::json!({
        "postgres": state(postgres), "redis": state(redis), "region": app.region.mode().as_str(),
    });
    (status, axum::Json(body))
}

async fn metrics_page(State(app): State<Ctx>) -> String {
    if let Some(bytes) = telemetry::resident_bytes() {
        metrics::gauge!("optimist_resident_bytes").set(bytes as f64);
    }
    app.metrics.run_upkeep();
    let mut page = app.metrics.render();
    page.push_str(&jobs::edge_counters(&app).await);
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_origin_serves_exactly_the_table() {
        let handled: BTreeSet<_> = handlers().into_iter().map(|(name, _)| name).collect();
        let routed: BTreeSet<_> = ROUTES.iter().map(|route| route.name).collect();
        assert_eq!(handled, routed);
    }

    #[test]
    fn every_statement_is_named_in_its_first_line() {
        for sql in statements() {
            let first = sql.lines().next().unwrap_or_default();
            assert!(first.starts_with("-- ") && first.contains("::"), "{sql}");
        }
    }
}
