//! Reactions end to end, through the embedded edge into Redis and in batches into Postgres. The peer is the same origin
//! committing each reaction to Postgres, as it does while its region is off.
//!
//! Both are equally durable: an acknowledged reaction is on disk, in Redis (`appendfsync always`) or in Postgres. The
//! peer skips the edge: it takes signed requests whose session and limits are already checked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use optimist_shared::signature::Identity;
use optimist_tests::system::REGION;
use optimist_tests::{Edge, Kind, Options};

use crate::Settings;
use crate::closed_loop::{self, CONNECTIONS, Subject};
use crate::http1::{Answer, Request, authority};
use crate::made::{self, Load, signed};
use crate::processor::Worker;
use crate::region::{Circle, Member, Region};
use crate::report::{Figure, Outcome, Target};

/// Enough circles that nobody waits for another's lock, and enough people that none comes near 50 reactions a minute.
const CIRCLES: usize = 80;
const MEMBERS_EACH: usize = 100;

/// A member, and the messages of their circle.
struct Reader<'a> {
    member: &'a Member,
    circle: &'a str,
    messages: &'a [String],
}

pub async fn run(settings: Arc<Settings>) -> Outcome {
    let durable = || Options { appendfsync: "always", ..Options::default() };
    let (region, off) = (Region::with(durable()).await, Region::with(durable()).await);
    let edge = region.edge(Kind::Embedded);
    let (people, others) = (region.people(CIRCLES * MEMBERS_EACH), off.people(CIRCLES * MEMBERS_EACH));
    let (circles, other_circles) = (circles(&region, people), circles(&off, others));
    for (circle, _) in &circles {
        circle.warm(&edge.url).await;
    }
    turn_off(&off).await;

    let others = readers(&other_circles);
    let request = |(index, count): &mut (usize, usize)| {
        *index += CONNECTIONS;
        *count += 1;
        let reader = &others[*index % others.len()];
        let message = &reader.messages[*count % reader.messages.len()];
        let path = format!("/v1/circles/{}/messages/{message}/reactions/heart", reader.circle);
        let Member { user, token } = reader.member;
        let identity = Identity::Session { user: *user, session: token.session };
        signed(&off.origin.api, "PUT", &path, identity, &[], b"")
    };
    let answered = |_: &mut (usize, usize), answer: &Answer| {
        let body = String::from_utf8_lossy(&answer.body);
        assert!(answer.status == 202 && body.contains(r#""promise":"postgres""#), "{} {body}", answer.status);
    };
    let name = "each reaction committed by itself";
    let off_workers: Vec<Worker> = [off.origin_worker()].into_iter().chain(off.stores()).collect();
    let each = Load {
        name,
        url: &off.origin.api,
        workers: &off_workers,
        state: &|number| (number, 0),
        request: &request,
        answered: &answered,
    };
    let (mut ours, mut theirs, mut a_commit) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..=settings.turns {
        let subject = subject(&region, &edge, &readers(&circles), turn);
        let before = Flushed::of(&region).await;
        // The first turn is a warm-up.
        let run = subject.run(if turn == 0 { 1 } else { settings.seconds }).await;
        wait_until_flushed(&region).await;
        let flushed = Flushed::of(&region).await.since(&before);
        let committed =
            tokio::task::block_in_place(|| each.run(if turn == 0 { 1 } else { settings.seconds }));
        println!(
            "  {} operations in {} commits, for {} answers",
            flushed.operations,
            flushed.commits,
            run.requests()
        );
        if turn > 0 {
            ours.push(run);
            theirs.push(committed);
            a_commit.push(flushed.operations / flushed.commits);
        }
    }
    let flushed = Flushed::of(&region).await;
    for (bound, count) in flushed.lags() {
        println!("  {count} operations committed within {bound} s");
    }
    let lag = flushed.lag_ms();
    let figures = vec![
        Figure::compare(
            "reactions, end to end: requests a second",
            closed_loop::sides("Optimist, embedded host", &ours),
            made::sides(name, &theirs),
            Target::AtLeast(7.0),
        ),
        Figure::plain("reactions: operations a commit, under load", "", a_commit, Target::AtLeast(500.0)),
        Figure::plain("reactions: flush lag, p99 at most", "ms", lag, Target::AtMost(2000.0)),
    ];
    Outcome { figures, plots: Vec::new() }
}

/// Splits the people into circles, and returns these with their messages.
fn circles(region: &Region, mut people: Vec<Member>) -> Vec<(Circle, Vec<String>)> {
    let mut circles = Vec::new();
    while !people.is_empty() {
        let members: Vec<Member> = people.drain(..MEMBERS_EACH).collect();
        let id = region.circle_of(&members);
        let messages =
            region.sql(&format!("select id from messages where circle_id = '{id}' order by number"));
        let messages = messages.lines().map(str::to_owned).collect();
        circles.push((Circle { id, members }, messages));
    }
    circles
}

/// All members, interleaved so that consecutive readers belong to different circles.
fn readers(circles: &[(Circle, Vec<String>)]) -> Vec<Reader<'_>> {
    let nth = |index: usize| {
        circles.iter().map(move |(circle, messages)| Reader {
            member: &circle.members[index],
            circle: &circle.id,
            messages,
        })
    };
    (0..MEMBERS_EACH).flat_map(nth).collect()
}

/// Every reader reacts to a message and, once all have, every reader takes the reaction back: each request changes
/// state.
fn subject(region: &Region, edge: &Edge, readers: &[Reader<'_>], turn: usize) -> Subject {
    let request = |method: &str, reader: &Reader<'_>| {
        let authorization = format!("Bearer {}", reader.member.token.render());
        let message = &reader.messages[turn % reader.messages.len()];
        let path = format!("/v1/circles/{}/messages/{message}/reactions/heart", reader.circle);
        Request::new(method, authority(&edge.url), &path, &[("authorization", &authorization)], b"")
    };
    let requests = ["PUT", "DELETE"]
        .into_iter()
        .flat_map(|method| readers.iter().map(move |reader| request(method, reader)))
        .collect();
    Subject {
        name: "reactions, end to end".to_owned(),
        url: edge.url.clone(),
        workers: region.all_workers(edge),
        requests,
        is_right: |answer| answer.status == 202,
    }
}

/// Turns a region off for good: registers an origin that does not exist and reports that it cannot reach Redis.
async fn turn_off(region: &Region) {
    region.sql(&format!(
        "insert into origins (id, region, seen_at, redis_ok)
         values (gen_random_uuid(), '{REGION}', now() + interval '1 day', false);
         update regions set state = 'off', off_since = now() - interval '1 minute' where name = '{REGION}'"
    ));
    let deadline = Instant::now() + Duration::from_secs(20);
    while metric(&region.page().await, "optimist_region_on") != 0.0 {
        assert!(Instant::now() < deadline, "the region stays on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until no entry is pending.
async fn wait_until_flushed(region: &Region) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let before = Flushed::of(region).await;
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        if Flushed::of(region).await.operations == before.operations {
            return;
        }
        assert!(Instant::now() < deadline, "entries are still flushed");
    }
}

/// Metrics of an origin's flushes.
struct Flushed {
    operations: f64,
    commits: f64,
    page: String,
}

impl Flushed {
    async fn of(region: &Region) -> Flushed {
        let page = region.page().await;
        Flushed {
            operations: metric(&page, "optimist_flush_entries_sum"),
            commits: metric(&page, "optimist_flush_entries_count"),
            page,
        }
    }

    fn since(self, before: &Flushed) -> Flushed {
        Flushed {
            operations: self.operations - before.operations,
            commits: self.commits - before.commits,
            page: self.page,
        }
    }

    /// The milliseconds within which 99 % of the operations were committed, as the upper bound of a histogram bucket.
    /// `None` if it lies beyond the last bucket; the figure then misses its target.
    fn lag_ms(&self) -> Option<f64> {
        let all = metric(&self.page, "optimist_flush_lag_seconds_count");
        let mut bounds =
            self.lags().into_iter().filter(|(bound, count)| bound.is_finite() && *count >= all * 0.99);
        bounds.next().map(|(bound, _)| bound * 1000.0)
    }

    /// Pairs of a bound in seconds and the number of operations committed within it.
    fn lags(&self) -> Vec<(f64, f64)> {
        let bucket = |line: &str| {
            let line = line.strip_prefix("optimist_flush_lag_seconds_bucket{le=\"")?;
            let (bound, count) = line.split_once("\"} ")?;
            Some((bound.parse().ok()?, count.parse().ok()?))
        };
        self.page.lines().filter_map(bucket).collect()
    }
}

/// A value of the metrics page; 0 if it is absent.
fn metric(page: &str, name: &str) -> f64 {
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().expect("a number"))
}
