//! Notifications and activity: who is notified of an event, and who may see the activity of others.

use std::time::{Duration, Instant};

use optimist_tests::{Answer, Client};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Cast, on_own_system, on_system, problem};

/// Waits until exactly `unread` notifications are unread; returns the list.
async fn told(client: &Client, unread: u64) -> Vec<Value> {
    let deadline = optimist_tests::patience();
    loop {
        let count = client.get("/v1/notifications/unread-count").await.expect(200).body["unread"].as_u64();
        if count == Some(unread) {
            let list = client.get("/v1/notifications?limit=100").await.expect(200);
            return list.body["items"].as_array().unwrap().clone();
        }
        if Instant::now() >= deadline {
            let list = client.get("/v1/notifications?limit=100").await;
            panic!("{count:?} are unread, not {unread}: {list:#?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The kinds in a list, newest first.
fn kinds(list: &[Value]) -> Vec<&str> {
    list.iter().map(|item| item["kind"].as_str().unwrap()).collect()
}

async fn react(client: &Client, message: &str, kind: &str, on: bool) -> Answer {
    let method = if on { Method::PUT } else { Method::DELETE };
    client.send(method, &format!("{message}/reactions/{kind}"), &[], None).await.expect(202)
}

#[test]
fn members_are_told_of_a_message_and_nobody_else() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        // All are told of the member's first message; the moderator also of the new role.
        assert_eq!(kinds(&told(&cast.owner, 1).await), ["message"]);
        let list = told(&cast.moderator, 2).await;
        assert_eq!(kinds(&list), ["message", "role"]);
        assert_eq!((&list[1]["role"], &list[1]["actor"]["name"]), (&json!("moderator"), &json!("Owen")));
        let item = &list[0];
        assert_eq!(item["message_id"], cast.message.as_str());
        assert_eq!(item["circle"], json!({"id": cast.circle, "name": "A circle"}));
        assert_eq!((&item["actor"]["name"], &item["others"]), (&json!("Meg"), &json!(0)));
        assert_eq!((&item["read"], &item["invite"]), (&json!(false), &Value::Null));
        told(&cast.member, 0).await;
        for outsider in [&cast.former, &cast.banned, &cast.stranger] {
            assert_eq!(told(outsider, 0).await, Vec::<Value>::new());
        }
    });
}

#[test]
fn reading_counts_down_and_is_ones_own_affair() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        for number in 0..3 {
            cast.owner.say(&cast.circle, &format!("{number}")).await;
        }
        let list = told(&cast.member, 3).await;
        assert_eq!(kinds(&told(&cast.owner, 1).await), ["message"]);
        let path = format!("/v1/notifications/{}/read", list[1]["id"].as_str().unwrap());
        // Another member may have a different notification under this id; a stranger has none.
        problem(cast.stranger.post(&path, Value::Null).await, 404);
        problem(system.client().post(&path, Value::Null).await, 401);
        for _ in 0..2 {
            let answer = cast.member.post(&path, Value::Null).await.expect(200);
            assert_eq!(answer.body, json!({"unread": 2}), "once, however often");
            let count = cast.member.get("/v1/notifications/unread-count").await.expect(200);
            assert_eq!(count.body, answer.body, "one's own change is seen at once");
        }
        let read: Vec<bool> =
            told(&cast.member, 2).await.iter().map(|item| item["read"].as_bool().unwrap()).collect();
        assert_eq!(read, [false, true, false]);
        told(&cast.moderator, 5).await;
        let answer = cast.member.post("/v1/notifications/read", Value::Null).await.expect(200);
        assert_eq!(answer.body, json!({"unread": 0}));
        assert!(told(&cast.member, 0).await.iter().all(|item| item["read"] == true));
        // Page after page, newest first.
        let first = cast.moderator.get("/v1/notifications?limit=2").await.expect(200);
        let second = format!("/v1/notifications?limit=2&before={}", first.text("/next"));
        let second = cast.moderator.get(&second).await.expect(200);
        let items = |answer: &Answer| answer.body["items"].as_array().unwrap().clone();
        assert_eq!([items(&first), items(&second)].concat(), told(&cast.moderator, 5).await[..4]);
        problem(cast.moderator.get("/v1/notifications?before=x").await, 400);
    });
}

