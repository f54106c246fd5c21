//! Presence, typing, and messages that are being composed, as clients see them.

use optimist_tests::until;
use optimist_tests::{Answer, Client};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Cast, on_system, problem};

async fn put(client: &Client, path: &str, body: Value) -> Answer {
    client.send(Method::PUT, path, &[], Some(body.to_string().into_bytes())).await
}

pub async fn say(client: &Client, state: &str, device: &str) -> Answer {
    put(client, "/v1/me/presence", json!({"state": state, "device": device})).await
}

pub async fn state_of(of: &str, client: &Client) -> String {
    client.get(&format!("/v1/users/{of}/presence")).await.expect(200).text("/state")
}

/// Asks until the edge knows the session, so that it answers by itself.
pub async fn until_known(client: &Client) {
    for _ in 0..200 {
        if client.get("/v1/auth/session").await.expect(200).header("cache-status").is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the edge does not know the session");
}

pub fn is_answered_at_the_edge(answer: &Answer) -> bool {
    !answer.header("server-timing").contains("origin")
}

#[test]
fn the_strongest_state_of_ones_devices_counts() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let meg = &cast.member;
        assert_eq!(state_of(&meg.user, &cast.owner).await, "offline");
        for (state, device, whole, others) in [
            ("away", "phone", "away", "away"),
            ("online", "desk", "online", "online"),
            ("busy", "phone", "busy", "busy"),
            ("online", "desk", "busy", "busy"),
            ("invisible", "desk", "invisible", "offline"),
            ("online", "phone", "invisible", "offline"),
            ("away", "desk", "online", "online"),
        ] {
            let said = say(meg, state, device).await.expect(200);
            let expected = json!({"promise": "redis-only", "state": whole, "expires_in": 300});
            assert_eq!(said.body, expected, "{state} on the {device}");
            assert_eq!(state_of(&meg.user, &cast.owner).await, others);
            assert_eq!(state_of(&meg.user, meg).await, whole);
        }
    });
}

#[test]
fn presence_is_for_those_who_share_a_circle() {
    on_system(|system| async move {
        let cast = Cast::new(system, "public").await;
        say(&cast.member, "online", "phone").await.expect(200);
        let nobody = uuid::Uuid::now_v7().to_string();
        for (name, client) in cast.everyone() {
            let unknown = problem(client.get(&format!("/v1/users/{nobody}/presence")).await, 404);
            let path = format!("/v1/users/{}/presence", cast.member.user);
            match name {
                "owner" | "moderator" | "member" => {
                    assert_eq!(client.get(&path).await.expect(200).text("/state"), "online")
                }
                _ => {
                    let hidden = problem(client.get(&path).await, 404);
                    for field in ["type", "title", "status", "code", "detail"] {
                        assert_eq!(hidden[field], unknown[field], "{name}: {field}");
                    }
                }
            }
        }
        // Nobody is in a circle whom it has banned, and nobody who has left.
        for gone in [&cast.former, &cast.banned] {
            problem(cast.owner.get(&format!("/v1/users/{}/presence", gone.user)).await, 404);
        }
    });
}

#[test]
fn a_circle_shows_who_is_there_and_who_types() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let live = async || cast.owner.get(&cast.path("/live")).await.expect(200).body;
        let none: [Value; 0] = [];
        assert_eq!(live().await, json!({"members": 3, "online": 0, "people": none, "typing": none}));
        say(&cast.member, "busy", "phone").await.expect(200);
        say(&cast.moderator, "invisible", "phone").await.expect(200);
        let people = json!([{"user_id": cast.member.user, "state": "busy"}]);
        until("people are shown", async || live().await["people"] == people).await;
        let typed = put(&cast.member, &cast.path("/typing"), Value::Null).await.expect(200);
        assert_eq!(typed.body, json!({"promise": "redis-only", "expires_in": 30}));
        let found = live().await;
        assert_eq!((&found["members"], &found["online"]), (&json!(3), &json!(1)));
        assert_eq!(found["typing"][0]["user_id"], cast.member.user.as_str());
        assert!((1..=30).contains(&found["typing"][0]["expires_in"].as_u64().unwrap()), "{found}");

        // A new member who is there is shown; a former one is not, nor as typing.
        say(&cast.stranger, "online", "phone").await.expect(200);
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        cast.stranger.join(&cast.circle, &cast.owner).await;
        until("two are online", async || live().await["online"] == 2).await;
        cast.owner.delete(&cast.path(&format!("/members/{}", cast.member.user))).await.expect(204);
        let found = live().await;
        assert_eq!(found["people"], json!([{"user_id": cast.stranger.user, "state": "online"}]));
        assert_eq!((&found["online"], &found["typing"]), (&json!(1), &json!(none)));
    });
}

