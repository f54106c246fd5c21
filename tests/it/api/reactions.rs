//! Reactions: one's own are visible at once, counts are current in every read, and callers without the right see and
//! change nothing.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use optimist_tests::{Answer, Client};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Cast, on_system, problem};

async fn react(client: &Client, path: &str, kind: &str) -> Answer {
    client.send(Method::PUT, &format!("{path}/reactions/{kind}"), &[], None).await
}

async fn take_back(client: &Client, path: &str, kind: &str) -> Answer {
    client.delete(&format!("{path}/reactions/{kind}")).await
}

#[test]
fn a_reaction_is_made_once_and_seen_at_once_everywhere() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let path = cast.path(&format!("/messages/{}", cast.message));
        let nobody = cast.member.get(&path).await.expect(200);
        assert_eq!(nobody.body["reactions"], json!({}));
        for _ in 0..2 {
            let answer = react(&cast.member, &path, "heart").await.expect(202);
            assert_eq!(answer.body["kind"], "heart");
            assert_eq!(answer.body["reacted"], true);
            assert_eq!(answer.body["counts"], json!({"heart": 1}), "once, however often");
            assert_eq!(answer.body["promise"], "redis");
        }
        react(&cast.owner, &path, "heart").await.expect(202);
        react(&cast.member, &path, "laugh").await.expect(202);
        let counts = json!({"heart": 2, "laugh": 1});
        for client in [&cast.owner, &cast.moderator, &cast.member] {
            for read in [path.clone(), cast.path("/messages"), cast.path("/messages?limit=1")] {
                for _ in 0..3 {
                    let answer = client.get(&read).await.expect(200);
                    let item = answer.body.pointer("/items/0").unwrap_or(&answer.body);
                    assert_eq!(item["reactions"], counts, "{read}: {answer:#?}");
                }
            }
        }
        let listed = cast.member.get(&format!("{path}/reactions")).await.expect(200);
        assert_eq!(listed.body["counts"], counts);
        assert_eq!(listed.body["mine"], json!(["heart", "laugh"]));
        let own = |answer: &Answer| {
            let items = answer.body["items"].as_array().unwrap().clone();
            let mine = items.into_iter().filter(|item| item["user"]["id"] == cast.member.user.as_str());
            let mut kinds: Vec<String> = mine.map(|item| item["kind"].as_str().unwrap().to_owned()).collect();
            kinds.sort();
            kinds
        };
        assert_eq!(own(&listed), ["heart", "laugh"], "one's own at once");
        for _ in 0..2 {
            let answer = take_back(&cast.member, &path, "heart").await.expect(202);
            assert_eq!(answer.body["reacted"], false);
            assert_eq!(answer.body["counts"], json!({"heart": 1, "laugh": 1}));
        }
        let listed = cast.member.get(&format!("{path}/reactions")).await.expect(200);
        assert_eq!((own(&listed), &listed.body["mine"]), (vec!["laugh".to_owned()], &json!(["laugh"])));
        // A message's tag changes with its counts, but `If-Match` compares only the text.
        let tag = cast.member.get(&path).await.expect(200).header("etag").to_owned();
        react(&cast.owner, &path, "thanks").await.expect(202);
        cast.member.send(Method::GET, &path, &[("if-none-match", &tag)], None).await.expect(200);
        let body = json!({"body": "Good evening."}).to_string().into_bytes();
        let edited = cast.member.send(Method::PATCH, &path, &[("if-match", &tag)], Some(body)).await;
        assert_eq!(edited.expect(200).body["reactions"], json!({"heart": 1, "laugh": 1, "thanks": 1}));
    });
}

