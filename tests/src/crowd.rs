//! A crowd that reacts to messages, and an oracle that knows which reactions were acknowledged.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use optimist_shared::ids::Partition;
use optimist_shared::keys::Key;
use optimist_shared::reactions::KINDS;
use reqwest::Method;

use crate::system::TOLD_CIRCLES;
use crate::unlimited::Unlimited;
use crate::{Client, System};

/// A person's requests between resets of their limit: fewer than it admits in a minute.
const UNCOUNTED: u32 = 40;

/// A person's reaction of one kind to one message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub message: String,
    pub kind: usize,
    pub user: String,
}

/// The newest acknowledged intent at a place.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledged {
    pub is_on: bool,
    pub at: Instant,
    pub in_postgres: bool,
}

/// People, and messages in circles of which all of them are members.
pub struct Crowd {
    people: Vec<Client>,
    circles: Vec<String>,
    /// Pairs of a message and its circle.
    messages: Vec<(String, String)>,
    /// Resets limits, which other tests cover.
    unlimited: Unlimited,
    done: AtomicU64,
}

impl Crowd {
    pub async fn new(system: &System, people: usize, circles: usize, messages: usize) -> Arc<Crowd> {
        let mut members = Vec::new();
        for _ in 0..people {
            members.push(system.register("Ada").await);
        }
        let owner = &members[0];
        let ids: Vec<String> = (0..circles).map(|_| uuid::Uuid::now_v7().to_string()).collect();
        for id in &ids {
            let others: Vec<String> = members[1..]
                .iter()
                .map(|member| {
                    format!(
                        "insert into memberships (circle_id, user_id, role) values ('{id}', '{}', 'member');",
                        member.user
                    )
                })
                .collect();
            system.sql(&format!(
                "insert into circles (id, name, visibility, owner_id, member_count, last_number)
                 values ('{id}', 'A crowd', 'private', '{0}', {people}, {messages});
                 insert into memberships (circle_id, user_id, role) values ('{id}', '{0}', 'owner');
                 {1}
                 insert into messages (id, circle_id, number, author_id, body)
                 select id_at(next_place(null, 1) + n), '{id}', n, '{0}', 'Hello.' from generate_series(1, {messages}) n;
                 {TOLD_CIRCLES}",
                owner.user,
                others.concat()
            ));
        }
        let listed = system.sql("select id || ' ' || circle_id from messages");
        let messages = listed
            .lines()
            .map(|line| line.split_once(' ').expect("two ids"))
            .map(|(message, circle)| (message.to_owned(), circle.to_owned()))
            .collect();
        let unlimited = Unlimited::new(system);
        Arc::new(Crowd { people: members, circles: ids, messages, unlimited, done: AtomicU64::new(0) })
    }

    pub fn people(&self) -> &[Client] {
        &self.people
    }

    pub fn circles(&self) -> &[String] {
        &self.circles
    }

    /// Messages, each with its circle.
    pub fn messages(&self) -> &[(String, String)] {
        &self.messages
    }

    /// How many reactions were acknowledged.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Every person reacts through one of these edges until `total` more reactions are acknowledged. With `once` nobody
    /// returns to a place; otherwise people change their minds.
    pub async fn react(self: &Arc<Self>, edges: &[String], total: u64, once: bool) -> Oracle {
        let until = self.done() + total;
        let tasks: Vec<_> = self
            .people
            .iter()
            .enumerate()
            .map(|(index, person)| {
                let client = person.at(&edges[index % edges.len()]);
                tokio::spawn(self.clone().act(client, index as u64, until, once))
            })
            .collect();
        let mut oracle = Oracle::default();
        for task in tasks {
            oracle.acknowledged.extend(task.await.expect("a person"));
        }
        oracle
    }

