//! One object of the Worker: what it can do alone, and how long reads take at half of that, beside an empty Worker at the same
//! rate. `workerd` runs the Worker and its objects in one thread, so this is also what the process can do; on Cloudflare an
//! object has its thread for itself.

use std::sync::Arc;

use optimist_tests::{Edge, Kind};

use crate::Settings;
use crate::closed_loop::{rates, sides};
use crate::parts::floor::without_work;
use crate::parts::warm::{MEMBERS, SERVER};
use crate::peers;
use crate::region::Region;
use crate::report::{Figure, Outcome, Side, Target};

pub async fn run(settings: Arc<Settings>) -> Outcome {
    let region = Region::start().await;
    let mut edge_settings = region.edge_settings(&region.redis.url());
    edge_settings.push(("redis_objects".to_owned(), "1".to_owned()));
    let edge = Edge::start(Kind::Cloudflare, &edge_settings, region.folder.path());
    let circle = region.circle(&edge.url, MEMBERS).await;
    circle.warm(&edge.url).await;
    let reads = circle.reads("one object", &edge.url, region.workers(SERVER, &edge.process));
    let empty = peers::empty_worker(region.folder.path());
    let empty = without_work(&region, "workerd", &empty);
    let (mut ceiling, mut slowest, mut floor) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..settings.turns {
        let run = reads.run(settings.seconds).await;
        let rate = run.requests_per_second() / 2.0;
        slowest.push(reads.at_rate(rate, settings.seconds).await.percentile(99.0));
        floor.push(empty.at_rate(rate, settings.seconds).await.percentile(99.0));
        ceiling.push(run);
    }
    let what = "one object of the Worker: requests a second";
    let rate =
        Figure::plain(what, "req/s", rates(&ceiling), Target::None).beside(sides("one object", &ceiling));
    let what = "one object of the Worker: p99 at half of that";
    let (slowest, floor) =
        (Side::new("one object", "ms", slowest), Side::new("an empty Worker", "ms", floor));
    Outcome { figures: vec![rate, Figure::times(what, slowest, floor, Target::None)], plots: Vec::new() }
}
