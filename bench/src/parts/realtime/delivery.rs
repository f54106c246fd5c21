//! From a message's commit to each of the fifty who listen in its circle, a hundred messages a second.
//!
//! Postgres notes when it committed each, and the listeners note when it came, by the same clock: the moment is just before the
//! commit is written to disk, for all alike. Ours is posted through the API and goes through the outbox, the relay and Redis. The
//! peer inserts and emits. Through one of its processes, whose own sockets its adapter need not reach; and through two, one of
//! which takes the messages and the other has the sockets. Circles have so many members that nobody is notified: the peer does not.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::iter;
use optimist_shared::ids::Uuid;

use super::{BODY, Circle, LISTENERS, OPENING, circles, post, seats, take_all};
use crate::Settings;
use crate::closed_loop::CONNECTIONS;
use crate::http1::{Request, authority};
use crate::listeners::{Heard, Listener, Way, listen_to_peer};
use crate::made::Load;
use crate::open_loop::Latencies;
use crate::peers::socketio;
use crate::plot::Plot;
use crate::processor::Worker;
use crate::region::Region;
use crate::report::{Figure, Outcome, Side, Target};

const CIRCLES: usize = 20;
/// Of a circle: one more than are notified.
const MEMBERS: usize = 201;
/// Messages a second.
const RATE: f64 = 100.0;
/// One of so many listeners has an event stream; the others have sockets.
const STREAM_OF: usize = 10;
/// How long the last message may take.
const PATIENCE: Duration = Duration::from_secs(10);

type Make = Box<dyn Fn(&Circle) -> Request + Send + Sync>;

/// A system with its own circles and listeners.
struct System {
    name: &'static str,
    url: String,
    workers: Vec<Worker>,
    circles: Vec<Circle>,
    make: Make,
    heard: Heard,
    _listeners: Vec<Listener>,
    turns: Vec<Latencies>,
}

pub async fn run(settings: &Settings) -> Outcome {
    let region = Region::that_notes_commits().await;
    let (near, far) = (socketio(&region, "socketio-near"), socketio(&region, "socketio-far"));
    let with = |servers: &[Worker]| servers.iter().copied().chain(region.stores()).collect::<Vec<_>>();
    let worker = |name, peer: &crate::peers::Peer| Worker { name, process: peer.process.id() };
    let (posts, sockets) = (worker("its posts", &far), worker("its sockets", &near));
    let mut systems = vec![
        ours(&region, with(&[region.origin_worker()])).await,
        peer(&region, "Socket.IO, from process to process", &far.url, &near.url, with(&[posts, sockets]))
            .await,
        peer(&region, "Socket.IO, within a process", &near.url, &near.url, with(&[sockets])).await,
    ];
    for turn in 0..=settings.turns {
        for system in &mut systems {
            // The first turn is a warm-up.
            let seconds = if turn == 0 { 1 } else { settings.seconds };
            let latencies = system.turn(&region, seconds).await;
            if turn > 0 {
                system.turns.push(latencies);
            }
        }
    }
    let at = |system: &System, percentile: f64| {
        let values: Vec<f64> = system.turns.iter().map(|turn| turn.percentile(percentile)).collect();
        Side::new(system.name, "ms", values)
    };
    let mut figures = Vec::new();
    for (other, target) in [(1, Target::AtMost(1.0)), (2, Target::None)] {
        for percentile in [50.0, 99.0] {
            figures.push(Figure::times(
                &format!("from commit to each of fifty listeners, p{percentile:.0}"),
                at(&systems[0], percentile),
                at(&systems[other], percentile),
                target,
            ));
        }
    }
    let lines = systems.into_iter().map(|system| Latencies::together(system.turns).line(system.name));
    let title = "From commit to each listener, 100 messages a second into circles of fifty".to_owned();
    let plot = Plot { file: "realtime".to_owned(), title, lines: lines.collect() };
    Outcome { figures, plots: vec![plot] }
}

async fn ours(region: &Region, workers: Vec<Worker>) -> System {
    let circles = circles(region, CIRCLES, MEMBERS);
    let way = |number: usize| if number.is_multiple_of(STREAM_OF) { Way::Events } else { Way::Socket };
    let heard = Heard::default();
    let listeners = take_all(region, &seats(&circles, LISTENERS, 1, way), &heard).await;
    let url = region.origin.api.clone();
    let make: Make = Box::new(move |circle| post(&url, circle));
    let url = region.origin.api.clone();
    System {
        name: "the gateway",
        url,
        workers,
        circles,
        make,
        heard,
        _listeners: listeners,
        turns: Vec::new(),
    }
}

/// The peer, whose messages are posted to one URL and whose listeners are at another.
async fn peer(region: &Region, name: &'static str, url: &str, sockets: &str, workers: Vec<Worker>) -> System {
    let circles = circles(region, CIRCLES, MEMBERS);
    let heard = Heard::default();
    let members = circles.iter().flat_map(|circle| &circle.members[..LISTENERS]);
    let opened = iter(members).map(|member| listen_to_peer(sockets, member, &heard));
    let listeners = opened.buffered(OPENING).collect().await;
    let (url, to) = (url.to_owned(), url.to_owned());
    let make: Make = Box::new(move |circle| {
        let authorization = format!("Bearer {}", circle.members[0].token.render());
        let path = format!("/v1/circles/{}/messages", circle.id);
        let body = format!(r#"{{"body":"{BODY}"}}"#);
        Request::new("POST", authority(&to), &path, &[("authorization", &authorization)], body.as_bytes())
    });
    System { name, url, workers, circles, make, heard, _listeners: listeners, turns: Vec::new() }
}

impl System {
    /// Posts for some seconds: how long each message took to each listener.
    async fn turn(&self, region: &Region, seconds: u64) -> Latencies {
        let since = region.sql("select clock_timestamp()");
        let state = |number| number;
        let request = |turn: &mut usize| {
            *turn += CONNECTIONS;
            (self.make)(&self.circles[*turn % CIRCLES])
        };
        let answered = |_: &mut usize, answer: &crate::http1::Answer| {
            assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        };
        let load = Load {
            name: self.name,
            url: &self.url,
            workers: &self.workers,
            state: &state,
            request: &request,
            answered: &answered,
        };
        let run = tokio::task::block_in_place(|| load.at_rate(RATE, seconds));
        let expected = run.requests as usize * LISTENERS;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.heard.len() < expected && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let committed = self.committed(region, &since);
        let heard = self.heard.take();
        assert_eq!((committed.len() * LISTENERS, heard.len()), (expected, expected), "{}", self.name);
        let took = heard.iter().map(|(message, at)| (at - committed[message]) as f64 / 1e3);
        let latencies: Latencies = took.collect();
        let (half, most) = (latencies.percentile(50.0), latencies.percentile(99.0));
        println!("  {:<44} from commit to client: p50 {half:.2} ms   p99 {most:.2} ms", self.name);
        latencies
    }

    /// The microseconds at which this system's messages were committed, since a time.
    fn committed(&self, region: &Region, since: &str) -> HashMap<Uuid, i64> {
        let circles: Vec<String> = self.circles.iter().map(|circle| format!("'{}'", circle.id)).collect();
        let rows = region.sql(&format!(
            "select id, (extract(epoch from pg_xact_commit_timestamp(xmin)) * 1000000)::bigint from messages
             where circle_id in ({}) and created_at >= '{since}'",
            circles.join(",")
        ));
        let row = |line: &str| {
            let (id, at) = line.split_once('|')?;
            Some((Uuid::parse_str(id).ok()?, at.parse().ok()?))
        };
        rows.lines().filter_map(row).collect()
    }
}