    async fn act(
        self: Arc<Self>,
        client: Client,
        seed: u64,
        until: u64,
        once: bool,
    ) -> HashMap<Place, Acknowledged> {
        let mut known = HashMap::new();
        // Different choices in each call.
        let mut seed = (seed + 1) * 1_000_003 + self.done();
        let (mut turn, mut uncounted) = (0, 0);
        while self.done.load(Ordering::Relaxed) < until {
            let mut random = |below: usize| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (seed >> 33) as usize % below
            };
            let (message, kind) = if once {
                turn += 1;
                (turn / KINDS.len() % self.messages.len(), turn % KINDS.len())
            } else {
                (random(self.messages.len()), random(2))
            };
            let is_on = once || random(3) > 0;
            let (message, circle) = &self.messages[message];
            let path = format!("/v1/circles/{circle}/messages/{message}/reactions/{}", KINDS[kind]);
            let method = if is_on { Method::PUT } else { Method::DELETE };
            let in_postgres = loop {
                if uncounted == 0 {
                    self.unlimited.forget(&client).await;
                    uncounted = UNCOUNTED;
                }
                uncounted -= 1;
                match client.try_send(method.clone(), &path, &[], None).await {
                    Ok(answer) if answer.status == 202 => break answer.body["promise"] == "postgres",
                    // Without Redis, the origin counts limits in memory, where they cannot be reset.
                    Ok(answer) if answer.status < 500 && answer.status != 429 => panic!("{answer:#?}"),
                    _ => {
                        uncounted = 0;
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            };
            let place = Place { message: message.clone(), kind: kind + 1, user: client.user.clone() };
            known.insert(place, Acknowledged { is_on, at: Instant::now(), in_postgres });
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        known
    }

    /// Waits until every write is in Postgres.
    pub async fn wait_for_flush(&self, system: &System) {
        let mut redis = system.redis.connect().await;
        let deadline = crate::patience();
        loop {
            let mut waiting = 0;
            for circle in &self.circles {
                let partition = Partition::of(circle.parse().expect("an id"));
                let key = Key::Writes.of_partition(partition);
                waiting += redis::cmd("XLEN").arg(key).query_async::<u64>(&mut redis).await.expect("redis");
            }
            if waiting == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "{waiting} writes wait; {}", system.origins[0].log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The reactions that are on, in Postgres.
    pub fn stored(system: &System) -> BTreeSet<Place> {
        let rows =
            system.sql("select message_id || ' ' || kind || ' ' || user_id from reactions where is_on");
        rows.lines()
            .map(|line| {
                let parts: Vec<&str> = line.split(' ').collect();
                let kind = parts[1].parse().expect("a number");
                Place { message: parts[0].to_owned(), kind, user: parts[2].to_owned() }
            })
            .collect()
    }

    /// Checks that the counts in Postgres, and those that clients see, match these reactions.
    pub async fn check_counts(&self, system: &System, on: &BTreeSet<Place>) {
        let differences = self.counts(system).await.differences(on);
        assert!(differences.is_empty(), "{differences:#?}");
    }

    /// The current counts: of all messages in Postgres, and of the crowd's messages as clients see them.
    pub async fn counts(&self, system: &System) -> Counts {
        let rows = system
            .sql("select message_id || ' ' || kind || ' ' || count from reaction_counts where count <> 0");
        let stored = rows
            .lines()
            .map(|line| {
                let parts: Vec<&str> = line.split(' ').collect();
                let number = |text: &str| text.parse().expect("a number");
                ((parts[0].to_owned(), number(parts[1]) as usize), number(parts[2]))
            })
            .collect();
        let mut seen = Counted::new();
        let reader = self.people[0].at(&system.url());
        for (index, (message, circle)) in self.messages.iter().enumerate() {
            if index % 500 == 0 {
                system.forget_limits_of(&reader).await;
            }
            let answer = reader.get(&format!("/v1/circles/{circle}/messages/{message}")).await.expect(200);
            for (kind, count) in answer.body["reactions"].as_object().expect("counts") {
                let kind = KINDS.iter().position(|name| name == kind).expect("a kind") + 1;
                seen.insert((message.clone(), kind), count.as_u64().expect("a number"));
            }
        }
        let rows =
            system.sql("select message_id || ' ' || actors from notifications where kind = 'reaction'");
        let mut told = Counted::new();
        for (message, actors) in rows.lines().filter_map(|line| line.split_once(' ')) {
            // One notification per message: a second would change the sum.
            *told.entry((message.to_owned(), 0)).or_default() += actors.parse::<u64>().expect("a number");
        }
        let author = self.people[0].user.clone();
        let unread_differs = system.sql(&format!(
            "select (select coalesce(sum(unread), 0) from notification_counts where user_id = '{author}')
                <> (select count(*) from notifications join notification_counts c using (user_id)
                    where user_id = '{author}' and read_at is null and place > read_through)"
        ));
        Counts { stored, seen, told, author, unread_differs: unread_differs == "t" }
    }
}

/// By message and kind.
pub type Counted = BTreeMap<(String, usize), u64>;

/// The counts kept beside the reactions themselves.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// In Postgres.
    pub stored: Counted,
    /// In clients' answers.
    pub seen: Counted,
    /// The number of people in the author's notification; all kinds together, as kind 0.
    pub told: Counted,
    /// The author of all the messages.
    pub author: String,
    /// Whether the author's unread count differs from the number of unread notifications.
    pub unread_differs: bool,
}

impl Counts {
    /// The differences from these reactions. The author has one unread notification per message, which counts everybody
    /// else.
    pub fn differences(&self, on: &BTreeSet<Place>) -> Vec<String> {
        let mut expected = Counted::new();
        let mut actors: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for place in on {
            *expected.entry((place.message.clone(), place.kind)).or_default() += 1;
            if place.user != self.author {
                actors.entry(&place.message).or_default().insert(&place.user);
            }
        }
        let told = actors.iter().map(|(message, people)| (((*message).to_owned(), 0), people.len() as u64));
        let mut found = Vec::new();
        for (what, counted, expected) in [
            ("counts in Postgres", &self.stored, &expected),
            ("counts as clients see them", &self.seen, &expected),
            ("notifications", &self.told, &told.collect()),
        ] {
            if counted != expected {
                found.push(format!("{what}: {:?}", differences(counted, expected)));
            }
        }
        if self.unread_differs {
            found.push("the unread count is not the unread notifications'".to_owned());
        }
        found
    }
}

/// The first few places at which two counts differ, with both.
fn differences(found: &Counted, expected: &Counted) -> Vec<((String, usize), u64, u64)> {
    let places: BTreeSet<_> = found.keys().chain(expected.keys()).cloned().collect();
    let of = |counts: &Counted, place: &(String, usize)| counts.get(place).copied().unwrap_or(0);
    places
        .into_iter()
        .map(|place| (of(found, &place), of(expected, &place), place))
        .filter(|(found, expected, _)| found != expected)
        .map(|(found, expected, place)| (place, found, expected))
        .take(10)
        .collect()
}

/// The acknowledged intents.
#[derive(Default)]
pub struct Oracle {
    pub acknowledged: HashMap<Place, Acknowledged>,
}

impl Oracle {
    /// The reactions that must be on.
    pub fn on(&self) -> BTreeSet<Place> {
        let on = self.acknowledged.iter().filter(|(_, acknowledged)| acknowledged.is_on);
        on.map(|(place, _)| place.clone()).collect()
    }
}
