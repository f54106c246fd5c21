//! Blocks and mutes: nothing of somebody blocked reaches the blocker by any route, and they do not see the blocker's profile or presence.

use optimist_shared::routes::{Audience, Method as RouteMethod, ROUTES, Route};
use optimist_tests::{Answer, Client};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Cast, on_system, problem};

async fn put(client: &Client, path: &str) -> Answer {
    client.send(Method::PUT, path, &[], None).await
}

fn block_of(other: &Client) -> String {
    format!("/v1/me/blocks/{}", other.user)
}

/// What a message's readers see once they have blocked its author.
fn hidden(message: &Value) -> Value {
    json!({"id": message["id"], "number": message["number"], "hidden": true})
}

/// Everything that Bob has done where Ada can see it, in a circle of hers.
struct Scene {
    ada: Client,
    bob: Client,
    /// Sees all of it.
    carol: Client,
    circle: String,
    /// Bob's message, his comment on Ada's, and hers.
    said: Value,
    comment: Value,
    own: String,
}

impl Scene {
    async fn new(cast: Cast) -> Scene {
        let Cast { owner: ada, member: bob, moderator: carol, circle, .. } = cast;
        let path = format!("/v1/circles/{circle}");
        bob.patch("/v1/me", json!({"name": "Canary Bob"})).await.expect(200);
        let own = ada.say(&circle, "What a day.").await;
        let comment = format!("{path}/messages/{own}/comments");
        let comment = bob.post(&comment, json!({"body": "A canary indeed."})).await.expect(201).body;
        put(&bob, &format!("{path}/messages/{own}/reactions/heart")).await.expect(202);
        let mention = json!({"body": format!("A canary for <@{}>.", ada.user)});
        let said = bob.post(&format!("{path}/messages"), mention).await.expect(201).body;
        let keep = json!({"circle_id": circle}).to_string().into_bytes();
        let favorite = format!("/v1/me/favorites/{}", said["id"].as_str().unwrap());
        ada.send(Method::PUT, &favorite, &[], Some(keep)).await.expect(204);
        Scene { ada, bob, carol, circle, said, comment, own }
    }

    /// The path of a read in which Bob may appear. `None` for those of other things.
    fn path(&self, route: &Route) -> Option<String> {
        let path = route.path.replace("{circle}", &self.circle).replace("{user}", &self.bob.user);
        // Other tests' people say it elsewhere.
        let sought = format!("{path}?q=canary&circle={}", self.circle);
        let path = if route.name == "search.find" { sought } else { path };
        let path = path.replace(
            "{message}",
            if route.name == "comments.list" { &self.own } else { self.said["id"].as_str()? },
        );
        let is_read =
            route.method == RouteMethod::Get && !matches!(route.audience, Audience::Public | Audience::Admin);
        let is_list = !path.contains('{') && !path.ends_with("/events");
        (is_read && is_list).then_some(path)
    }
}

/// Reads in which people whom one has blocked appear: the list of those, and what one must know who keeps order in a circle.
const SHOWN_ALL_THE_SAME: [&str; 3] = ["blocks.list", "bans.list", "activity.history"];

