//! Reads that Redis cannot answer: through edge and origin to Postgres, with reaction counts, and filling Redis for the
//! next reader. The peer does the same work in Fastify, which reads Postgres with pg.
//!
//! Redis holds every session and membership; only the messages and their counts are missing. Each circle is read once
//! per turn, so that no read finds a value that another read has filled.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt as _;
use optimist_shared::ids::{Uuid, parse_id};
use optimist_shared::keys::Key;
use optimist_shared::signature::Identity;
use optimist_tests::Kind;
use optimist_tests::system::TOLD_CIRCLES;

use crate::Settings;
use crate::closed_loop::{self, CONNECTIONS, Subject};
use crate::http1::{Answer, Connection, Request, authority};
use crate::made::{self, Load, signed};
use crate::peers::{self, Peer};
use crate::plot::Plot;
use crate::processor::Worker;
use crate::region::{Member, Region};
use crate::report::{Figure, Outcome, Target};

/// More circles than one turn reads.
const CIRCLES: usize = 16_000;
const OWNERS: usize = 200;
/// The longest turn in seconds: a longer one would run out of circles.
const SECONDS: u64 = 3;

pub async fn run(settings: Arc<Settings>) -> Outcome {
    let region = Region::start().await;
    let edge = region.edge(Kind::Embedded);
    let owners = region.people(OWNERS);
    region.sql(&format!(
        "insert into circles (id, name, visibility, owner_id, last_number)
         select gen_random_uuid(), 'A circle', 'private', owners[n % {OWNERS} + 1], 20
         from generate_series(1, {CIRCLES}) n, (select array_agg(id) as owners from users) owners;
         insert into memberships (circle_id, user_id, role) select id, owner_id, 'owner' from circles;
         insert into messages (id, circle_id, number, author_id, body, created_at)
         select id_at(next_place(null, 1) + n), id, n, owner_id, repeat('A morning page. ', 9), '2026-11-01 08:00:00.123456Z'
         from circles, generate_series(1, 20) n;
         {TOLD_CIRCLES};
         insert into reaction_counts (circle_id, message_id, kind, count)
         select circle_id, id, number % 6 + 1, 3 from messages",
    ));
    region.sql("vacuum analyze");
    let circles = region.sql("select id, owner_id from circles");
    let places: Vec<(String, usize)> = circles
        .lines()
        .map(|line| {
            let (circle, owner) = line.split_once('|').expect("two columns");
            let owner = owners.iter().position(|member| member.user.to_string() == owner).expect("an owner");
            (circle.to_owned(), owner)
        })
        .collect();
    let peer = peers::fastify(&region);
    let subject = |name: &str, url: &str, workers| {
        let request = |(circle, owner): &(String, usize)| {
            let authorization = format!("Bearer {}", owners[*owner].token.render());
            let path = format!("/v1/circles/{circle}/messages");
            Request::new("GET", authority(url), &path, &[("authorization", &authorization)], b"")
        };
        Subject {
            name: name.to_owned(),
            url: url.to_owned(),
            workers,
            requests: places.iter().map(request).collect(),
            is_right: |answer| answer.status == 200,
        }
    };
    let ours = subject("Optimist, embedded host and origin", &edge.url, region.all_workers(&edge));
    let theirs = subject(PEER, &peer.url, region.workers("the server", &peer.process));
    // Fills sessions and memberships.
    for subject in [&ours, &theirs] {
        read_all(subject);
    }
    let forgotten = forgotten(&places);
    let (mut our_runs, mut their_runs) = (Vec::new(), Vec::new());
    for turn in 0..=settings.turns {
        for (subject, runs) in [(&ours, &mut our_runs), (&theirs, &mut their_runs)] {
            forget(&region, &forgotten).await;
            assert!(is_miss(subject), "{}: Redis knew the answer", subject.name);
            let run = subject.run(settings.seconds.min(SECONDS)).await;
            assert!(run.requests() < CIRCLES as f64, "{}: {CIRCLES} circles are too few", subject.name);
            // The first turn is a warm-up.
            if turn > 0 {
                runs.push(run);
            }
        }
    }
    let figure = Figure::compare(
        "miss through the edge: requests a second",
        closed_loop::sides(&ours.name, &our_runs),
        closed_loop::sides(&theirs.name, &their_runs),
        Target::AtLeast(1.0),
    );
    let processor = |worker: &str, bound| {
        let what = format!("miss through the edge: processor time of {worker}");
        Figure::plain(&what, "µs", closed_loop::processor(&our_runs, worker), Target::AtMost(bound))
    };
    let mut figures = vec![figure, processor("the origin", 150.0), processor("Redis", 100.0)];
    figures.push(at_the_origin(&settings, &region, &peer, &places, &owners, &forgotten).await);
    let plot = Plot {
        file: "miss".to_owned(),
        title: format!("A miss: closed loop, {CONNECTIONS} connections"),
        lines: vec![closed_loop::line(&ours.name, &our_runs), closed_loop::line(&theirs.name, &their_runs)],
    };
    Outcome { figures, plots: vec![plot] }
}

