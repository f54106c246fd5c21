//! The origin as a whole: its two listeners, its start and its end.
//!
//! The API's router is built from the routes table and the domains' handlers, and nothing else.

use std::collections::HashMap;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use optimist_plane::config::Config;
use optimist_plane::ctx::{Ctx, Plane};
use optimist_plane::edge_counters::edge_counters;
use optimist_plane::error::Error;
use optimist_plane::http::served::Served;
use optimist_plane::http::{admit, serve, veil};
use optimist_plane::live::{gateway, pass};
use optimist_plane::region::vouching;
use optimist_plane::telemetry;
use optimist_shared::error::ErrorCode;
use optimist_shared::routes::{Overlay, ROUTES};
use tokio::signal::unix::{SignalKind, signal};

use crate::domains::REGISTRY;
use crate::erasure::outside;

/// Everything but the listeners. Connects to nothing yet.
pub fn build(config: Config) -> Result<Ctx, Box<dyn std::error::Error>> {
    Plane::build(config, &REGISTRY)
}

/// Serves until SIGTERM or SIGINT, then finishes what has begun.
pub async fn serve(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    config.check()?;
    let metrics = telemetry::start_metrics()?;
    let ctx = build(config)?;
    vouching::check_redis(&ctx).await?;
    // A database that was restored from a backup may have people who were erased since.
    outside::apply_list(&ctx).await;
    let api = serve::listen(ctx.config.listen)?;
    let internal = serve::listen(ctx.config.internal_listen)?;
    let gateway = serve::listen(ctx.config.gateway_listen)?;
    let gateway_url = format!("http://{}", gateway.local_addr()?);
    println!(
        "listening api=http://{} internal=http://{} gateway={gateway_url}",
        api.local_addr()?,
        internal.local_addr()?
    );
    let _ = ctx.live.url.set(ctx.config.gateway_url.clone().unwrap_or(gateway_url));
    let router = api_router(ctx.clone());
    let _ = ctx.live.api.set(router.clone());
    for task in REGISTRY.domains.iter().flat_map(|domain| domain.tasks) {
        tokio::spawn(task(ctx.clone()));
    }
    tokio::spawn(serve::serve(internal, internal_router(ctx.clone(), metrics), std::future::pending()));
    let patience = async {
        stop_signal().await;
        tokio::time::sleep(DRAIN).await;
    };
    let both = async {
        tokio::join!(
            serve::serve(api, router, stop_signal()),
            serve::serve(gateway, gateway::router(ctx.clone()), stop_signal()),
            async {
                stop_signal().await;
                pass::stop(&ctx).await;
            }
        )
    };
    tokio::select! {
        _ = both => {}
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
fn api_router(ctx: Ctx) -> Router {
    let served = REGISTRY.domains.iter().flat_map(|domain| (domain.routes)());
    let mut handlers: HashMap<&str, Served> = served.map(|served| (served.route, served)).collect();
    let mut router = Router::new();
    for route in ROUTES {
        // Start-up, and a test: a table without its handlers must not serve.
        let served = handlers.remove(route.name).unwrap_or_else(|| panic!("no handler for {}", route.name));
        let mut handled = served.router(&ctx);
        if route.overlays.contains(&Overlay::Blocks) {
            handled = handled.layer(axum::middleware::from_fn_with_state(ctx.clone(), veil::veil));
        }
        router = router.route(route.path, handled);
    }
    assert!(handlers.is_empty(), "handlers without a route: {:?}", handlers.keys());
    router
        .fallback(|| async { Error::new(ErrorCode::NotFound) })
        .layer(axum::middleware::from_fn_with_state(ctx.clone(), admit::admit))
        .with_state(ctx)
}

/// Probes and metrics: for the operator, on a listener that the edge does not know.
fn internal_router(ctx: Ctx, metrics: PrometheusHandle) -> Router {
    let page = move |State(ctx): State<Ctx>| {
        let metrics = metrics.clone();
        async move { metrics_page(&ctx, &metrics).await }
    };
    let router = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(page))
        .with_state(ctx);
    #[cfg(feature = "test-hooks")]
    let router = router
        .merge(optimist_plane::hooks::routes())
        .route("/test/allocated", get(|| async { crate::ALLOCATOR.allocated().to_string() }));
    router
}

/// 200 while requests can be answered: Postgres answers, and the outbox has partitions for what follows. Each state either way.
async fn ready(State(ctx): State<Ctx>) -> (axum::http::StatusCode, axum::Json<serde_json::Value>) {
    let postgres = ctx.db.reachable().await;
    let redis = ctx.redis.reachable().await;
    let has_partitions = ctx.partitions.is_enough();
    let status = match postgres && has_partitions {
        true => axum::http::StatusCode::OK,
        false => axum::http::StatusCode::SERVICE_UNAVAILABLE,
    };
    let state = |up| if up { "up" } else { "down" };
    let body = serde_json::json!({
        "postgres": state(postgres), "redis": state(redis), "region": ctx.region.mode().as_str(),
        "partitions": if has_partitions { "enough" } else { "few" },
    });
    (status, axum::Json(body))
}

async fn metrics_page(ctx: &Ctx, metrics: &PrometheusHandle) -> String {
    if let Some(bytes) = telemetry::resident_bytes() {
        metrics::gauge!("optimist_resident_bytes").set(bytes as f64);
    }
    metrics.run_upkeep();
    let mut page = metrics.render();
    page.push_str(&edge_counters(ctx).await);
    page
}
