//! What people have not read equals what an oracle says, whatever dies, and whichever store takes the marks.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use optimist_tests::unlimited::Unlimited;
use optimist_tests::{Answer, Client, Kind, Options, Origin, System, scale, until};
use reqwest::Method;
use serde_json::{Value, json};

const PEOPLE: usize = 6;
const CIRCLES: usize = 3;

/// A member's marker, and the newest message's number.
type Seen = (i64, i64);

/// What everybody should see: of each circle its newest number, and up to where its members have read.
#[derive(Clone)]
struct Oracle {
    newest: Vec<i64>,
    markers: BTreeMap<(usize, usize), i64>,
}

impl Oracle {
    fn of(&self, person: usize) -> BTreeMap<usize, Seen> {
        let mine = self.markers.iter().filter(|((member, _), _)| *member == person);
        mine.map(|((_, circle), marker)| (*circle, (*marker, self.newest[*circle]))).collect()
    }
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Post,
    Mark(i64),
    Join,
    Leave,
}

struct World {
    people: Vec<Client>,
    circles: Vec<String>,
    unlimited: Unlimited,
    oracle: Oracle,
    /// Origins that have died.
    died: Cell<u64>,
}

impl World {
    async fn new(system: &System) -> World {
        let mut people = Vec::new();
        for _ in 0..PEOPLE {
            people.push(system.register("Ada").await);
        }
        let mut circles = Vec::new();
        let mut markers = BTreeMap::new();
        for (circle, owner) in people.iter().enumerate().take(CIRCLES) {
            circles.push(owner.create_circle("public").await);
            markers.insert((circle, circle), 0);
        }
        let oracle = Oracle { newest: vec![0; CIRCLES], markers };
        World { people, circles, unlimited: Unlimited::new(system), oracle, died: Cell::new(0) }
    }

    /// A deed that the person may do.
    fn choose(&self, person: usize, circle: usize) -> Deed {
        let Some(marker) = self.oracle.markers.get(&(person, circle)) else { return Deed::Join };
        match fastrand::u8(..10) {
            0..4 => Deed::Post,
            4..9 => Deed::Mark(fastrand::i64(marker.saturating_sub(2).max(0)..=self.oracle.newest[circle])),
            _ if person == circle => Deed::Post,
            _ => Deed::Leave,
        }
    }

    /// Does it at an edge, and tells the oracle. What may or may not have been done is looked up.
    async fn act(&mut self, system: &mut System, edge: &str, person: usize, circle: usize) {
        let deed = self.choose(person, circle);
        let mut after = self.oracle.clone();
        let member = (person, circle);
        let path = format!("/v1/circles/{}", self.circles[circle]);
        let (method, path, body) = match deed {
            Deed::Post => {
                after.newest[circle] += 1;
                after.markers.insert(member, after.newest[circle]);
                (Method::POST, format!("{path}/messages"), json!({"body": "Good morning."}))
            }
            Deed::Mark(number) => {
                let marker = after.markers.get(&member).copied().unwrap_or_default();
                after.markers.insert(member, marker.max(number));
                (Method::PUT, format!("{path}/read"), json!({"number": number}))
            }
            Deed::Join => {
                after.markers.insert(member, after.newest[circle]);
                (Method::POST, format!("{path}/members/me"), json!({}))
            }
            Deed::Leave => {
                after.markers.remove(&member);
                (Method::DELETE, format!("{path}/members/me"), Value::Null)
            }
        };
        let client = self.people[person].at(edge);
        self.unlimited.forget(&client).await;
        let sent = (!body.is_null()).then(|| body.to_string().into_bytes());
        let answer = client.try_send(method, &path, &[], sent).await;
        match answer {
            Ok(Answer { status: 200..=299, .. }) => self.oracle = after,
            Ok(Answer { status: 502..=504, .. }) | Err(_) => {
                let seen = self.seen(system, edge, person).await;
                assert!(
                    seen == self.oracle.of(person) || seen == after.of(person),
                    "{deed:?}: {seen:?} is neither {:?} nor {:?}",
                    self.oracle.of(person),
                    after.of(person)
                );
                if seen == after.of(person) {
                    self.oracle = after;
                }
            }
            Ok(other) => panic!("{deed:?}: {other:#?}"),
        }
    }

    /// Replaces the first origin if it has died.
    fn revive(&self, system: &mut System) {
        if !system.origins[0].is_running() {
            system.replace_origin(0);
            self.died.set(self.died.get() + 1);
        }
    }

