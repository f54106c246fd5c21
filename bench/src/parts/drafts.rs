//! Saving a draft through the edge: the origin seals it, compares it with the version that it is based on, and queues
//! it for flushing. The peer is a bare SET of the same text, behind the same edge with the same admission.

use std::sync::Arc;

use optimist_shared::ids::Uuid;
use optimist_tests::{Edge, Kind};
use serde_json::{Value, json};

use crate::Settings;
use crate::bare;
use crate::closed_loop::CONNECTIONS;
use crate::http1::{Answer, Request, authority};
use crate::made::{Load, Run};
use crate::open_loop::Latencies;
use crate::plot::Plot;
use crate::processor;
use crate::region::{Member, Region};
use crate::report::{Figure, Outcome, Side, Target};

/// Enough writers that none comes near the limit of 600 forwarded requests a minute.
const WRITERS: usize = CONNECTIONS * 32;

/// The state of one connection: its current writer, and the version of each writer's draft.
struct Writers {
    turn: usize,
    versions: Vec<Option<String>>,
}

pub async fn run(settings: Arc<Settings>) -> Outcome {
    let region = Region::start().await;
    let bare = bare::start(&region).await;
    let edge = region.edge(Kind::Embedded);
    let folder = region.folder.path().join("bare");
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut before_bare = region.edge_settings(&region.redis.url());
    before_bare
        .iter_mut()
        .filter(|(name, _)| name == "origin_url")
        .for_each(|(_, url)| url.clone_from(&bare));
    let bare_edge = Edge::start(Kind::Embedded, &before_bare, &folder);
    let writers = region.people(WRITERS);
    for some in writers.chunks(CONNECTIONS) {
        let sessions = some.iter().map(|writer| {
            let client = writer.client(&edge.url);
            async move { client.get("/v1/me").await.expect(200) }
        });
        futures_util::future::join_all(sessions).await;
    }
    let text = "Slept well, and wrote it down before the others were awake. ".repeat(20);
    let drafts: Vec<Uuid> = writers.iter().map(|_| Uuid::new_v4()).collect();

    let of = |connection: usize, turn: usize| connection + CONNECTIONS * (turn % (WRITERS / CONNECTIONS));
    let save = |url: &str, writer: &Member, draft: Uuid, base: &Option<String>| -> Request {
        let body = json!({"body": text, "base_version": base}).to_string();
        let authorization = format!("Bearer {}", writer.token.render());
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        Request::new("PUT", authority(url), &format!("/v1/journal/drafts/{draft}"), &headers, body.as_bytes())
    };
    let versions = std::sync::Mutex::new(vec![vec![None; WRITERS / CONNECTIONS]; CONNECTIONS]);
    let known = |connection: usize| versions.lock().expect("versions")[connection].clone();
    let state = |connection: usize| (connection, Writers { turn: 0, versions: known(connection) });
    let request = |url: &str, (connection, writers_of): &mut (usize, Writers)| {
        writers_of.turn += 1;
        let index = of(*connection, writers_of.turn);
        save(
            url,
            &writers[index],
            drafts[index],
            &writers_of.versions[writers_of.turn % (WRITERS / CONNECTIONS)],
        )
    };
    let ours = |state: &mut (usize, Writers)| request(&edge.url, state);
    let theirs = |state: &mut (usize, Writers)| request(&bare_edge.url, state);
    let saved = |(connection, writers_of): &mut (usize, Writers), answer: &Answer| {
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(body["promise"], "redis", "{body}");
        let version = body["version"].as_str().map(str::to_owned);
        let index = writers_of.turn % (WRITERS / CONNECTIONS);
        writers_of.versions[index].clone_from(&version);
        versions.lock().expect("versions")[*connection][index] = version;
    };
    let set = |_: &mut (usize, Writers), answer: &Answer| {
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    };
    let (our_name, their_name) = ("saving a draft", "a bare SET behind the same edge");
    // The bare origin is a part of this program, which also makes the requests.
    let (our_workers, their_workers) =
        (region.all_workers(&edge), region.workers("the edge", &bare_edge.process));
    let ours = Load {
        name: our_name,
        url: &edge.url,
        workers: &our_workers,
        state: &state,
        request: &ours,
        answered: &saved,
    };
    let theirs = Load {
        name: their_name,
        url: &bare_edge.url,
        workers: &their_workers,
        state: &state,
        request: &theirs,
        answered: &set,
    };
    let (mut our_turns, mut their_turns) = (Vec::new(), Vec::new());
    let rate = tokio::task::block_in_place(|| {
        let seconds = settings.seconds.min(3);
        let slower = ours.run(seconds).requests_per_second().min(theirs.run(seconds).requests_per_second());
        // A rate that both sides sustain.
        let rate = (slower / 2.0).round();
        for _ in 0..settings.turns {
            our_turns.push(ours.at_rate(rate, settings.seconds));
            their_turns.push(theirs.at_rate(rate, settings.seconds));
        }
        rate
    });
    let sides = |name: &str, turns: &[Run]| {
        let title = format!("{name}, p99 at {rate} req/s");
        let p99 = Side::new(&title, "ms", turns.iter().map(|turn| turn.latencies.percentile(99.0)));
        let workers = processor::sides(name, turns.iter().map(|turn| &turn.processor));
        std::iter::once(p99).chain(workers).collect()
    };
    let figure = Figure::compare(
        "saving a draft: p99, open loop",
        sides(our_name, &our_turns),
        sides(their_name, &their_turns),
        Target::AtMost(2.0),
    );
    let latencies = |turns: Vec<Run>| turns.into_iter().map(|turn| turn.latencies).collect();
    let plot = Plot {
        file: "drafts".to_owned(),
        title: format!("Saving a draft, open loop at {rate} requests a second"),
        lines: vec![
            Latencies::together(latencies(our_turns)).line(our_name),
            Latencies::together(latencies(their_turns)).line(their_name),
        ],
    };
    Outcome { figures: vec![figure], plots: vec![plot] }
}
