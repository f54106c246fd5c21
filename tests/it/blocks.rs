//! Whatever people do, and whichever origin dies over it: nothing of somebody blocked reaches the blocker.

use std::collections::BTreeSet;

use optimist_tests::unlimited::Unlimited;
use optimist_tests::{Answer, Client, Kind, Options, System, scale};
use reqwest::Method;
use serde_json::{Value, json};

const PEOPLE: usize = 5;

/// Steps at which an origin dies while it blocks somebody.
const STEPS: [&str; 4] = ["tx.fenced", "tx.committed", "tx.released", "fill.loaded"];

struct World {
    people: Vec<Client>,
    circle: String,
    messages: Vec<String>,
    /// Who has blocked whom. What may or may not have been done is in neither.
    blocked: BTreeSet<(usize, usize)>,
}

impl World {
    fn path(&self, rest: &str) -> String {
        format!("/v1/circles/{}{rest}", self.circle)
    }

    fn some_message(&self) -> String {
        self.path(&format!("/messages/{}", self.messages[fastrand::usize(..self.messages.len())]))
    }

    /// A text that is its author's alone.
    fn text(&self, author: usize) -> Value {
        let named = &self.people[fastrand::usize(..PEOPLE)].user;
        json!({"body": format!("canary{author}x for <@{named}>")})
    }

    /// Something that the others may see, or a block.
    async fn act(&mut self, actor: usize) {
        let person = &self.people[actor];
        match fastrand::u8(..12) {
            0..3 => {
                let said = person.post(&self.path("/messages"), self.text(actor)).await;
                self.messages.extend((said.status == 201).then(|| said.text("/id")));
            }
            3..5 => {
                let said = person.post(&format!("{}/comments", self.some_message()), self.text(actor)).await;
                self.messages.extend((said.status == 201).then(|| said.text("/id")));
            }
            5..7 => {
                let path = format!("{}/reactions/heart", self.some_message());
                let method = if fastrand::bool() { Method::PUT } else { Method::DELETE };
                person.send(method, &path, &[], None).await;
            }
            7 => drop(person.patch(&self.some_message(), self.text(actor)).await),
            8 if actor > 0 => {
                person.delete(&self.path("/members/me")).await;
                person.post(&self.path("/members/me"), json!({})).await;
            }
            _ => self.block(actor, (actor + fastrand::usize(1..PEOPLE)) % PEOPLE).await,
        }
    }

    async fn block(&mut self, blocker: usize, other: usize) {
        let is_on = fastrand::u8(..3) > 0;
        let method = if is_on { Method::PUT } else { Method::DELETE };
        self.blocked.remove(&(blocker, other));
        let path = format!("/v1/me/blocks/{}", self.people[other].user);
        let answer = self.people[blocker].send(method, &path, &[], None).await;
        if is_on && answer.status == 204 {
            self.blocked.insert((blocker, other));
        }
    }

    /// Reads something as somebody, and looks for those whom they have blocked.
    async fn look(&self, reader: usize) -> Answer {
        let paths = [
            self.path("/messages"),
            self.path("/messages?limit=3"),
            self.path("/members"),
            self.path("/activity"),
            self.some_message(),
            format!("{}/comments", self.some_message()),
            format!("{}/reactions", self.some_message()),
            self.path("/live"),
            "/v1/me/circles".to_owned(),
            "/v1/notifications".to_owned(),
        ];
        let path = &paths[fastrand::usize(..paths.len())];
        let answer = self.people[reader].get(path).await;
        let text = answer.body.to_string();
        for (_, other) in self.blocked.iter().filter(|(blocker, _)| *blocker == reader) {
            // Others may have named them in texts of their own.
            let named = text.replace(&format!("<@{}>", self.people[*other].user), "");
            let is_there =
                named.contains(&self.people[*other].user) || named.contains(&format!("canary{other}x"));
            assert!(!is_there, "{reader} has blocked {other}: {path}: {answer:#?}");
        }
        answer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_somebody_blocked_reaches_the_blocker() {
    let deeds = scale("OPTIMIST_BLOCK_DEEDS", 250);
    let mut system = System::with(Options { kind: Kind::Embedded, ..Options::default() }).await;
    let unlimited = Unlimited::new(&system);
    let mut people = Vec::new();
    for _ in 0..PEOPLE {
        people.push(system.register("Ada").await);
    }
    let circle = people[0].create_circle("public").await;
    for person in &people[1..] {
        person.join(&circle, &people[0]).await;
    }
    let messages = vec![people[0].say(&circle, "canary0x").await];
    let mut world = World { people, circle, messages, blocked: BTreeSet::new() };
    let (mut hits, mut hidden) = (0, 0);
    for deed in 0..deeds {
        let actor = fastrand::usize(..PEOPLE);
        unlimited.forget(&world.people[actor]).await;
        if deed % 60 == 59 {
            let step = STEPS[deed as usize / 60 % STEPS.len()];
            system.origins[0].arm(step, "abort", 0, 1).await;
        }
        world.act(actor).await;
        for reader in 0..PEOPLE {
            let answer = world.look(reader).await;
            hits += u32::from(answer.is_hit());
            hidden += u32::from(answer.body.to_string().contains("\"hidden\":true"));
        }
        if !system.origins[0].is_running() {
            system.replace_origin(0);
        }
    }
    assert!(hits > 0 && hidden > 0, "{hits} hits, {hidden} with something hidden");
}
