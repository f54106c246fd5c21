//! Read markers, and what one's own circles say is new.

use optimist_tests::{Answer, Client};
use reqwest::Method;
use serde_json::{Value, json};

use super::presence::{is_answered_at_the_edge, until_known};
use super::{Cast, on_system, problem};

async fn mark(client: &Client, circle: &str, body: Value) -> Answer {
    let path = format!("/v1/circles/{circle}/read");
    client.send(Method::PUT, &path, &[], Some(body.to_string().into_bytes())).await
}

async fn listed(client: &Client, circle: &str) -> Value {
    let list = client.get("/v1/me/circles").await.expect(200).body;
    let mut items = list["items"].as_array().unwrap().iter();
    items.find(|item| item["id"] == circle).cloned().unwrap_or(Value::Null)
}

/// Up to where one has read, and how much is left.
async fn markers(client: &Client, circle: &str) -> (Value, Value) {
    let item = listed(client, circle).await;
    (item["read_number"].clone(), item["unread"].clone())
}

#[test]
fn a_marker_says_what_is_unread_and_only_grows() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let circle = &cast.circle;
        // The member's message came after the others had joined.
        assert_eq!(markers(&cast.member, circle).await, (json!(1), json!(0)), "one has read what one posts");
        assert_eq!(markers(&cast.owner, circle).await, (json!(0), json!(1)));
        cast.member.say(circle, "Is anyone there?").await;
        assert_eq!(markers(&cast.owner, circle).await, (json!(0), json!(2)));
        // By the origin first, and then by the edge, which knows the session and the circle by then.
        mark(&cast.owner, circle, json!({"number": 1})).await.expect(204);
        assert_eq!(markers(&cast.owner, circle).await, (json!(1), json!(1)));
        until_known(&cast.owner).await;
        let marked = mark(&cast.owner, circle, json!({"number": 2})).await.expect(204);
        assert!(is_answered_at_the_edge(&marked), "{marked:#?}");
        assert_eq!(marked.header("content-type"), "");
        assert_eq!(markers(&cast.owner, circle).await, (json!(2), json!(0)));
        for number in [1, 0, 2] {
            mark(&cast.owner, circle, json!({"number": number})).await.expect(204);
            assert_eq!(markers(&cast.owner, circle).await, (json!(2), json!(0)), "it does not shrink");
        }
        // What is deleted counts as well: numbers are not given twice.
        let message = cast.member.say(circle, "Never mind.").await;
        cast.member.delete(&cast.path(&format!("/messages/{message}"))).await.expect(204);
        assert_eq!(markers(&cast.owner, circle).await, (json!(2), json!(1)));
        // Nobody else's moves.
        assert_eq!(markers(&cast.moderator, circle).await, (json!(0), json!(3)));
        // An archived circle can still be read.
        cast.owner.delete(&cast.path("")).await.expect(204);
        mark(&cast.moderator, circle, json!({"number": 3})).await.expect(204);
        assert_eq!(markers(&cast.moderator, circle).await, (json!(3), json!(0)));
    });
}

#[test]
fn whoever_joins_has_nothing_unread_yet() {
    on_system(|system| async move {
        let cast = Cast::new(system, "public").await;
        let circle = &cast.circle;
        cast.member.say(circle, "Before you came.").await;
        for newcomer in [&cast.stranger, &cast.former] {
            newcomer.join(circle, &cast.owner).await;
            assert_eq!(markers(newcomer, circle).await, (json!(2), json!(0)));
        }
        cast.member.say(circle, "Welcome!").await;
        assert_eq!(markers(&cast.stranger, circle).await, (json!(2), json!(1)));
        // Leaving ends it; whoever comes back begins anew.
        cast.stranger.delete(&cast.path("/members/me")).await.expect(204);
        assert_eq!(listed(&cast.stranger, circle).await, Value::Null);
        cast.stranger.join(circle, &cast.owner).await;
        assert_eq!(markers(&cast.stranger, circle).await, (json!(3), json!(0)));
    });
}

#[test]
fn the_newest_message_is_shown_as_it_is_now() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let circle = &cast.circle;
        let message = listed(&cast.owner, circle).await["last_message"].clone();
        assert_eq!((&message["id"], &message["number"]), (&json!(cast.message), &json!(1)));
        assert_eq!(message["author"], json!({"id": cast.member.user, "name": "Meg"}));
        assert_eq!(message["excerpt"], "Good morning.");
        let long = "\u{1f33f}".repeat(200);
        let path = cast.path(&format!("/messages/{}", cast.message));
        cast.member.patch(&path, json!({"body": long})).await.expect(200);
        let excerpt = listed(&cast.owner, circle).await["last_message"]["excerpt"].clone();
        assert_eq!(excerpt.as_str().unwrap().chars().count(), 140, "{excerpt}");
        cast.owner.patch(&cast.path(""), json!({"name": "Renamed"})).await.expect(200);
        assert_eq!(listed(&cast.member, circle).await["name"], "Renamed");
        cast.member.delete(&path).await.expect(204);
        let item = listed(&cast.owner, circle).await;
        assert_eq!((&item["last_message"], &item["last_number"]), (&Value::Null, &json!(1)));
        assert!(item["last_message_at"].is_string(), "{item}");
    });
}

#[test]
fn only_members_mark_and_only_what_there_is() {
    on_system(|system| async move {
        let cast = Cast::new(system, "public").await;
        for (who, client) in cast.everyone() {
            // The edge knows some of them, and some not.
            for _ in 0..2 {
                let answer = mark(client, &cast.circle, json!({"number": 1})).await;
                match who {
                    "stranger" | "former" => drop(problem(answer, 403)),
                    "banned" => drop(problem(answer, 404)),
                    _ => drop(answer.expect(204)),
                }
            }
        }
        problem(mark(&system.client(), &cast.circle, json!({"number": 1})).await, 401);
        let nowhere = uuid::Uuid::now_v7().to_string();
        problem(mark(&cast.member, &nowhere, json!({"number": 0})).await, 404);
        until_known(&cast.member).await;
        for body in [
            json!({"number": 2}),
            json!({"number": u64::MAX}),
            json!({"number": -1}),
            json!({"number": 1.5}),
            json!({"number": "1"}),
            json!({}),
            json!({"number": null}),
        ] {
            let refused = problem(mark(&cast.member, &cast.circle, body.clone()).await, 422);
            assert_eq!(refused["errors"][0]["field"], "number", "{body}: {refused}");
        }
        let refused = problem(mark(&cast.member, &cast.circle, json!({"number": 1, "at": 1})).await, 422);
        assert_eq!(refused["errors"][0]["field"], "at", "{refused}");
        let twice = br#"{"number": 1, "number": 1}"#.to_vec();
        let path = cast.path("/read");
        problem(cast.member.send(Method::PUT, &path, &[], Some(twice)).await, 422);
        assert_eq!(markers(&cast.member, &cast.circle).await, (json!(1), json!(0)));
    });
}