#[test]
fn reactions_are_folded_until_they_are_read() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let message = cast.path(&format!("/messages/{}", cast.message));
        // Members are not notified of their own reactions.
        react(&cast.member, &message, "heart", true).await;
        react(&cast.owner, &message, "heart", true).await;
        let list = told(&cast.member, 1).await;
        assert_eq!((&list[0]["kind"], &list[0]["actor"]["name"]), (&json!("reaction"), &json!("Owen")));
        assert_eq!((&list[0]["others"], &list[0]["message_id"]), (&json!(0), &json!(cast.message)));
        let others = async |others: u64, name: &str| {
            let deadline = optimist_tests::patience();
            loop {
                let list = told(&cast.member, 1).await;
                if list[0]["others"] == others && list[0]["actor"]["name"] == name {
                    return list[0]["id"].as_str().unwrap().to_owned();
                }
                assert!(Instant::now() < deadline, "{list:#?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        // Another person counts; another kind by the same person does not.
        react(&cast.owner, &message, "hug", true).await;
        react(&cast.moderator, &message, "heart", true).await;
        let folded = others(1, "Mo").await;
        react(&cast.moderator, &message, "heart", false).await;
        others(0, "Owen").await;
        react(&cast.owner, &message, "heart", false).await;
        react(&cast.moderator, &message, "laugh", true).await;
        assert_eq!(others(1, "Mo").await, folded, "the hug is left");
        for (who, kind) in [(&cast.owner, "hug"), (&cast.moderator, "laugh")] {
            react(who, &message, kind, false).await;
        }
        assert_eq!(told(&cast.member, 0).await, Vec::<Value>::new(), "nobody is left");
        react(&cast.owner, &message, "heart", true).await;
        told(&cast.member, 1).await;
        cast.member.post("/v1/notifications/read", Value::Null).await.expect(200);
        react(&cast.moderator, &message, "heart", true).await;
        let list = told(&cast.member, 1).await;
        assert_eq!(kinds(&list), ["reaction", "reaction"], "what was read stays");
        assert_eq!((&list[0]["actor"]["name"], &list[0]["others"]), (&json!("Mo"), &json!(0)));
        assert_eq!((&list[1]["read"], &list[1]["actor"]["name"]), (&json!(true), &json!("Owen")));
    });
}

#[test]
fn an_invitation_for_one_person_is_told_and_theirs_alone() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let other = system.register("Oz").await;
        let invite = async |client: &Client, user: &str| {
            client.post(&cast.path("/invites"), json!({"user": user})).await
        };
        for (who, reason) in [(&cast.member, "member"), (&cast.banned, "banned")] {
            let refused = problem(invite(&cast.owner, &who.user).await, 422);
            assert_eq!(refused["errors"][0]["field"], "user");
            assert!(refused["errors"][0]["reason"].as_str().unwrap().contains(reason), "{refused}");
        }
        problem(invite(&cast.owner, &uuid::Uuid::now_v7().to_string()).await, 422);
        problem(invite(&cast.member, &other.user).await, 403);
        let token = invite(&cast.moderator, &other.user).await.expect(201).text("/invite");
        let list = told(&other, 1).await;
        assert_eq!((&list[0]["kind"], &list[0]["actor"]["name"]), (&json!("invite"), &json!("Mo")));
        assert_eq!(list[0]["invite"], token.as_str());
        let join = json!({"invite": token});
        problem(cast.stranger.post(&cast.path("/members/me"), join.clone()).await, 404);
        other.post(&cast.path("/members/me"), join).await.expect(201);
        assert_eq!(told(&other, 1).await[0]["invite"], Value::Null, "it is used up");
    });
}

#[test]
fn who_leaves_or_is_removed_keeps_nothing_of_the_circle() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        told(&cast.owner, 1).await;
        let list = told(&cast.moderator, 2).await;
        cast.moderator.delete(&cast.path("/members/me")).await.expect(204);
        assert_eq!(told(&cast.moderator, 0).await, Vec::<Value>::new());
        let path = format!("/v1/notifications/{}/read", list[0]["id"].as_str().unwrap());
        problem(cast.moderator.post(&path, Value::Null).await, 404);
        let message = cast.path(&format!("/messages/{}", cast.message));
        react(&cast.owner, &message, "heart", true).await;
        told(&cast.member, 1).await;
        cast.owner.delete(&cast.path(&format!("/members/{}?ban=true", cast.member.user))).await.expect(204);
        assert_eq!(told(&cast.member, 0).await, Vec::<Value>::new());
        react(&cast.owner, &message, "hug", true).await;
        cast.owner.say(&cast.circle, "Among us.").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        for gone in [&cast.moderator, &cast.member] {
            assert_eq!(told(gone, 0).await, Vec::<Value>::new());
        }
    });
}