    /// A person's own circles, once somebody answers.
    async fn seen(&self, system: &mut System, edge: &str, person: usize) -> BTreeMap<usize, Seen> {
        let client = self.people[person].at(edge);
        let deadline = optimist_tests::patience();
        loop {
            self.revive(system);
            self.unlimited.forget(&client).await;
            match client.try_send(Method::GET, "/v1/me/circles", &[], None).await {
                Ok(answer) if answer.status == 200 => return self.parse(&answer.body),
                other => assert!(Instant::now() < deadline, "{other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn parse(&self, list: &Value) -> BTreeMap<usize, Seen> {
        let number = |item: &Value, field: &str| item[field].as_i64().unwrap();
        let items = list["items"].as_array().unwrap().iter().map(|item| {
            let circle = self.circles.iter().position(|circle| item["id"] == circle.as_str()).unwrap();
            let (read, newest) = (number(item, "read_number"), number(item, "last_number"));
            assert_eq!(number(item, "unread"), newest - read, "{item}");
            (circle, (read, newest))
        });
        items.collect()
    }

    async fn check(&self, system: &mut System, edge: &str, person: usize) {
        assert_eq!(self.seen(system, edge, person).await, self.oracle.of(person), "person {person}");
    }
}

/// Deeds of one at a time, so that each has one right outcome, through two edges and origins that die.
#[tokio::test(flavor = "multi_thread")]
async fn markers_equal_an_oracle_while_origins_die() {
    const STEPS: [&str; 8] = [
        "tx.statements",
        "tx.fenced",
        "tx.committed",
        "tx.released",
        "flush.read",
        "flush.applied",
        "flush.committed",
        "fill.loaded",
    ];
    let deeds = scale("OPTIMIST_DEEDS", 1_000);
    let mut system = System::with(Options { origins: 2, appendfsync: "always", ..Options::default() }).await;
    let other_edge = system.edge_before(Kind::Embedded, &system.origins[1].api);
    let edges = [system.edge.url.clone(), other_edge.url.clone()];
    let mut world = World::new(&system).await;
    for deed in 0..deeds {
        let edge = &edges[fastrand::usize(..edges.len())];
        world.act(&mut system, edge, fastrand::usize(..PEOPLE), fastrand::usize(..CIRCLES)).await;
        world.check(&mut system, &edges[1], fastrand::usize(..PEOPLE)).await;
        if deed % 50 == 25 {
            let step = STEPS[fastrand::usize(..STEPS.len())];
            system.origins[0].arm(step, "abort", 0, 1).await;
        }
    }
    let died = world.died.get();
    assert!(died >= deeds / 100, "only {died} origins died");
    until("the streams are flushed", async || {
        let stored = system.sql("select circle_id, user_id, number from read_markers order by 1, 2");
        let expected: BTreeMap<(String, String), i64> = world
            .oracle
            .markers
            .iter()
            .map(|((person, circle), marker)| {
                ((world.circles[*circle].clone(), world.people[*person].user.clone()), *marker)
            })
            .collect();
        let expected: Vec<String> =
            expected.iter().map(|((circle, user), marker)| format!("{circle}|{user}|{marker}")).collect();
        stored.lines().map(str::to_owned).collect::<Vec<_>>() == expected
    })
    .await;
    for person in 0..PEOPLE {
        world.check(&mut system, &edges[1], person).await;
    }
    // Copies from before a flush are covered by what Redis has taken since.
    for data_type in ["my_circles", "head", "read_marker"] {
        let (is_good, output) = Origin::command(&system.environment(), &["check", data_type]);
        assert!(is_good, "{output}");
    }
}

/// Postgres takes them, and none is lost when Redis is back with nothing.
#[tokio::test(flavor = "multi_thread")]
async fn marks_outlive_redis() {
    let mut system = System::with(Options { appendfsync: "always", ..Options::default() }).await;
    let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
    let circle = ada.create_circle("public").await;
    bo.join(&circle, &ada).await;
    for _ in 0..3 {
        ada.say(&circle, "Good morning.").await;
    }
    let mark = async |number: i64| {
        let body = json!({"number": number}).to_string().into_bytes();
        bo.send(Method::PUT, &format!("/v1/circles/{circle}/read"), &[], Some(body)).await
    };
    let read = async || {
        let list = bo.get("/v1/me/circles").await.expect(200).body;
        list["items"][0]["read_number"].as_i64().unwrap()
    };
    mark(1).await.expect(204);
    assert_eq!(read().await, 1);
    until("the entry is flushed", async || {
        system.sql(
            "select max(number) from read_markers where user_id <> (select author_id from messages limit 1)",
        ) == "1"
    })
    .await;
    system.redis.kill();
    until("postgres takes it", async || mark(2).await.status == 204).await;
    until("it is shown", async || bo.get("/v1/me/circles").await.status == 200).await;
    assert_eq!(read().await, 2);
    system.redis.launch();
    system.origins[0].wait_until_vouching(&system.redis).await;
    assert_eq!(read().await, 2);
    mark(3).await.expect(204);
    assert_eq!(read().await, 3);
}
