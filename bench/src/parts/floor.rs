//! Warm reads beside answers that need no Redis: the share of a host's speed that remains with the work done.
//!
//! The other answer is the 401 to the same request without a token: the closest answer that the edge gives by itself.
//! It is routed and rendered as JSON like any other, and is shorter than 20 messages.

use std::sync::Arc;

use optimist_tests::Kind;

use crate::Settings;
use crate::closed_loop::{Subject, by_turns, rates};
use crate::http1::{Request, authority};
use crate::parts::warm::MEMBERS;
use crate::region::Region;
use crate::report::{Figure, Outcome, Side, Target};

pub async fn run(settings: Arc<Settings>) -> Outcome {
    let region = Region::start().await;
    let mut outcome = Outcome::default();
    for (kind, host, at_least) in
        [(Kind::Embedded, "embedded host", 40.0), (Kind::Cloudflare, "workerd", 25.0)]
    {
        let edge = region.edge(kind);
        let circle = region.circle(&edge.url, MEMBERS).await;
        let reads = circle.reads(&format!("warm read, {host}"), &edge.url, &edge.process);
        let without = Subject {
            name: format!("401 without Redis, {host}"),
            url: edge.url.clone(),
            process: Some(edge.process.id()),
            requests: vec![Request::new("GET", authority(&edge.url), &circle.path(), &[], b"")],
            is_right: |answer| answer.status == 401,
        };
        let (warm, bare) = by_turns(&reads, &without, settings.turns, settings.seconds).await;
        let side = |subject: &Subject, runs| Side::new(&subject.name, "req/s", rates(runs));
        outcome.figures.push(Figure::percent(
            &format!("warm read, {host}: requests a second"),
            side(&reads, &warm),
            side(&without, &bare),
            Target::AtLeast(at_least),
        ));
    }
    outcome
}