/// A member is leaving while a reaction is flushed to Postgres, and has left before that commits.
#[test]
fn who_is_leaving_is_told_nothing_more() {
    on_own_system(async |system| {
        let cast = Cast::new(system, "private").await;
        told(&cast.member, 0).await;
        told(&cast.owner, 1).await;
        let origin = &system.origins[0];
        for (step, millis) in [("flush.read", 800), ("flush.applied", 1_800), ("tx.statements", 1_700)] {
            origin.arm(step, "pause", millis, 1).await;
        }
        let message = cast.path(&format!("/messages/{}", cast.message));
        react(&cast.owner, &message, "heart", true).await;
        cast.member.delete(&cast.path("/members/me")).await.expect(204);
        let flushed = format!("select count(*) from reactions where message_id = '{}'", cast.message);
        let deadline = optimist_tests::patience();
        while system.sql(&flushed) != "1" {
            assert!(Instant::now() < deadline, "not flushed");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(told(&cast.member, 0).await, Vec::<Value>::new());
    });
}

#[test]
fn activity_is_counted_and_shown_to_moderators() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let message = cast.path(&format!("/messages/{}", cast.message));
        for _ in 0..3 {
            let answer = cast.member.post(&cast.path("/visits"), Value::Null).await.expect(202);
            assert_eq!(answer.body, json!({"promise": "redis"}));
        }
        // By now the edge has all the state that it needs.
        let answer = cast.member.post(&cast.path("/visits"), Value::Null).await.expect(202);
        assert!(!answer.header("server-timing").contains("origin"), "{answer:#?}");
        react(&cast.owner, &message, "heart", true).await;
        react(&cast.owner, &message, "heart", true).await;
        let deadline = optimist_tests::patience();
        let today = loop {
            let today = cast.moderator.get(&cast.path("/activity/live")).await.expect(200).body;
            if today["posts"] == 1 && today["reactions"] == 1 {
                break today;
            }
            assert!(Instant::now() < deadline, "{today}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(today["people"], 2);
        // The five-minute window may have ended meanwhile.
        assert!((1..=2).contains(&today["visits"].as_i64().unwrap()), "{today}");
        let history = cast.owner.get(&cast.path("/activity/history")).await.expect(200);
        // Without replicas it is of the moment of reading.
        let as_of: chrono::DateTime<chrono::Utc> = history.text("/as_of").parse().unwrap();
        assert!((chrono::Utc::now() - as_of).num_seconds().abs() < 10, "{history:#?}");
        let of = |who: &Client| {
            let items = history.body["items"].as_array().unwrap().iter();
            items.filter(|item| item["user"]["id"] == who.user.as_str()).cloned().collect::<Vec<_>>()
        };
        let (member, owner) = (of(&cast.member), of(&cast.owner));
        assert_eq!((&member[0]["posts"], &member[0]["reactions"]), (&json!(1), &json!(0)));
        assert!(member[0]["visits"].as_i64().unwrap() >= 1);
        assert_eq!(
            (&owner[0]["posts"], &owner[0]["reactions"], &owner[0]["visits"]),
            (&json!(0), &json!(1), &json!(0))
        );
        assert!(member[0]["last_seen_at"].is_string());
        let first = cast.owner.get(&cast.path("/activity/history?limit=1")).await.expect(200);
        let second = cast.path(&format!("/activity/history?limit=1&cursor={}", first.text("/next")));
        let second = cast.owner.get(&second).await.expect(200);
        assert_ne!(first.body["items"][0]["user"], second.body["items"][0]["user"]);
        for (name, client) in cast.everyone() {
            let (live, history) = match name {
                "owner" | "moderator" => (200, 200),
                "member" => (403, 403),
                _ => (404, 404),
            };
            client.get(&cast.path("/activity/live")).await.expect(live);
            client.get(&cast.path("/activity/history")).await.expect(history);
            let visited = if live == 404 { 404 } else { 202 };
            client.post(&cast.path("/visits"), Value::Null).await.expect(visited);
        }
    });
}
