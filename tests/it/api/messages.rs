//! Messages: posting, paging, editing, and posting the same one twice.

use std::time::Duration;

use futures_util::future::join_all;
use optimist_tests::{Answer, Client};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Cast, on_system, problem};

async fn post(client: &Client, path: &str, key: &str, body: &str) -> Answer {
    let body = json!({"body": body}).to_string().into_bytes();
    client.send(Method::POST, path, &[("idempotency-key", key)], Some(body)).await
}

#[test]
fn pages_survive_deletions_and_end() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let circle = ada.create_circle("private").await;
        let path = format!("/v1/circles/{circle}/messages");
        let mut ids = Vec::new();
        for number in 1..=7 {
            ids.push(ada.say(&circle, &format!("Number {number}.")).await);
        }
        let numbers = |answer: &Answer| -> Vec<u64> {
            answer.body["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["number"].as_u64().unwrap())
                .collect()
        };
        let first = ada.get(&format!("{path}?limit=3")).await.expect(200);
        assert_eq!(numbers(&first), [7, 6, 5]);
        // Delete the message that the cursor points at.
        ada.delete(&format!("{path}/{}", ids[4])).await.expect(204);
        let second = ada.get(&format!("{path}?limit=3&before={}", first.text("/next"))).await.expect(200);
        assert_eq!(numbers(&second), [4, 3, 2]);
        let third = ada.get(&format!("{path}?limit=3&before={}", second.text("/next"))).await.expect(200);
        assert_eq!(numbers(&third), [1]);
        assert_eq!(third.body["next"], Value::Null);
        let all = ada.get(&path).await.expect(200);
        assert_eq!(numbers(&all), [7, 6, 4, 3, 2, 1]);
        assert_eq!(all.body["next"], Value::Null);
    });
}

#[test]
fn a_client_catches_up_with_what_follows_a_place() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let path = cast.path("/messages");
        let mut ids = vec![cast.message.clone()];
        for number in 2..=6 {
            ids.push(cast.owner.say(&cast.circle, &format!("Number {number}.")).await);
        }
        let page = async |client: &Client, query: &str| client.get(&format!("{path}?{query}")).await;
        let numbers = |answer: &Answer| -> Vec<u64> {
            let items = answer.body["items"].as_array().unwrap();
            items.iter().map(|item| item["number"].as_u64().unwrap()).collect()
        };
        // From a message's number, oldest first, in steps, past one that was deleted.
        cast.owner.delete(&format!("{path}/{}", ids[3])).await.expect(204);
        let first = page(&cast.member, "after=1&limit=2").await.expect(200);
        assert_eq!(numbers(&first), [2, 3]);
        let second = page(&cast.member, &format!("after={}&limit=2", first.text("/next"))).await.expect(200);
        assert_eq!((numbers(&second), &second.body["next"]), (vec![5, 6], &Value::Null));
        assert!(second.body["items"][0]["reactions"].is_object(), "with its counts");
        // The same cursor leads both ways.
        let newest = page(&cast.member, "limit=2").await.expect(200);
        let older = page(&cast.member, &format!("before={}", newest.text("/next"))).await.expect(200);
        let newer = page(&cast.member, &format!("after={}", newest.text("/next"))).await.expect(200);
        assert_eq!((numbers(&older), numbers(&newer)), (vec![3, 2, 1], vec![6]));
        let end = page(&cast.member, "after=6").await.expect(200);
        assert_eq!((numbers(&end), &end.body["next"]), (Vec::new(), &Value::Null));
        let tag = [("if-none-match", end.header("etag"))];
        cast.member.send(Method::GET, &format!("{path}?after=6"), &tag, None).await.expect(304);

        for (query, field) in [("after=1&before=3", "before"), ("after=x", "after"), ("after=01", "after")] {
            assert_eq!(problem(page(&cast.member, query).await, 400)["errors"][0]["field"], field);
        }
        for client in [&cast.stranger, &cast.former, &cast.banned] {
            problem(page(client, "after=1").await, 404);
        }
    });
}

#[test]
fn a_message_is_its_authors_to_edit_and_a_moderators_to_delete() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let path = cast.path(&format!("/messages/{}", cast.message));
        let before = cast.member.get(&path).await.expect(200);
        assert_eq!(before.body["edited_at"], Value::Null);
        assert_eq!(before.text("/author/id"), cast.member.user);
        let tag = [("if-match", before.header("etag"))];
        let change = Some(json!({"body": "Good evening."}).to_string().into_bytes());
        let edited = cast.member.send(Method::PATCH, &path, &tag, change.clone()).await.expect(200);
        assert!(edited.body["edited_at"].is_string());
        problem(cast.member.send(Method::PATCH, &path, &tag, change).await, 412);
        problem(cast.stranger.delete(&path).await, 404);
        let other = cast.owner.say(&cast.circle, "Good night.").await;
        problem(cast.member.delete(&cast.path(&format!("/messages/{other}"))).await, 403);
        cast.moderator.delete(&path).await.expect(204);
        cast.moderator.delete(&path).await.expect(204);
        problem(cast.member.get(&path).await, 404);
        problem(cast.member.patch(&path, json!({"body": "Back."})).await, 404);
    });
}

#[test]
fn a_message_of_another_circle_is_not_found_here() {
    on_system(|system| async move {
        let (cast, other) = (Cast::new(system, "private").await, Cast::new(system, "private").await);
        let path = other.path(&format!("/messages/{}", cast.message));
        problem(other.owner.get(&path).await, 404);
        problem(other.owner.delete(&path).await, 404);
    });
}

#[test]
fn the_same_key_posts_once() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let path = cast.path("/messages");
        // Ten requests at once, and then one more.
        let answers = join_all((0..10).map(|_| post(&cast.owner, &path, "key-1", "Once."))).await;
        let first = answers[0].clone().expect(201);
        for answer in answers {
            assert_eq!(answer.expect(201).body, first.body);
        }
        assert_eq!(post(&cast.owner, &path, "key-1", "Once.").await.expect(201).body, first.body);
        let other_body = problem(post(&cast.owner, &path, "key-1", "Twice.").await, 422);
        assert_eq!(other_body["code"], "idempotency-key-reused");
        // The same key is independent for another person or another route.
        assert_ne!(
            post(&cast.member, &path, "key-1", "Once.").await.expect(201).body["id"],
            first.body["id"]
        );
        let left = cast.owner.get("/v1/me/limits").await.expect(200);
        let messages =
            left.body["items"].as_array().unwrap().iter().find(|item| item["policy"] == "messages-60s");
        assert_eq!(messages.unwrap()["remaining"], 9, "charged once: {:#?}", left.body);
        let listed = cast.owner.get(&path).await.expect(200);
        assert_eq!(listed.body["items"].as_array().unwrap().len(), 3);
    });
}

#[test]
fn the_same_key_answers_after_the_message_has_changed_hands() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let path = cast.path("/messages");
        let first = post(&cast.member, &path, "key-2", "Mine.").await.expect(201);
        cast.owner.delete(&cast.path(&format!("/members/{}", cast.member.user))).await.expect(204);
        // A removed member learns nothing more, not even by a retry.
        problem(post(&cast.member, &path, "key-2", "Mine.").await, 404);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let seen = cast.owner.get(&format!("{path}/{}", first.text("/id"))).await.expect(200);
        assert_eq!(seen.text("/body"), "Mine.");
    });
}