/// However the cached page of counts was made, and whatever has changed a count or the list since.
#[test]
fn every_page_shows_the_counts_of_its_moment() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let mut messages = vec![cast.message.clone()];
        let mut hearts: Vec<u64> = vec![0];
        for step in 0..60 {
            system.forget_limits_of(&cast.member).await;
            if step % 3 == 0 && messages.len() < 25 {
                messages.push(cast.member.say(&cast.circle, &format!("Number {step}.")).await);
                hearts.push(0);
            }
            // On the newest page, and on earlier ones.
            let at = step * 7 % messages.len();
            let path = cast.path(&format!("/messages/{}", messages[at]));
            if hearts[at] == 0 {
                react(&cast.member, &path, "heart").await.expect(202);
            } else {
                take_back(&cast.member, &path, "heart").await.expect(202);
            }
            hearts[at] = 1 - hearts[at];
            let limit = [20, 1, 100, 5][step % 4];
            for _ in 0..2 {
                let page = cast.member.get(&cast.path(&format!("/messages?limit={limit}"))).await.expect(200);
                let items = page.body["items"].as_array().unwrap();
                assert_eq!(items.len(), messages.len().min(limit));
                for (item, (message, hearts)) in items.iter().zip(messages.iter().zip(&hearts).rev()) {
                    assert_eq!(item["id"], message.as_str());
                    assert_eq!(
                        item["reactions"]["heart"].as_u64().unwrap_or(0),
                        *hearts,
                        "step {step}: {page:#?}"
                    );
                }
            }
        }
    });
}

#[test]
fn a_warm_reaction_is_answered_at_the_edge() {
    on_system(|system| async move {
        let cast = Cast::new(system, "public").await;
        let path = cast.path(&format!("/messages/{}", cast.message));
        // Until membership, circle access and the message's state are all in Redis.
        for _ in 0..3 {
            react(&cast.member, &path, "hug").await.expect(202);
        }
        let answer = react(&cast.member, &path, "strength").await.expect(202);
        assert_eq!(answer.body["counts"], json!({"hug": 1, "strength": 1}));
        assert!(!answer.header("server-timing").contains("origin"), "{answer:#?}");
    });
}

#[test]
fn members_alone_react_and_readers_alone_see() {
    on_system(|system| async move {
        for (visibility, refusals) in [("private", [404, 404, 404]), ("public", [403, 404, 403])] {
            let cast = Cast::new(system, visibility).await;
            let path = cast.path(&format!("/messages/{}", cast.message));
            for client in [&cast.owner, &cast.moderator, &cast.member] {
                react(client, &path, "heart").await.expect(202);
                take_back(client, &path, "heart").await.expect(202);
            }
            react(&cast.owner, &path, "heart").await.expect(202);
            for (client, refusal) in [&cast.former, &cast.banned, &cast.stranger].into_iter().zip(refusals) {
                problem(react(client, &path, "heart").await, refusal);
                problem(take_back(client, &path, "heart").await, refusal);
                let may_read = refusal == 403;
                let listed = client.get(&format!("{path}/reactions")).await;
                listed.expect(if may_read { 200 } else { 404 });
                // Their own reactions to a circle's messages too, whatever else is wrong with the query.
                let mine =
                    client.get(&cast.path(&format!("/reactions/mine?messages={}", cast.message))).await;
                if may_read {
                    assert_eq!(mine.expect(200).body["items"][0]["kinds"], json!([]));
                } else {
                    problem(mine, 404);
                    problem(client.get(&cast.path("/reactions/mine?messages=x")).await, 404);
                }
            }
            problem(react(&system.client(), &path, "heart").await, 401);
            problem(system.client().get(&cast.path("/reactions/mine")).await, 401);
            let counts = cast.owner.get(&path).await.expect(200).body["reactions"].clone();
            assert_eq!(counts, json!({"heart": 1}), "nobody else's counts");
        }
    });
}

