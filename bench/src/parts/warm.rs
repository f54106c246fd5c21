//! Warm reads: session with sliding expiry, limit, membership, 20 cached messages with counts; beside the same work in
//! a peer.

use std::sync::Arc;

use optimist_tests::{Edge, Kind};

use crate::Settings;
use crate::closed_loop::{self, Run, Subject, by_turns, percentiles};
use crate::http1::Connection;
use crate::open_loop::Latencies;
use crate::peers;
use crate::plot::Plot;
use crate::region::Region;
use crate::report::{Figure, Outcome, Side, Target};
use crate::tls;

/// Enough members that none comes near 3,000 reads a minute.
pub const MEMBERS: usize = 1_000;

pub async fn embedded(settings: Arc<Settings>) -> Outcome {
    let region = Region::start().await;
    let edge = region.edge(Kind::Embedded);
    let circle = region.circle(&edge.url, MEMBERS).await;
    let peer = peers::fastify(&region);
    circle.warm(&peer.url).await;
    let ours = circle.reads("Optimist, embedded host", &edge.url, &edge.process);
    let theirs = circle.reads("Fastify, ioredis, rate-limiter-flexible", &peer.url, &peer.process);
    answer_alike(&ours, &theirs);
    let compared = compare(&settings, &ours, &theirs, "warm-embedded", "warm read, embedded host").await;
    let rates = compared.rates(1.5);
    // A rate that both sides sustain.
    let slower = rates.sides.iter().take(2).map(|side| side.samples.least()).fold(f64::INFINITY, f64::min);
    let rate = (slower / 2.0).round();
    let (mut our_turns, mut their_turns) = (Vec::new(), Vec::new());
    for _ in 0..settings.turns {
        our_turns.push(ours.at_rate(rate, settings.seconds).await);
        their_turns.push(theirs.at_rate(rate, settings.seconds).await);
    }
    let side = |subject: &Subject, turns: &[Latencies]| {
        let name = format!("{}, p99 at {rate} req/s", subject.name);
        Side::new(&name, "ms", turns.iter().map(|turn| turn.percentile(99.0)))
    };
    let (our_side, their_side) = (side(&ours, &our_turns), side(&theirs, &their_turns));
    let what = "warm read, embedded host: p99, open loop";
    let open_p99 = Figure::times(what, our_side, their_side, Target::AtMost(1.0));
    let open = Plot {
        file: "warm-embedded-open".to_owned(),
        title: format!("Warm read, open loop at {rate} requests a second"),
        lines: vec![
            Latencies::together(our_turns).line(&ours.name),
            Latencies::together(their_turns).line(&theirs.name),
        ],
    };
    let figures = vec![rates, compared.p99(), open_p99];
    Outcome { figures, plots: vec![compared.plot, open] }
}

pub async fn workerd(settings: Arc<Settings>) -> Outcome {
    let region = Region::start().await;
    let edge = region.edge(Kind::Cloudflare);
    let circle = region.circle(&edge.url, MEMBERS).await;
    // This peer has no miss path: Fastify fills the keys, which both share.
    let fastify = peers::fastify(&region);
    circle.warm(&fastify.url).await;
    drop(fastify);
    let folder = region.folder.path();
    let peer = peers::worker(region.redis.port, None, folder);
    let ours = circle.reads("Optimist, workerd", &edge.url, &edge.process);
    let theirs = circle.reads("JavaScript Worker, a socket a request", &peer.url, &peer.process);
    answer_alike(&ours, &theirs);
    let plain = compare(&settings, &ours, &theirs, "warm-workerd", "warm read, workerd").await;
    drop((edge, peer));

    let (port, certificate) = tls::add_to(&region.redis, folder).await;
    let with_tls = folder.join("edge-tls");
    std::fs::create_dir_all(&with_tls).expect("a folder");
    let edge_settings = region.edge_settings(&format!("rediss://localhost:{port}"));
    let edge = Edge::cloudflare_trusting(&edge_settings, &with_tls, &certificate);
    let peer = peers::worker(port, Some(&certificate), folder);
    let ours = circle.reads("Optimist, workerd, TLS to Redis", &edge.url, &edge.process);
    let theirs = circle.reads("JavaScript Worker, a TLS socket a request", &peer.url, &peer.process);
    answer_alike(&ours, &theirs);
    let what = "warm read, workerd, TLS to Redis";
    let encrypted = compare(&settings, &ours, &theirs, "warm-workerd-tls", what).await;
    let figures = vec![plain.rates(1.5), encrypted.rates(5.0)];
    Outcome { figures, plots: vec![plain.plot, encrypted.plot] }
}

/// The measurements of two subjects.
struct Compared {
    what: String,
    subjects: [String; 2],
    runs: [Vec<Run>; 2],
    plot: Plot,
}

async fn compare(settings: &Settings, ours: &Subject, theirs: &Subject, file: &str, what: &str) -> Compared {
    let (our_runs, their_runs) = by_turns(ours, theirs, settings.turns, settings.seconds).await;
    let plot = Plot {
        file: file.to_owned(),
        title: format!("{what}: closed loop, {} connections", closed_loop::CONNECTIONS),
        lines: vec![closed_loop::line(&ours.name, &our_runs), closed_loop::line(&theirs.name, &their_runs)],
    };
    let subjects = [ours.name.clone(), theirs.name.clone()];
    Compared { what: what.to_owned(), subjects, runs: [our_runs, their_runs], plot }
}

impl Compared {
    fn rates(&self, at_least: f64) -> Figure {
        let side =
            |index: usize| Side::new(&self.subjects[index], "req/s", closed_loop::rates(&self.runs[index]));
        let what = format!("{}: requests a second", self.what);
        let mut figure = Figure::times(&what, side(0), side(1), Target::AtLeast(at_least));
        figure.sides.extend([0, 1].map(|index| {
            let name = format!("{}, processor time of the server", self.subjects[index]);
            Side::new(&name, "µs/req", closed_loop::processor(&self.runs[index]))
        }));
        figure
    }

    fn p99(&self) -> Figure {
        let side = |index: usize| {
            Side::new(&format!("{}, p99", self.subjects[index]), "ms", percentiles(&self.runs[index], 99.0))
        };
        let what = format!("{}: p99, closed loop", self.what);
        Figure::times(&what, side(0), side(1), Target::AtMost(1.0))
    }
}

/// Panics unless both answer a read with the same JSON.
fn answer_alike(ours: &Subject, theirs: &Subject) {
    let body = |subject: &Subject| {
        let mut connection = Connection::open(&subject.url).expect("the server accepts a connection");
        let answer = connection.send(&subject.requests[0]).expect("an answer");
        serde_json::from_slice::<serde_json::Value>(&answer.body).expect("JSON")
    };
    assert_eq!(body(ours), body(theirs), "{} and {} answer differently", ours.name, theirs.name);
}