#[test]
fn nothing_of_somebody_blocked_is_in_any_answer() {
    on_system(|system| async move {
        let scene = Scene::new(Cast::new(system, "public").await).await;
        let Scene { ada, bob, carol, circle, said, comment, own } = &scene;
        let path = format!("/v1/circles/{circle}");
        let messages = format!("{path}/messages");
        optimist_tests::until("Ada is told", async || {
            ada.get("/v1/notifications/unread-count").await.expect(200).body["unread"].as_i64() >= Some(3)
        })
        .await;
        ada.until_hit(&messages).await;
        let before = ada.get(&messages).await.expect(200);
        assert!(before.body.to_string().contains("Canary Bob"), "{before:#?}");

        for _ in 0..2 {
            put(ada, &block_of(bob)).await.expect(204);
        }
        let names = |answer: &Answer| {
            let text = answer.body.to_string();
            text.to_lowercase().contains("canary") || text.contains(&bob.user)
        };
        let mut shown = 0;
        for route in ROUTES {
            let Some(asked) = scene.path(route) else { continue };
            // Each from both stores and, where it is cached, from Redis alone.
            for _ in 0..3 {
                let answer = ada.get(&asked).await;
                let is_shown = names(&answer);
                shown += u32::from(is_shown);
                assert!(!is_shown || SHOWN_ALL_THE_SAME.contains(&route.name), "{}: {answer:#?}", route.name);
            }
        }
        assert!(shown > 0, "a list of those whom one has blocked names them");

        // What remains of a message, in lists and by itself.
        let list = ada.get(&messages).await.expect(200);
        assert_eq!(list.body["items"][0], hidden(said));
        assert_eq!(
            list.body["items"].as_array().unwrap().len(),
            before.body["items"].as_array().unwrap().len()
        );
        assert_eq!(
            ada.get(&format!("{messages}/{}", said["id"].as_str().unwrap())).await.expect(200).body,
            hidden(said)
        );
        let thread = ada.get(&format!("{messages}/{own}/comments")).await.expect(200);
        assert_eq!(thread.body["items"], json!([hidden(comment)]));
        assert_eq!(ada.get("/v1/me/favorites").await.expect(200).body["items"][0]["message"], hidden(said));
        let mine = ada.get("/v1/me/circles").await.expect(200);
        assert_eq!(mine.body["items"][0]["last_message"], hidden(said), "{mine:#?}");
        // Numbers stay.
        let message = ada.get(&format!("{messages}/{own}")).await.expect(200);
        assert_eq!(
            (&message.body["comments"], &message.body["reactions"]),
            (&json!(1), &json!({"heart": 1}))
        );

        // The tag of the whole list is not that of what remains.
        let tag = [("if-none-match", before.header("etag"))];
        let again = ada.send(Method::GET, &messages, &tag, None).await.expect(200);
        assert_eq!(again.body, list.body);
        let tag = [("if-none-match", again.header("etag"))];
        ada.send(Method::GET, &messages, &tag, None).await.expect(304);

        // Others, and Bob, see everything; but to Bob Ada does not exist.
        for other in [carol, bob] {
            let seen = other.get(&messages).await.expect(200);
            assert_eq!(seen.body["items"][0]["body"], said["body"]);
            assert!(seen.body.to_string().contains("What a day."), "{seen:#?}");
        }
        for _ in 0..3 {
            problem(bob.get(&format!("/v1/users/{}", ada.user)).await, 404);
            problem(ada.get(&format!("/v1/users/{}", bob.user)).await, 404);
            carol.get(&format!("/v1/users/{}", ada.user)).await.expect(200);
        }
        for (one, other) in [(ada, bob), (bob, ada)] {
            problem(one.get(&format!("/v1/users/{}/presence", other.user)).await, 404);
        }

        ada.delete(&block_of(bob)).await.expect(204);
        problem(ada.delete(&block_of(bob)).await, 404);
        let after = ada.send(Method::GET, &messages, &tag, None).await.expect(200);
        assert_eq!(after.body, before.body);
        bob.get(&format!("/v1/users/{}", ada.user)).await.expect(200);
    });
}