#[test]
fn a_message_that_is_composed_is_shared_by_ones_devices_alone() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let path = cast.path("/draft");
        let (meg, other) = (&cast.member, cast.member.log_in().await);
        problem(meg.get(&path).await, 404);
        let text = "  Good mor\n\u{1f33f} \"quoted\" ";
        let saved = put(meg, &path, json!({"body": text})).await.expect(200);
        assert_eq!(saved.body, json!({"promise": "redis-only", "expires_in": 3600}));
        let found = other.get(&path).await.expect(200);
        assert_eq!(found.text("/body"), text);
        assert!(found.body["expires_in"].as_u64().unwrap() > 3_590, "{found:#?}");
        problem(cast.owner.get(&path).await, 404);
        put(&other, &path, json!({"body": "Evening"})).await.expect(200);
        assert_eq!(meg.get(&path).await.expect(200).text("/body"), "Evening");
        let dropped = meg.delete(&path).await.expect(200);
        assert_eq!(dropped.body, json!({"promise": "redis-only"}));
        problem(other.get(&path).await, 404);
        put(meg, &path, json!({"body": ""})).await.expect(200);
        assert_eq!(other.get(&path).await.expect(200).text("/body"), "");
        problem(meg.get(&format!("{path}?surplus=1")).await, 400);
        meg.delete(&path).await.expect(200);

        put(meg, &path, json!({"body": "Bye"})).await.expect(200);
        meg.delete(&cast.path("/members/me")).await.expect(204);
        for method in [Method::GET, Method::DELETE] {
            problem(meg.send(method, &path, &[], None).await, 404);
        }
    });
}

#[test]
fn bodies_that_are_wrong_are_refused_alike_whoever_reads_them() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        until_known(&cast.member).await;
        let draft = cast.path("/draft");
        let said = json!({"state": "online", "device": "phone"});
        put(&cast.member, &draft, json!({"body": "x"})).await.expect(200);
        for (path, body, status, field) in [
            ("/v1/me/presence", json!({"state": "online"}), 422, "device"),
            ("/v1/me/presence", json!({"state": "offline", "device": "phone"}), 422, "state"),
            ("/v1/me/presence", json!({"state": "online", "device": "my phone"}), 422, "device"),
            ("/v1/me/presence", json!({"state": "online", "device": "a", "since": 1}), 422, "since"),
            ("/v1/me/presence", json!(["online", "phone"]), 422, "body"),
            (&draft, json!({"body": 7}), 422, "body"),
            (&draft, json!({"body": "x".repeat(8_001)}), 422, "body"),
            (&draft, json!({}), 422, "body"),
        ] {
            let refused = problem(put(&cast.member, path, body.clone()).await, status);
            assert_eq!(refused["errors"][0]["field"], field, "{body}: {refused}");
        }
        let send = async |path: &str, headers: &[(&str, &str)], body: &str| {
            cast.member.send(Method::PUT, path, headers, Some(body.as_bytes().to_vec())).await
        };
        problem(send("/v1/me/presence", &[], "{\"state\"").await, 400);
        problem(send("/v1/me/presence", &[("content-type", "text/plain")], &said.to_string()).await, 415);
        problem(send("/v1/me/presence", &[("if-match", "\"1\"")], &said.to_string()).await, 412);
        problem(send("/v1/me/presence", &[], &" ".repeat(60_000)).await, 413);
        problem(send(&draft, &[], &format!("{{\"body\":\"{}\"}}", "x".repeat(101_000))).await, 413);

        // A whole body is read at the edge, at its longest too.
        let saved = say(&cast.member, "online", &"x".repeat(64)).await.expect(200);
        assert!(is_answered_at_the_edge(&saved), "{saved:#?}");
        let longest = "\u{1f33f}".repeat(8_000);
        let escaped: String = longest.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        for _ in 0..2 {
            let saved = send(&draft, &[], &format!("{{\"body\":\"{escaped}\"}}")).await.expect(200);
            assert!(is_answered_at_the_edge(&saved), "{saved:#?}");
        }
        let found = cast.member.get(&draft).await.expect(200);
        assert!(found.text("/body") == longest && is_answered_at_the_edge(&found));
    });
}

#[test]
fn drafts_of_messages_have_a_quota_and_a_limit() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let longest = "\u{1f33f}".repeat(8_000);
        // Other circles' drafts, which a person may have, without a hundred circles.
        let mut redis = system.redis.connect().await;
        let user = uuid::Uuid::parse_str(&cast.member.user).unwrap();
        let sizes = optimist_shared::keys::Key::message_drafts(user).name();
        let mut set = redis::cmd("HSET");
        set.arg(&sizes);
        for number in 0..99_u128 {
            set.arg(uuid::Uuid::from_u128(number).to_string()).arg("99999999999999 8192");
        }
        let _: () = set.query_async(&mut redis).await.unwrap();
        let path = cast.path("/draft");
        let refused = problem(put(&cast.member, &path, json!({"body": longest})).await, 422);
        assert_eq!(
            (&refused["code"], &refused["limit"]),
            (&json!("quota-exceeded"), &json!("message-drafts"))
        );
        let last = put(&cast.member, &path, json!({"body": "x".repeat(8_000)})).await.expect(200);
        // Refusals count: each has asked Redis.
        assert!(last.header("ratelimit").contains("\"message-drafts-60s\";r=118"), "{last:#?}");
        // Sizes that are over make room.
        let _: () = redis::cmd("HSET")
            .arg(&sizes)
            .arg(uuid::Uuid::from_u128(0).to_string())
            .arg("1 8192")
            .query_async(&mut redis)
            .await
            .unwrap();
        put(&cast.member, &path, json!({"body": "y"})).await.expect(200);
        for _ in 0..117 {
            put(&cast.member, &path, json!({"body": "z"})).await.expect(200);
        }
        let refused = problem(put(&cast.member, &path, json!({"body": "z"})).await, 429);
        assert_eq!(refused["limit"], "message-drafts-60s");
    });
}

#[test]
fn nobody_types_in_an_archived_circle() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        put(&cast.member, &cast.path("/typing"), Value::Null).await.expect(200);
        cast.owner.delete(&cast.path("")).await.expect(204);
        problem(put(&cast.member, &cast.path("/typing"), Value::Null).await, 409);
    });
}
