//! Event streams and sockets through an edge.

use std::time::{Duration, Instant};

use optimist_tests::live::{Transport, subscribe};
use optimist_tests::{Options, System};
use serde_json::Value;

use super::gateway;

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_carries_so_many_streams_and_names_the_gateway() {
    let settings = vec![("OPTIMIST_GATEWAY_URL", "https://live.example.org".to_owned())];
    let system = System::with(Options { streams: 3, settings, ..Options::default() }).await;
    let ada = system.register("Ada").await;
    let events = || async {
        let token = format!("Bearer {}", ada.token.as_deref().unwrap());
        let url = format!("{}/v1/events", system.url());
        reqwest::Client::new().get(url).header("authorization", token).send().await.unwrap()
    };
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = events().await;
        let headers = stream.headers();
        assert_eq!(
            (stream.status().as_u16(), headers["cache-control"].to_str().unwrap()),
            (200, "no-store, no-transform")
        );
        let first = stream.chunk().await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&first).contains("\"type\":\"ready\""), "{first:?}");
        streams.push(stream);
    }
    let refused = events().await;
    assert_eq!(refused.status(), 503);
    let after: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=10).contains(&after), "{after}");
    let problem: Value = refused.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("https://live.example.org"), "{problem}");
    // A client's own header does not raise the bound.
    let own = [("optimist-streams", "100")];
    let answer = ada.send(reqwest::Method::GET, "/v1/events", &own, None).await;
    assert_eq!(answer.status, 503);
    // The gateway itself still admits, and whoever leaves makes room.
    subscribe(&gateway(&system, 0), Transport::Events, &ada, "").await.expect("ready").await;
    streams.clear();
    // The component finds that its client has gone when it next writes: a heartbeat at the latest.
    let deadline = optimist_tests::patience();
    while streams.len() < 3 {
        assert!(Instant::now() < deadline, "only {} places are free", streams.len());
        let stream = events().await;
        if stream.status() == 200 {
            streams.push(stream);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // No edge of this kind carries WebSockets.
    let answer = ada.get("/v1/ws").await.expect(426);
    assert!(answer.text("/detail").contains("https://live.example.org"));
}