#[test]
fn what_is_gone_or_closed_takes_no_reactions() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let path = cast.path(&format!("/messages/{}", cast.message));
        let refused = problem(react(&cast.member, &path, "frown").await, 400);
        assert_eq!(refused["errors"][0]["field"], "kind");
        let nothing = cast.path(&format!("/messages/{}", uuid::Uuid::new_v4()));
        problem(react(&cast.member, &nothing, "heart").await, 404);
        problem(cast.member.get(&format!("{nothing}/reactions")).await, 404);
        // The message belongs to another circle, and is not found in this one.
        let other = cast.member.create_circle("private").await;
        let elsewhere = format!("/v1/circles/{other}/messages/{}", cast.message);
        problem(react(&cast.member, &elsewhere, "heart").await, 404);
        react(&cast.member, &path, "heart").await.expect(202);
        cast.member.delete(&path).await.expect(204);
        problem(react(&cast.member, &path, "hug").await, 404);
        problem(take_back(&cast.member, &path, "heart").await, 404);
        problem(cast.member.get(&format!("{path}/reactions")).await, 404);
        // A removed member cannot react, although the message's state is in Redis.
        let message = cast.owner.say(&cast.circle, "Another.").await;
        let path = cast.path(&format!("/messages/{message}"));
        react(&cast.member, &path, "heart").await.expect(202);
        cast.owner.delete(&cast.path(&format!("/members/{}", cast.member.user))).await.expect(204);
        problem(react(&cast.member, &path, "hug").await, 404);
        // An archived circle can be read, and nothing else.
        react(&cast.moderator, &path, "hug").await.expect(202);
        cast.owner.delete(&cast.path("")).await.expect(204);
        problem(react(&cast.moderator, &path, "laugh").await, 409);
        let read = cast.moderator.get(&path).await.expect(200);
        assert_eq!(read.body["reactions"], json!({"heart": 1, "hug": 1}));
    });
}

#[test]
fn fifty_a_minute_and_failures_cost_nothing() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let path = cast.path(&format!("/messages/{}", cast.message));
        let nothing = cast.path(&format!("/messages/{}", uuid::Uuid::new_v4()));
        for _ in 0..3 {
            problem(react(&cast.member, &nothing, "heart").await, 404);
        }
        let answers = join_all((0..60).map(|_| react(&cast.member, &path, "heart"))).await;
        let admitted = answers.iter().filter(|answer| answer.status == 202).count();
        // No request is refused while fewer are admitted or in flight; some may fail on a loaded machine.
        let failed = answers.iter().filter(|answer| answer.status >= 500).count();
        assert!((50 - failed..=50).contains(&admitted), "{admitted} admitted, {failed} failed");
        let refused = answers.into_iter().find(|answer| answer.status != 202).unwrap();
        assert_eq!(problem(refused, 429)["limit"], "reactions-60s");
    });
}

#[test]
fn what_was_flushed_is_in_postgres() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let path = cast.path(&format!("/messages/{}", cast.message));
        react(&cast.member, &path, "heart").await.expect(202);
        react(&cast.owner, &path, "heart").await.expect(202);
        take_back(&cast.owner, &path, "heart").await.expect(202);
        let sql = format!(
            "select (select count(*) from reactions where message_id = '{0}' and is_on) || ' ' ||
                    (select count from reaction_counts where message_id = '{0}' and kind = 1)",
            cast.message
        );
        let deadline = optimist_tests::patience();
        while system.sql(&sql) != "1 1" {
            assert!(Instant::now() < deadline, "not flushed: {}", system.sql(&sql));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let listed = cast.owner.get(&format!("{path}/reactions")).await.expect(200);
        let items = listed.body["items"].as_array().unwrap();
        assert_eq!(items.len(), 1);
        assert_eq!(items[0]["user"]["id"], cast.member.user.as_str());
        assert_ne!(items[0]["reacted_at"], Value::Null);
    });
}

