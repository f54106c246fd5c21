//! Logs as JSON lines on standard error, and metrics for Prometheus.
//!
//! Neither ever holds a token, a body or a secret.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// `RUST_LOG` sets the filter; the default shows every irregularity, and a sample of the requests (see [`crate::http::admit`]).
pub fn start_logs() {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,refinery_core=warn"));
    tracing_subscriber::fmt()
        .json()
        .with_span_list(false)
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

/// Upper bounds in seconds: from a query on a warm connection to the deadline of the edge.
const SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

pub fn start_metrics() -> Result<PrometheusHandle, Box<dyn std::error::Error>> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .install_recorder()?;
    metrics::describe_histogram!(
        "optimist_request_seconds",
        "Time to answer a request, by route and status."
    );
    metrics::describe_histogram!(
        "optimist_transaction_seconds",
        "Time of a writing transaction, by name and outcome."
    );
    metrics::describe_histogram!(
        "optimist_flush_lag_seconds",
        "Time from a write in Redis until it is committed in Postgres, at most."
    );
    metrics::describe_counter!("optimist_fills_total", "Fills of cached keys, by data type and outcome.");
    metrics::describe_counter!("optimist_limited_total", "Refusals by a limit, by policy.");
    metrics::describe_gauge!(
        "optimist_region_on",
        "1 while Redis may be vouched for, 0 while the region is off."
    );
    Ok(handle)
}

/// Bytes of memory that the process holds (`VmRSS`), where the system reports them.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
