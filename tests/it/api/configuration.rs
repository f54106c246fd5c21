//! An edge with a wrong variable: its log says which and why, and its clients hear no more than that.

use std::time::{Duration, Instant};

use optimist_tests::system::edge_settings;
use optimist_tests::{Client, Edge, Options};

use super::{RUNTIME, problem};

#[test]
fn a_wrong_variable_is_named_in_the_log_and_a_problem_to_clients() {
    for (variable, value, reason) in [
        ("redis_url", "redis://redis.internal:6379", "must begin with `rediss://`"),
        ("origin_url", "origin.internal:8080", "must be `http://` or `https://`"),
        ("signing_keys", "k1:c2hvcnQ=", "holds a key shorter than 32 bytes"),
        ("redis_deadline_ms", "soon", "is not a positive number"),
    ] {
        RUNTIME.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let options = Options::default();
            let mut settings = edge_settings("http://127.0.0.1:9", "redis://127.0.0.1:9", &options);
            settings
                .iter_mut()
                .filter(|(name, _)| name == variable)
                .for_each(|(_, old)| value.clone_into(old));
            let edge = Edge::start(Options::kind_under_test(), &settings, folder.path());
            let answer = Client::new(&edge.url).get("/v1/me").await;
            let body = problem(answer, 500);
            assert_eq!(
                (&body["code"], &body["detail"]),
                (&"internal".into(), &"The edge is not configured.".into())
            );
            let log = || std::fs::read_to_string(&edge.process.log).unwrap();
            let is_named = |log: &str| {
                log.lines().any(|line| line.to_lowercase().contains(variable) && line.contains(reason))
            };
            let deadline = optimist_tests::patience();
            while !is_named(&log()) {
                assert!(Instant::now() < deadline, "{variable}: {}", log());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
}
