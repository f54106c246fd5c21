//! How connections end: a process that stops says so to each, spread over some seconds, and they go on elsewhere.

use std::time::{Duration, Instant};

use optimist_tests::live::{Transport, connect, subscribe, ticket};
use optimist_tests::{Options, System};

use super::{BOTH, events_of, gateway, two_in_a_circle};

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_connections_one_by_one_and_another_origin_goes_on() {
    let mut system = System::with(Options { origins: 2, ..Options::default() }).await;
    let (ada, bo, circle) = two_in_a_circle(&system).await;
    let mut listeners = Vec::new();
    for turn in 0..10 {
        let transport = BOTH[turn % 2];
        let mut listener = subscribe(&gateway(&system, 0), transport, &bo, "").await;
        listener.expect("ready").await;
        listeners.push((transport, listener));
    }
    ada.say(&circle, "Before it stops.").await;
    let mut last = String::new();
    for (_, listener) in &mut listeners {
        listener.expect("message.posted").await["id"].as_str().unwrap().clone_into(&mut last);
    }
    let tickets = [ticket(&bo).await, ticket(&bo).await];
    system.origins[0].signal("TERM");
    let began = Instant::now();
    let mut ends = Vec::new();
    for (transport, listener) in &mut listeners {
        let after = match transport {
            Transport::Events => listener.expect("retry").await["after"].as_str().unwrap().parse().unwrap(),
            Transport::Socket => {
                assert_eq!(listener.expect("closed").await["data"]["code"], 1001);
                0
            }
        };
        assert!((0..10_000u64).contains(&after), "{after}");
        ends.push(began.elapsed());
    }
    let spread = *ends.last().unwrap() - ends[0];
    assert!(spread > Duration::from_secs(4), "all ended within {spread:?}");
    let deadline = Instant::now() + Duration::from_secs(15);
    while system.origins[0].is_running() {
        assert!(Instant::now() < deadline, "it did not stop: {}", system.origins[0].log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    system.sql(&events_of(&circle, 0..1));
    for (transport, ticket) in BOTH.into_iter().zip(&tickets) {
        let query = format!("?last_event_id={last}");
        let connected = connect(&gateway(&system, 1), transport, ticket, &query).await;
        let mut listener = connected.unwrap_or_else(|status| panic!("{transport:?} was refused: {status}"));
        assert_eq!(listener.expect("ready").await["data"]["recovered"], true);
        listener.expect("message.deleted").await;
    }
}
