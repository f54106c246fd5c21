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

/// The name of the process that answers.
pub const SERVER: &str = "the server";

/// Enough members that none comes near 3,000 reads a minute.
pub const MEMBERS: usize = 1_000;

pub async fn embedded(settings: Arc<Settings>) -> Outcome {
    let region = Region::start().await;
    let edge = region.edge(Kind::Embedded);
    let circle = region.circle(&edge.url, MEMBERS).await;
    let peer = peers::fastify(&region);
    circle.warm(&peer.url).await;
    let ours = circle.reads("Optimist, embedded host", &edge.url, region.workers(SERVER, &edge.process));
    let workers = region.workers(SERVER, &peer.process);
    let theirs = circle.reads("Fastify, ioredis, rate-limiter-flexible", &peer.url, workers);
    answer_alike(&ours, &theirs);
    let compared = compare(&settings, &ours, &theirs, "warm-embedded", "warm read, embedded host").await;
    let rates = compared.rates(Target::None);
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
    let figures = vec![compared.processor(Target::AtMost(0.95)), rates, compared.p99(), open_p99];
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
    let ours = circle.reads("Optimist, workerd", &edge.url, region.workers(SERVER, &edge.process));
    let theirs = circle.reads(
        "JavaScript Worker, a socket a request",
        &peer.url,
        region.workers(SERVER, &peer.process),
    );
    answer_alike(&ours, &theirs);
    let plain = compare(&settings, &ours, &theirs, "warm-workerd", "warm read, workerd").await;
    drop((edge, peer));

    let (port, certificate) = tls::add_to(&region.redis, folder).await;
    let with_tls = folder.join("edge-tls");
    std::fs::create_dir_all(&with_tls).expect("a folder");
    let edge_settings = region.edge_settings(&format!("rediss://localhost:{port}"));
    let edge = Edge::cloudflare_trusting(&edge_settings, &with_tls, &certificate);
    let peer = peers::worker(port, Some(&certificate), folder);
    let ours =
        circle.reads("Optimist, workerd, TLS to Redis", &edge.url, region.workers(SERVER, &edge.process));
    let theirs = circle.reads(
        "JavaScript Worker, a TLS socket a request",
        &peer.url,
        region.workers(SERVER, &peer.process),
    );
    answer_alike(&ours, &theirs);
    let what = "warm read, workerd, TLS to Redis";
    let encrypted = compare(&settings, &ours, &theirs, "warm-workerd-tls", what).await;
    let (least, least_with_tls) = (Target::AtLeast(1.6), Target::AtLeast(2.0));
    let figures = vec![plain.rates(least), encrypted.rates(least_with_tls)];
    Outcome { figures, plots: vec![plain.plot, encrypted.plot] }
}

/// There is no peer for Spin: the other side is the answer that the component gives without Redis.
pub async fn spin(settings: Arc<Settings>) -> Outcome {
    if !Kind::all().contains(&Kind::Spin) {
        println!("  there is no `spin` on the PATH");
        return Outcome::default();
    }
    let region = Region::start().await;
    let edge = region.edge(Kind::Spin);
    let circle = region.circle(&edge.url, MEMBERS).await;
    let ours = circle.reads("Optimist, Spin", &edge.url, region.workers(SERVER, &edge.process));
    let theirs = circle.refused("401 without Redis, Spin", &edge.url, region.workers(SERVER, &edge.process));
    let compared = compare(&settings, &ours, &theirs, "warm-spin", "warm read, Spin").await;
    let figure = compared.processor(Target::AtMost(2.0));
    Outcome { figures: vec![figure, compared.rates(Target::None)], plots: vec![compared.plot] }
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
    fn rates(&self, target: Target) -> Figure {
        let sides = |index: usize| closed_loop::sides(&self.subjects[index], &self.runs[index]);
        Figure::compare(&format!("{}: requests a second", self.what), sides(0), sides(1), target)
    }

    /// The processor time of the servers.
    fn processor(&self, target: Target) -> Figure {
        let side = |index: usize| {
            let name = format!("{}, processor time of {SERVER}", self.subjects[index]);
            Side::new(&name, "µs/req", closed_loop::processor(&self.runs[index], SERVER))
        };
        let figure = Figure::times(&format!("{}: processor time", self.what), side(0), side(1), target);
        // The rates' sides say the same.
        Figure { sides: Vec::new(), ..figure }
    }

    fn p99(&self) -> Figure {
        let side = |index: usize| {
            Side::new(&format!("{}, p99", self.subjects[index]), "ms", percentiles(&self.runs[index], 99.0))
        };
        let what = format!("{}: p99, closed loop", self.what);
        Figure::times(&what, side(0), side(1), Target::AtMost(0.6))
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
