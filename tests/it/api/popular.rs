//! Popular messages.

use optimist_shared::keys::Key;
use optimist_tests::{Client, Origin, System};
use reqwest::Method;
use serde_json::json;

use super::{Cast, on_own_system, problem};

/// Ranks, in the service's environment and one more setting; the serving origins read the list anew.
async fn rank(system: &System, setting: Option<(&str, &str)>) {
    let setting = setting.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let settings: Vec<_> = system.environment().into_iter().chain(setting).collect();
    let (succeeded, output) = Origin::command(&settings, &["jobs", "run", "messages.rank"]);
    assert!(succeeded, "{output}");
    let mut redis = system.redis.connect().await;
    let _: () = redis::cmd("DEL").arg(Key::popular().name()).query_async(&mut redis).await.unwrap();
}

/// The messages' ids, in order.
async fn popular(client: &Client, query: &str) -> Vec<String> {
    let list = client.get(&format!("/v1/messages/popular{query}")).await.expect(200).body;
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["message"]["id"].as_str().unwrap().to_owned()).collect()
}

async fn react(client: &Client, circle: &str, message: &str) {
    let path = format!("/v1/circles/{circle}/messages/{message}/reactions/heart");
    client.send(Method::PUT, &path, &[], None).await.expect(202);
}

#[test]
fn the_most_engaging_messages_of_public_circles_come_first() {
    on_own_system(async |system| {
        let (cast, hidden) = (Cast::new(system, "public").await, Cast::new(system, "private").await);
        cast.owner.patch(&cast.path(""), json!({"category": "sleep"})).await.expect(200);
        let (owner, member) = (&cast.owner, &cast.member);
        let loud = owner.say(&cast.circle, "Who sleeps well?").await;
        let other = owner.create_circle("public").await;
        let quiet = owner.say(&other, "Nobody asks.").await;
        let unloved = owner.say(&other, "Nobody answers.").await;
        // Three, two and one; and four where nobody else may read.
        for person in [owner, &cast.moderator, member] {
            react(person, &cast.circle, &loud).await;
        }
        let comments = cast.path(&format!("/messages/{}/comments", cast.message));
        owner.post(&comments, json!({"body": "I do."})).await.expect(201);
        react(owner, &cast.circle, &cast.message).await;
        react(owner, &other, &quiet).await;
        for person in [&hidden.owner, &hidden.moderator, &hidden.member] {
            react(person, &hidden.circle, &hidden.message).await;
        }
        let counted =
            "select coalesce(sum(reactions), 0) || ' ' || coalesce(sum(posts), 0) from activity_days";
        optimist_tests::until("all is counted", async || system.sql(counted) == "8 6").await;
        rank(system, None).await;
        // As good as simultaneous: a comment weighs as much as two reactions.
        let expected = [&cast.message, &loud, &quiet].map(String::clone);
        let mut found = popular(&cast.stranger, "").await;
        assert_eq!(found.last(), Some(&quiet));
        found.sort();
        let mut sorted = expected.to_vec();
        sorted.sort();
        assert_eq!(found, sorted, "{unloved} has no reactions, {} is private", hidden.message);
        let list = cast.stranger.get("/v1/messages/popular").await.expect(200).body;
        let first = &list["items"][0]["message"];
        assert!(first["body"].is_string() && first["reactions"]["heart"].is_number(), "{list}");
        assert_eq!(list["next"], json!(null));
        // By pages and by category.
        let page = cast.stranger.get("/v1/messages/popular?limit=2").await.expect(200);
        let rest = popular(&cast.stranger, &format!("?cursor={}", page.text("/next"))).await;
        assert_eq!(rest, std::slice::from_ref(&quiet));
        assert_eq!(popular(&cast.stranger, "?category=sleep").await.len(), 2);
        assert_eq!(popular(&cast.stranger, "?category=grief").await, Vec::<String>::new());
        for bad in ["?category=A", "?limit=0", "?cursor=x", "?order=new"] {
            problem(cast.stranger.get(&format!("/v1/messages/popular{bad}")).await, 400);
        }
        problem(system.client().get("/v1/messages/popular").await, 401);
        // Whom the circle has banned sees nothing of it; who has left does.
        assert_eq!(popular(&cast.banned, "").await, std::slice::from_ref(&quiet));
        assert_eq!(popular(&cast.former, "").await.len(), 3);
        // Nor is anything shown by somebody whom one has blocked.
        cast.former.send(Method::PUT, &format!("/v1/me/blocks/{}", owner.user), &[], None).await.expect(204);
        assert_eq!(popular(&cast.former, "").await, std::slice::from_ref(&cast.message));
        // What changes since shows at once, whatever the list says.
        owner.delete(&cast.path(&format!("/messages/{loud}"))).await.expect(204);
        assert_eq!(popular(&cast.stranger, "").await, [cast.message.clone(), quiet.clone()]);
        owner.patch(&cast.path(""), json!({"visibility": "private"})).await.expect(200);
        assert_eq!(popular(&cast.stranger, "").await, std::slice::from_ref(&quiet));
        assert_eq!(popular(member, "").await, std::slice::from_ref(&quiet), "only what everybody may read");
        // While requests wait for Postgres, the list stays as it is.
        rank(system, Some(("OPTIMIST_TEST_DISABLED", "spare-connections"))).await;
        assert_eq!(system.sql("select count(*) from popular_messages"), "3");
        rank(system, None).await;
        assert_eq!(system.sql("select message_id from popular_messages"), quiet);
        owner.delete(&format!("/v1/circles/{other}")).await.expect(204);
        assert_eq!(popular(owner, "").await, Vec::<String>::new());
    });
}