const PEER: &str = "Fastify, ioredis, pg";

/// The origin alone, by signed requests, beside the same peer under the same load.
async fn at_the_origin(
    settings: &Settings,
    region: &Region,
    peer: &Peer,
    places: &[(String, usize)],
    owners: &[Member],
    forgotten: &[String],
) -> Figure {
    // Each circle is read once in a turn.
    let next = AtomicUsize::new(0);
    let place = || {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let (circle, owner) = places.get(index).expect("circles enough");
        (format!("/v1/circles/{circle}/messages"), &owners[*owner])
    };
    let signed = |_: &mut ()| {
        let (path, owner) = place();
        let identity = Identity::Session { user: owner.user, session: owner.token.session };
        signed(&region.origin.api, "GET", &path, identity, &[], b"")
    };
    let plain = |_: &mut ()| {
        let (path, owner) = place();
        let authorization = format!("Bearer {}", owner.token.render());
        Request::new("GET", authority(&peer.url), &path, &[("authorization", &authorization)], b"")
    };
    let answered = |_: &mut (), answer: &Answer| assert_eq!(answer.status, 200, "{answer:?}");
    let stores = region.stores();
    let our_workers: Vec<Worker> = [region.origin_worker()].into_iter().chain(stores).collect();
    let their_workers = region.workers("the server", &peer.process);
    let ours = Load {
        name: "the origin alone, signed requests",
        url: &region.origin.api,
        workers: &our_workers,
        state: &|_| (),
        request: &signed,
        answered: &answered,
    };
    let theirs = Load {
        name: PEER,
        url: &peer.url,
        workers: &their_workers,
        state: &|_| (),
        request: &plain,
        answered: &answered,
    };
    let (mut our_runs, mut their_runs) = (Vec::new(), Vec::new());
    for turn in 0..=settings.turns {
        for (load, runs) in [(&ours, &mut our_runs), (&theirs, &mut their_runs)] {
            forget(region, forgotten).await;
            next.store(0, Ordering::Relaxed);
            let run = tokio::task::block_in_place(|| load.run(settings.seconds.min(SECONDS)));
            // The first turn is a warm-up.
            if turn > 0 {
                runs.push(run);
            }
        }
    }
    Figure::compare(
        "miss at the origin alone: requests a second",
        made::sides(ours.name, &our_runs),
        made::sides(theirs.name, &their_runs),
        Target::AtLeast(1.1),
    )
}

/// Sends every request once.
fn read_all(subject: &Subject) {
    std::thread::scope(|scope| {
        for some in subject.requests.chunks(subject.requests.len().div_ceil(CONNECTIONS)) {
            scope.spawn(move || {
                let mut connection = Connection::open(&subject.url).expect("a connection");
                for request in some {
                    let answer = connection.send(request).expect("an answer");
                    assert!((subject.is_right)(&answer), "{}: {answer:?}", subject.name);
                }
            });
        }
    });
}

fn is_miss(subject: &Subject) -> bool {
    let mut connection = Connection::open(&subject.url).expect("a connection");
    let answer = connection.send(&subject.requests[0]).expect("an answer");
    answer.header("cache-status").contains("miss")
}

/// The keys of both sides that hold messages or counts.
fn forgotten(places: &[(String, usize)]) -> Vec<String> {
    let keys = |circle: &str| {
        let id: Uuid = parse_id(circle).expect("an id");
        let theirs = ["messages", "counts"].map(|kind| format!("peer:{kind}:{circle}"));
        let ours = [Key::circle_messages(id), Key::counts(id), Key::counts_page(id)].map(|key| key.name());
        ours.into_iter().chain(theirs)
    };
    places.iter().flat_map(|(circle, _)| keys(circle)).collect()
}

async fn forget(region: &Region, keys: &[String]) {
    let connection = region.redis.connect().await;
    let unlink = |some: &[String]| {
        let (mut connection, some) = (connection.clone(), some.to_vec());
        async move {
            let _: u64 =
                redis::cmd("UNLINK").arg(some).query_async(&mut connection).await.expect("redis answers");
        }
    };
    futures_util::stream::iter(keys.chunks(1000)).for_each(unlink).await;
}
