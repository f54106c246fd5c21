//! Requests to join a circle, and what moderators decide about them.

use optimist_tests::{Client, System};
use serde_json::{Value, json};

use super::{Cast, on_system, problem};

/// A circle that people ask to join.
async fn on_request(system: &System) -> Cast {
    let cast = Cast::new(system, "public").await;
    cast.owner.patch(&cast.path(""), json!({"join_policy": "on_request"})).await.expect(200);
    cast
}

async fn asking(client: &Client, cast: &Cast) -> Vec<Value> {
    let list = client.get(&cast.path("/join-requests")).await.expect(200).body;
    assert_eq!(list["next"], Value::Null);
    list["items"].as_array().unwrap().clone()
}

fn users(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["user"]["id"].as_str().unwrap()).collect()
}

#[test]
fn whoever_asks_is_let_in_by_a_moderator() {
    on_system(|system| async move {
        let cast = on_request(system).await;
        let (sam, requests) = (&cast.stranger, cast.path("/join-requests"));
        let refused = problem(sam.post(&cast.path("/members/me"), json!({})).await, 403);
        assert!(refused["detail"].as_str().unwrap().contains("asks"), "{refused}");
        problem(sam.get(&cast.path("/join-requests/me")).await, 404);
        let asked = sam.post(&requests, json!({"text": "  I bake, too.  "})).await.expect(201);
        assert_eq!(asked.body, json!({"promise": "redis-only", "expires_in": 604_800}));
        // Who asks again stands where they stood.
        let again = sam.post(&requests, json!({"text": "Let me in!"})).await.expect(200);
        assert!((604_790..=604_800).contains(&again.body["expires_in"].as_u64().unwrap()), "{again:#?}");
        sam.get(&cast.path("/join-requests/me")).await.expect(200);
        let listed = asking(&cast.moderator, &cast).await;
        assert_eq!(users(&listed), [&sam.user]);
        assert_eq!((&listed[0]["text"], &listed[0]["user"]["name"]), (&json!("I bake, too."), &json!("Sam")));

        let let_in = cast.path(&format!("/join-requests/{}/approve", sam.user));
        let member = cast.moderator.post(&let_in, json!({})).await.expect(200).body;
        assert_eq!((&member["role"], &member["user"]["id"]), (&json!("member"), &json!(sam.user)));
        assert_eq!(sam.get(&cast.path("")).await.expect(200).body["role"], "member");
        assert_eq!(asking(&cast.owner, &cast).await, Vec::<Value>::new());
        problem(cast.moderator.post(&let_in, json!({})).await, 404);
        problem(sam.get(&cast.path("/join-requests/me")).await, 404);
        let refused = problem(sam.post(&requests, json!({})).await, 409);
        assert_eq!(refused["errors"][0]["field"], "user");
        // They are told.
        for _ in 0..400 {
            let told = sam.get("/v1/notifications").await.expect(200).body;
            if let Some(first) = told["items"].as_array().unwrap().first() {
                assert_eq!((&first["kind"], &first["role"]), (&json!("role"), &json!("member")), "{first}");
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("nobody told them");
    });
}

#[test]
fn requests_are_withdrawn_and_declined() {
    on_system(|system| async move {
        let cast = on_request(system).await;
        let requests = cast.path("/join-requests");
        for person in [&cast.stranger, &cast.former] {
            person.post(&requests, json!({})).await.expect(201);
        }
        assert_eq!(
            users(&asking(&cast.owner, &cast).await),
            [&cast.stranger.user, &cast.former.user],
            "the longest first"
        );
        let first = cast.owner.get(&format!("{requests}?limit=1")).await.expect(200).body;
        let next = first["next"].as_str().expect("a second page");
        let second = cast.owner.get(&format!("{requests}?limit=1&cursor={next}")).await.expect(200).body;
        assert_eq!(users(second["items"].as_array().unwrap()), [&cast.former.user]);
        assert_eq!(second["next"], Value::Null);
        for _ in 0..2 {
            cast.stranger.delete(&format!("{requests}/me")).await.expect(204);
        }
        let decline = format!("{requests}/{}/decline", cast.former.user);
        cast.moderator.post(&decline, json!({})).await.expect(204);
        problem(cast.moderator.post(&decline, json!({})).await, 404);
        assert_eq!(asking(&cast.owner, &cast).await, Vec::<Value>::new());
        // They may ask again.
        cast.former.post(&requests, json!({})).await.expect(201);
        // Whoever comes in by another way, or is banned, asks no longer.
        cast.stranger.post(&requests, json!({})).await.expect(201);
        let invite = cast.owner.post(&cast.path("/invites"), json!({})).await.expect(201).text("/invite");
        cast.stranger.post(&cast.path("/members/me"), json!({"invite": invite})).await.expect(201);
        let ban = cast.path(&format!("/members/{}?ban=true", cast.former.user));
        cast.owner.delete(&ban).await.expect(204);
        assert_eq!(asking(&cast.owner, &cast).await, Vec::<Value>::new());
        let approve = format!("{requests}/{}/approve", cast.former.user);
        let refused = problem(cast.owner.post(&approve, json!({})).await, 409);
        assert_eq!(refused["errors"][0]["field"], "user");
    });
}

#[test]
fn only_moderators_see_and_decide() {
    on_system(|system| async move {
        let cast = on_request(system).await;
        let requests = cast.path("/join-requests");
        cast.stranger.post(&requests, json!({})).await.expect(201);
        for (who, client) in cast.everyone() {
            let status = match who {
                "banned" => 404,
                "owner" | "moderator" => continue,
                _ => 403,
            };
            problem(client.get(&requests).await, status);
            for decision in ["approve", "decline"] {
                let path = format!("{requests}/{}/{decision}", cast.stranger.user);
                problem(client.post(&path, json!({})).await, status);
            }
        }
        for (who, status) in [("banned", 404), ("member", 409), ("owner", 409)] {
            let (_, client) = cast.everyone().into_iter().find(|(name, _)| *name == who).unwrap();
            problem(client.post(&requests, json!({})).await, status);
        }
        problem(system.client().post(&requests, json!({})).await, 401);
        problem(cast.former.post(&requests, json!({"text": "x".repeat(281)})).await, 422);
        problem(cast.owner.get(&format!("{requests}?cursor=YzowOjA")).await, 400);
        let nowhere = format!("{requests}/{}/approve", uuid::Uuid::now_v7());
        problem(cast.owner.post(&nowhere, json!({})).await, 404);
        // Of an open, an archived and a private circle nobody is asked.
        cast.owner.patch(&cast.path(""), json!({"join_policy": "open"})).await.expect(200);
        problem(cast.former.post(&requests, json!({})).await, 409);
        cast.owner
            .patch(&cast.path(""), json!({"visibility": "private", "join_policy": "on_request"}))
            .await
            .expect(200);
        problem(cast.former.post(&requests, json!({})).await, 404);
        problem(
            cast.former.post(&format!("/v1/circles/{}/join-requests", uuid::Uuid::now_v7()), json!({})).await,
            404,
        );
    });
}