#[test]
fn everyone_who_reacted_is_found_page_by_page() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let path = cast.path(&format!("/messages/{}", cast.message));
        let kinds = ["heart", "hug", "laugh", "thanks", "strength"];
        for client in [&cast.owner, &cast.moderator] {
            for kind in kinds {
                react(client, &path, kind).await.expect(202);
            }
        }
        let on = format!("select count(*) from reactions where message_id = '{}' and is_on", cast.message);
        let deadline = optimist_tests::patience();
        while system.sql(&on) != "10" {
            assert!(Instant::now() < deadline, "not flushed: {}", system.sql(&on));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Reactions of the same moment are told apart.
        system.sql(&format!(
            "update reactions set reacted_at = '2026-03-01T08:00:00Z' where message_id = '{}'",
            cast.message
        ));
        for limit in [1, 3, 4, 10, 100] {
            let (mut found, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
            loop {
                let page =
                    cast.owner.get(&format!("{path}/reactions?limit={limit}{cursor}")).await.expect(200);
                let items = page.body["items"].as_array().unwrap();
                assert!(items.len() <= limit, "{page:#?}");
                found.extend(items.iter().map(|item| (item["user"]["id"].clone(), item["kind"].clone())));
                assert_eq!(page.body["counts"].as_object().unwrap().len(), 5);
                assert_eq!(page.body["mine"].as_array().unwrap().len(), 5);
                pages += 1;
                let Some(next) = page.body["next"].as_str() else { break };
                cursor = format!("&cursor={next}");
            }
            assert_eq!(pages, 10_usize.div_ceil(limit));
            let each = [&cast.owner, &cast.moderator].into_iter();
            for (user, kind) in each.flat_map(|client| kinds.map(|kind| (json!(client.user), json!(kind)))) {
                assert_eq!(found.iter().filter(|one| **one == (user.clone(), kind.clone())).count(), 1);
            }
            assert_eq!(found.len(), 10);
        }
        // One's own comes first at once, and once only.
        react(&cast.member, &path, "hug").await.expect(202);
        let page = cast.member.get(&format!("{path}/reactions?limit=2")).await.expect(200);
        assert_eq!(page.body["items"][0]["user"]["id"], cast.member.user.as_str());
        assert_eq!(page.body["items"].as_array().unwrap().len(), 2);
        for query in ["limit=0", "cursor=x", "colour=red"] {
            problem(cast.owner.get(&format!("{path}/reactions?{query}")).await, 400);
        }
    });
}

#[test]
fn ones_own_reactions_to_a_page_of_messages_are_one_request() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let mut messages = vec![cast.message.clone()];
        for number in 0..3 {
            messages.push(cast.owner.say(&cast.circle, &format!("{number}")).await);
        }
        let path = |message: &str| cast.path(&format!("/messages/{message}"));
        for (at, kind) in [(0, "heart"), (0, "laugh"), (2, "hug"), (3, "thanks")] {
            react(&cast.member, &path(&messages[at]), kind).await.expect(202);
        }
        react(&cast.owner, &path(&messages[1]), "heart").await.expect(202);
        take_back(&cast.member, &path(&messages[3]), "thanks").await.expect(202);
        let unknown = uuid::Uuid::new_v4().to_string();
        let asked = [&messages[2], &messages[1], &messages[0], &messages[3], &unknown, &messages[2]];
        let query = asked.map(|id| id.to_uppercase()).join(",");
        let mine = async |client: &Client| {
            let answer =
                client.get(&cast.path(&format!("/reactions/mine?messages={query}"))).await.expect(200);
            let items = answer.body["items"].as_array().unwrap().clone();
            let ids: Vec<&str> = items.iter().map(|item| item["message"].as_str().unwrap()).collect();
            assert_eq!(ids, asked[..5], "each once, in the query's order");
            items.into_iter().map(|mut item| item["kinds"].take()).collect::<Vec<_>>()
        };
        let expected = [json!(["hug"]), json!([]), json!(["heart", "laugh"]), json!([]), json!([])];
        assert_eq!(mine(&cast.member).await, expected);
        assert_eq!(mine(&cast.owner).await[1], json!(["heart"]));
        assert_eq!(mine(&cast.moderator).await, vec![json!([]); 5]);
        // Messages of another circle are none of this one.
        let other = cast.member.create_circle("private").await;
        let elsewhere = format!("/v1/circles/{other}/reactions/mine?messages={}", messages[0]);
        assert_eq!(cast.member.get(&elsewhere).await.expect(200).body["items"][0]["kinds"], json!([]));
        let ids = |count: usize| vec![unknown.clone(); count].join(",");
        let different: Vec<String> = (0..101).map(|_| uuid::Uuid::new_v4().to_string()).collect();
        let full = cast.path(&format!("/reactions/mine?messages={}", different[..100].join(",")));
        assert_eq!(cast.member.get(&full).await.expect(200).body["items"].as_array().unwrap().len(), 100);
        for (query, field) in [
            (String::new(), "messages"),
            ("?messages=".to_owned(), "messages"),
            (format!("?messages={},x", ids(1)), "messages"),
            (format!("?messages={}", different.join(",")), "messages"),
            ("?colour=red".to_owned(), "colour"),
        ] {
            let refused = problem(cast.member.get(&cast.path(&format!("/reactions/mine{query}"))).await, 400);
            assert_eq!(refused["errors"][0]["field"], field, "{refused}");
        }
    });
}
