//! Search while rights change: each answer is exactly what its caller may read at that moment.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use optimist_tests::unlimited::Unlimited;
use optimist_tests::{Client, System, scale};
use serde_json::json;

use crate::api::search::path;

const WORDS: [&str; 6] = ["rain", "Sonne", "straße", "北京", "雨天", "🎉"];
/// Queries at once, after two changes.
const QUERIES: u64 = 10;
/// Messages that there are at the same time: no more than a page shows.
const MOST: usize = 90;

/// What is known of a circle.
struct Circle {
    id: String,
    is_public: bool,
    is_archived: bool,
    /// By the person's place among all: true of members, false of the banned.
    people: BTreeMap<usize, bool>,
}

impl Circle {
    fn may_read(&self, person: usize) -> bool {
        self.people.get(&person).copied().unwrap_or(self.is_public && !self.is_archived)
    }
}

struct Message {
    id: String,
    circle: usize,
    author: usize,
    words: Vec<usize>,
}

fn text(words: &[usize]) -> String {
    words.iter().map(|word| WORDS[*word]).collect::<Vec<_>>().join(" ")
}

struct World<'a> {
    people: &'a [Client],
    circles: Vec<Circle>,
    messages: Vec<Message>,
}

impl World<'_> {
    /// A change that somebody may make, or none.
    async fn change(&mut self) {
        let place = fastrand::usize(..self.circles.len());
        let oldest = self.messages.iter().position(|message| !self.circles[message.circle].is_archived);
        if let Some(oldest) = oldest.filter(|_| self.messages.len() >= MOST) {
            return self.delete(oldest).await;
        }
        let (person, owner) = (fastrand::usize(1..self.people.len()), &self.people[0]);
        let circle = &mut self.circles[place];
        let at = format!("/v1/circles/{}", circle.id);
        let is_member = circle.people.get(&person).copied();
        match (fastrand::u32(..10), is_member, circle.is_archived) {
            (0, _, false) => {
                circle.is_public = !circle.is_public;
                let visibility = if circle.is_public { "public" } else { "private" };
                owner.patch(&at, json!({"visibility": visibility})).await.expect(200);
            }
            (1, _, false) => {
                owner.delete(&at).await.expect(204);
                circle.is_archived = true;
            }
            (1 | 2, _, true) => {
                owner.post(&format!("{at}/restore"), json!(null)).await.expect(200);
                circle.is_archived = false;
            }
            (2..=4, None, false) => {
                self.people[person].join(&circle.id, owner).await;
                circle.people.insert(person, true);
            }
            (2..=3, Some(true), _) => {
                self.people[person].delete(&format!("{at}/members/me")).await.expect(204);
                circle.people.remove(&person);
            }
            (4, Some(true), false) => {
                let user = &self.people[person].user;
                owner.delete(&format!("{at}/members/{user}?ban=true")).await.expect(204);
                circle.people.insert(person, false);
            }
            (3..=5, Some(false), false) => {
                owner.delete(&format!("{at}/bans/{}", self.people[person].user)).await.expect(204);
                circle.people.remove(&person);
            }
            (6, _, _) => {
                let there = self.messages.iter().position(|message| message.circle == place);
                if let Some(nth) = there.filter(|_| !circle.is_archived) {
                    self.delete(nth).await;
                }
            }
            (7, _, false) => {
                let own = |message: &&mut Message| message.circle == place && message.author == 0;
                if let Some(message) = self.messages.iter_mut().find(own) {
                    message.words = vec![fastrand::usize(..WORDS.len())];
                    let body = json!({"body": text(&message.words)});
                    owner.patch(&format!("{at}/messages/{}", message.id), body).await.expect(200);
                }
            }
            (_, _, false) => {
                let author = if is_member == Some(true) { person } else { 0 };
                self.say(place, author).await;
            }
            _ => {}
        }
    }

    async fn delete(&mut self, nth: usize) {
        let message = self.messages.swap_remove(nth);
        let path = format!("/v1/circles/{}/messages/{}", self.circles[message.circle].id, message.id);
        self.people[0].delete(&path).await.expect(204);
    }

    /// An author says three words in a circle.
    async fn say(&mut self, place: usize, author: usize) {
        let words: Vec<usize> = (0..3).map(|_| fastrand::usize(..WORDS.len())).collect();
        let id = self.people[author].say(&self.circles[place].id, &text(&words)).await;
        self.messages.push(Message { id, circle: place, author, words });
    }

    /// Somebody looks for something: compares the answer with what is known. Returns how much was found.
    async fn ask(&self) -> usize {
        let person = fastrand::usize(..self.people.len());
        let [word, other] = [0; 2].map(|_| fastrand::usize(..WORDS.len()));
        let (author, within) = (fastrand::usize(..self.people.len()), fastrand::usize(..self.circles.len()));
        let [one, two] = [word, other].map(|word| WORDS[word]);
        type Wanted<'a> = Box<dyn Fn(&Message) -> bool + 'a>;
        let has = move |message: &Message, word: usize| message.words.contains(&word);
        let (query, wanted): (String, Wanted<'_>) = match fastrand::u32(..6) {
            0 => (format!("{one} {two}"), Box::new(move |m| has(m, word) && has(m, other))),
            1 => (format!("{one} -{two}"), Box::new(move |m| has(m, word) && !has(m, other))),
            2 => (
                format!("\"{one} {two}\""),
                Box::new(move |m| m.words.windows(2).any(|pair| pair == [word, other])),
            ),
            3 => (
                format!("{one} from:{}", self.people[author].user),
                Box::new(move |m| has(m, word) && m.author == author),
            ),
            4 => (
                format!("{one} in:{}", self.circles[within].id),
                Box::new(move |m| has(m, word) && m.circle == within),
            ),
            _ => (one.to_owned(), Box::new(move |m| has(m, word))),
        };
        let answer = self.people[person].get(&path(&[("q", &query), ("limit", "100")])).await;
        if query.contains("in:") && !self.circles[within].may_read(person) {
            answer.expect(404);
            return 0;
        }
        let answer = answer.expect(200);
        let items = answer.body["items"].as_array().unwrap().iter();
        let found: BTreeSet<&str> = items.map(|item| item["message"]["id"].as_str().unwrap()).collect();
        let readable = self.messages.iter().filter(|message| self.circles[message.circle].may_read(person));
        let expected: BTreeSet<&str> =
            readable.filter(|message| wanted(message)).map(|message| message.id.as_str()).collect();
        assert_eq!(found, expected, "{query} by {person}");
        assert!(answer.body["next"].is_null() && answer.body["truncated"] == false);
        found.len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_queries_find_what_their_callers_may_read_while_rights_change() {
    let system = System::start().await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    fastrand::seed(seed);
    let (mut people, mut circles) = (Vec::new(), Vec::new());
    for name in ["Owen", "Ada", "Bo", "Cy", "Di"] {
        people.push(system.register(name).await);
    }
    let unlimited = Unlimited::new(&system);
    for nth in 0..5 {
        let is_public = nth % 2 == 0;
        let id = people[0].create_circle(if is_public { "public" } else { "private" }).await;
        circles.push(Circle { id, is_public, is_archived: false, people: [(0, true)].into() });
        unlimited.forget(&people[0]).await;
    }
    let mut world = World { people: &people, circles, messages: Vec::new() };
    for place in 0..world.circles.len() {
        for _ in 0..4 {
            world.say(place, 0).await;
        }
        unlimited.forget(&people[0]).await;
    }
    let (mut found, rounds) = (0, scale("OPTIMIST_SEARCHES", 1_000).div_ceil(QUERIES));
    for _ in 0..rounds {
        for _ in 0..2 {
            world.change().await;
        }
        join_all(people.iter().map(|person| unlimited.forget(person))).await;
        found += join_all((0..QUERIES).map(|_| world.ask())).await.into_iter().sum::<usize>();
    }
    assert!(found as u64 > rounds, "there was something to find");
}