#[test]
fn somebody_blocked_tells_one_nothing_and_somebody_muted_neither() {
    on_system(|system| async move {
        for kind in ["blocks", "mutes"] {
            let Scene { ada, bob, carol, circle, own, .. } =
                Scene::new(Cast::new(system, "public").await).await;
            let path = format!("/v1/circles/{circle}");
            let told = async || {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                let list = ada.get("/v1/notifications?limit=100").await.expect(200);
                let of = |who: &Client| {
                    let items = list.body["items"].as_array().unwrap().iter();
                    items.filter(|item| item["actor"]["id"] == who.user.as_str()).count()
                };
                let unread =
                    ada.get("/v1/notifications/unread-count").await.expect(200).body["unread"].as_u64();
                (of(&bob), of(&carol), unread.unwrap())
            };
            // A comment, a mention and a reaction, beside a member's message.
            while told().await.2 < 4 {}
            put(&ada, &format!("/v1/me/{kind}/{}", bob.user)).await.expect(204);
            // What came before is withdrawn of somebody blocked; of a reaction nobody is named.
            if kind == "blocks" {
                while told().await.0 > 0 {}
            }
            let before = told().await;
            bob.say(&circle, &format!("<@{}>, listen.", ada.user)).await;
            bob.post(&format!("{path}/messages/{own}/comments"), json!({"body": "Please."}))
                .await
                .expect(201);
            let reacted = ada.say(&circle, "No.").await;
            put(&bob, &format!("{path}/messages/{reacted}/reactions/heart")).await.expect(202);
            // In the order of the outbox: once Carol's has come, Bob's would have.
            carol.say(&circle, "I listen.").await;
            while told().await.1 == before.1 {}
            put(&carol, &format!("{path}/messages/{reacted}/reactions/hug")).await.expect(202);
            while told().await.2 < before.2 + 2 {}
            assert_eq!(told().await, (before.0, before.1 + 2, before.2 + 2), "{kind}");
            let list = ada.get("/v1/notifications?limit=1").await.expect(200);
            assert_eq!(
                (&list.body["items"][0]["kind"], &list.body["items"][0]["others"]),
                (&json!("reaction"), &json!(0))
            );
            let seen = ada.get(&format!("{path}/messages")).await.expect(200);
            assert!(seen.body.to_string().contains("I listen."));
            assert_eq!(seen.body.to_string().contains(&format!("<@{}>", ada.user)), kind == "mutes");
        }
    });
}

#[test]
fn one_blocks_for_oneself_and_within_bounds() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let (ada, bob) = (&cast.member, &cast.owner);
        for list in ["/v1/me/blocks", "/v1/me/mutes"] {
            problem(system.client().get(list).await, 401);
            problem(put(ada, &format!("{list}/{}", ada.user)).await, 400);
            problem(put(ada, &format!("{list}/0190a0a0-0000-7000-8000-00000000c1c1")).await, 404);
            // Whoever one is, and wherever the other is.
            for (_, client) in cast.everyone().into_iter().filter(|(name, _)| *name != "owner") {
                put(client, &format!("{list}/{}", bob.user)).await.expect(204);
                let listed = client.get(list).await.expect(200);
                assert_eq!(listed.body["items"][0]["user"], json!({"id": bob.user, "name": "Owen"}));
                assert_eq!(listed.body["items"].as_array().unwrap().len(), 1);
            }
            assert_eq!(bob.get(list).await.expect(200).body["items"], json!([]), "nobody is told");
            put(ada, &format!("{list}/{}", cast.stranger.user)).await.expect(204);
            let first = ada.get(&format!("{list}?limit=1")).await.expect(200);
            assert_eq!(first.body["items"][0]["user"]["id"], cast.stranger.user);
            let second = ada.get(&format!("{list}?limit=1&cursor={}", first.text("/next"))).await.expect(200);
            assert_eq!(
                (&second.body["items"][0]["user"]["id"], &second.body["next"]),
                (&json!(bob.user), &Value::Null)
            );
            // At the quota one keeps whom one has, and has no room for others.
            let (table, column) =
                if list.ends_with("blocks") { ("blocks", "blocked_id") } else { ("mutes", "muted_id") };
            system.sql(&format!(
                "insert into {table} (user_id, {column}) select '{}', gen_random_uuid() from generate_series(1, 998)",
                ada.user
            ));
            put(ada, &format!("{list}/{}", bob.user)).await.expect(204);
            let full = problem(put(ada, &format!("{list}/{}", cast.moderator.user)).await, 422);
            assert_eq!((&full["code"], &full["limit"]), (&json!("quota-exceeded"), &json!(table)));
        }
    });
}
