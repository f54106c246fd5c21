//! The origin's memory: at rest, and with ten thousand keep-alive connections from edges.

use std::sync::Arc;
use std::time::Duration;

use optimist_shared::signature::Identity;

use crate::Settings;
use crate::http1::Connection;
use crate::made::signed;
use crate::processor::resident;
use crate::region::Region;
use crate::report::{Figure, Outcome, Target};

const CONNECTIONS: usize = 10_000;

pub async fn run(_: Arc<Settings>) -> Outcome {
    let region = Region::start().await;
    let members = region.people(1);
    let circle = region.circle_of(&members);
    // Wait until every job has run once.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let process = region.origin.process_id();
    let at_rest = resident(process);
    let origin = &region.origin.api;
    let path = format!("/v1/circles/{circle}/messages");
    let connections: Vec<Connection> = tokio::task::block_in_place(|| {
        (0..CONNECTIONS)
            .map(|_| {
                let mut connection = Connection::open(origin).expect("a connection: see `ulimit -n`");
                let identity = Identity::Session { user: members[0].user, session: members[0].token.session };
                let answer = connection.send(&signed(origin, "GET", &path, identity, &[], b""));
                assert_eq!(answer.expect("an answer").status, 200);
                connection
            })
            .collect()
    });
    let kept = resident(process);
    println!("  resident: {} KiB at rest, {} KiB with {CONNECTIONS} connections", at_rest, kept);
    drop(connections);
    Outcome {
        figures: vec![
            Figure::plain("memory: the origin at rest", "MiB", [at_rest / 1024.0], Target::AtMost(50.0)),
            Figure::plain(
                "memory: the origin with 10,000 connections, each",
                "KiB",
                [(kept - at_rest) / CONNECTIONS as f64],
                Target::AtMost(20.0),
            ),
        ],
        plots: Vec::new(),
    }
}
