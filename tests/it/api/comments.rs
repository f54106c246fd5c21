//! Comments: a thread under a message, whose count is kept beside it.

use optimist_tests::{Answer, Client, System};
use reqwest::Method;
use serde_json::{Value, json};

use super::trail::administrator;
use super::{Cast, on_system, problem};

/// The path of a message, and of its thread.
fn paths(cast: &Cast, message: &str) -> [String; 2] {
    let path = cast.path(&format!("/messages/{message}"));
    [path.clone(), format!("{path}/comments")]
}

async fn comment(client: &Client, thread: &str, body: &str) -> String {
    client.post(thread, json!({"body": body})).await.expect(201).text("/id")
}

fn bodies(answer: &Answer) -> Vec<String> {
    let items = answer.body["items"].as_array().expect("a list");
    items.iter().map(|item| item["body"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Hearts of the first of a list.
fn hearts(answer: &Answer) -> u64 {
    let reactions = &answer.body["items"][0]["reactions"];
    assert!(reactions.is_object(), "{answer:#?}");
    reactions["heart"].as_u64().unwrap_or_default()
}

#[test]
fn a_comment_is_a_message_of_its_circle_and_its_thread_counts_it() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let [message, thread] = paths(&cast, &cast.message);
        let empty = cast.owner.get(&thread).await.expect(200);
        assert_eq!(empty.body, json!({"items": [], "next": null}));
        let before = cast.member.get(&message).await.expect(200);
        assert_eq!((&before.body["parent_id"], &before.body["comments"]), (&Value::Null, &json!(0)));

        let first = cast.owner.post(&thread, json!({"body": "And to you."})).await.expect(201);
        assert_eq!((&first.body["parent_id"], &first.body["number"]), (&json!(cast.message), &json!(2)));
        assert_eq!(first.header("location"), paths(&cast, &first.text("/id"))[0]);
        let second = comment(&cast.moderator, &thread, "Is it?").await;
        let [own, _] = paths(&cast, &second);
        cast.member.send(Method::PUT, &format!("{own}/reactions/hug"), &[], None).await.expect(202);
        cast.moderator.patch(&own, json!({"body": "Is it, though?"})).await.expect(200);

        // Twice: the origin answers, and then the edge.
        for _ in 0..2 {
            let listed = cast.member.get(&thread).await.expect(200);
            assert_eq!(bodies(&listed), ["And to you.", "Is it, though?"]);
            assert_eq!(listed.body["items"][1]["reactions"]["hug"], 1, "{listed:#?}");
            let all = cast.member.get(&cast.path("/messages")).await.expect(200);
            assert_eq!(bodies(&all), ["Is it, though?", "And to you.", "Good morning."]);
            assert_eq!(
                (&all.body["items"][2]["comments"], &all.body["items"][0]["comments"]),
                (&json!(2), &json!(0))
            );
            assert_eq!(all.body["items"][0]["parent_id"], cast.message.as_str());
            assert_eq!(cast.member.get(&message).await.expect(200).body["comments"], 2);
        }
        // Other counts are other versions for readers, and the same for authors.
        let tag = [("if-none-match", before.header("etag"))];
        cast.member.send(Method::GET, &message, &tag, None).await.expect(200);
        let tag = [("if-match", before.header("etag"))];
        let edit = Some(json!({"body": "Good evening."}).to_string().into_bytes());
        cast.member.send(Method::PATCH, &message, &tag, edit).await.expect(200);

        cast.owner.delete(&own).await.expect(204);
        cast.owner.delete(&own).await.expect(204);
        assert_eq!(bodies(&cast.member.get(&thread).await.expect(200)), ["And to you."]);
        assert_eq!(cast.member.get(&message).await.expect(200).body["comments"], 1);
    });
}

#[test]
fn the_edge_answers_with_a_thread_and_its_counts() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let [_, thread] = paths(&cast, &cast.message);
        let own = paths(&cast, &comment(&cast.owner, &thread, "And to you.").await)[0].clone();
        let mut hits = 0;
        for reacted in 0..4_u64 {
            for client in [&cast.member, &cast.moderator, &cast.member] {
                let listed = client.get(&thread).await.expect(200);
                assert_eq!(hearts(&listed), reacted);
                hits += u64::from(listed.is_hit());
            }
            if let Some(client) = [&cast.owner, &cast.moderator, &cast.member].get(reacted as usize) {
                client.send(Method::PUT, &format!("{own}/reactions/heart"), &[], None).await.expect(202);
            }
        }
        assert!(hits >= 6, "only {hits} of 12 came from the edge");
        // Not the counts of the message that the thread is about, and not of another list.
        let other = paths(&cast, &cast.owner.say(&cast.circle, "Good night.").await)[1].clone();
        comment(&cast.member, &other, "Sleep well.").await;
        for _ in 0..3 {
            assert_eq!(hearts(&cast.member.get(&other).await.expect(200)), 0);
            assert_eq!(hearts(&cast.member.get(&thread).await.expect(200)), 3);
        }
    });
}

#[test]
fn members_comment_and_readers_read() {
    on_system(|system| async move {
        let root = administrator(system).await;
        for visibility in ["private", "public"] {
            let cast = Cast::new(system, visibility).await;
            let [_, thread] = paths(&cast, &cast.message);
            comment(&cast.member, &thread, "And to me.").await;
            let is_public = visibility == "public";
            for (name, client) in cast.everyone() {
                let is_member = matches!(name, "owner" | "moderator" | "member");
                let reads = is_member || (is_public && name != "banned");
                let read = client.get(&thread).await;
                let wrote = client.post(&thread, json!({"body": "Mine."})).await;
                match (is_member, reads) {
                    (true, _) => drop((read.expect(200), wrote.expect(201))),
                    (false, true) => drop((read.expect(200), problem(wrote, 403))),
                    (false, false) => drop((problem(read, 404), problem(wrote, 404))),
                }
            }
            // Another circle's messages have no thread here.
            let elsewhere = Cast::new(system, visibility).await;
            let [_, other] = paths(&cast, &elsewhere.message);
            problem(cast.member.get(&other).await, 404);
            problem(cast.member.post(&other, json!({"body": "Mine."})).await, 404);
            let suspend = format!("/v1/admin/users/{}/suspend", cast.member.user);
            root.post(&suspend, json!({"reason": "Spam."})).await.expect(200);
            for answer in
                [cast.member.get(&thread).await, cast.member.post(&thread, json!({"body": "x"})).await]
            {
                assert!(matches!(answer.status, 401 | 403), "{answer:#?}");
            }
        }
    });
}

#[test]
fn a_thread_has_one_level_and_outlives_its_message() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let [message, thread] = paths(&cast, &cast.message);
        let first = comment(&cast.owner, &thread, "And to you.").await;
        let [own, below] = paths(&cast, &first);
        let refused = problem(cast.member.post(&below, json!({"body": "Deeper."})).await, 422);
        assert_eq!(refused["errors"][0]["field"], "message");
        assert_eq!(cast.member.get(&below).await.expect(200).body["items"], json!([]));

        let key = [("idempotency-key", "a-comment")];
        let body = || Some(json!({"body": "Once."}).to_string().into_bytes());
        let once = cast.member.send(Method::POST, &thread, &key, body()).await.expect(201);
        assert_eq!(cast.member.send(Method::POST, &thread, &key, body()).await.expect(201).body, once.body);
        cast.member.delete(&message).await.expect(204);
        // It stays to be read, and gets nothing new.
        assert_eq!(bodies(&cast.owner.get(&thread).await.expect(200)), ["And to you.", "Once."]);
        problem(cast.owner.post(&thread, json!({"body": "Late."})).await, 404);
        let again = cast.member.send(Method::POST, &thread, &key, body()).await.expect(201);
        assert_eq!(again.body["id"], once.body["id"], "it is answered as before");
        let key = [("idempotency-key", "a-late-comment")];
        problem(cast.member.send(Method::POST, &thread, &key, body()).await, 404);
        for id in [&first, &once.text("/id")] {
            cast.moderator.delete(&paths(&cast, id)[0]).await.expect(204);
        }
        problem(cast.owner.get(&thread).await, 404);
        problem(cast.owner.get(&own).await, 404);
        let nothing = paths(&cast, "0190a0a0-0000-7000-8000-000000000001")[1].clone();
        problem(cast.owner.get(&nothing).await, 404);
        problem(cast.owner.post(&nothing, json!({"body": "x"})).await, 404);
    });
}

#[test]
fn a_thread_is_read_page_by_page_through_its_months() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        // A message of half a year ago, with comments of three months.
        let old = |days: u32, last: u32| {
            let sql = format!(
                "select overlay(id_least(now() - interval '{days} days')::text placing '7000-8000-{last:012}' from 15)"
            );
            system.sql(&sql)
        };
        let parent = old(180, 1);
        let ids = [old(179, 2), old(120, 3), old(120, 4), old(3, 5)];
        let months =
            system.sql("select make_leaf('messages', leaf_now('messages') - n) from generate_series(1, 7) n");
        assert!(!months.is_empty());
        let row = |id: &str, number: usize, parent: &str| {
            format!(
                "('{id}', '{}', {number}, '{}', 'Number {number}.', {parent})",
                cast.circle, cast.owner.user
            )
        };
        let mut rows = vec![row(&parent, 100, "null")];
        rows.extend(ids.iter().zip(101..).map(|(id, number)| row(id, number, &format!("'{parent}'"))));
        system.sql(&format!(
            "insert into messages (id, circle_id, number, author_id, body, parent_id) values {};
             update messages set comments = 4, thread_months = array(
                 select distinct id_month(id) from messages where parent_id = '{parent}' order by 1)
             where id = '{parent}'",
            rows.join(", ")
        ));
        let [_, thread] = paths(&cast, &parent);
        comment(&cast.member, &thread, "Number 105.").await;
        let wanted: Vec<String> = (101..=105).map(|number| format!("Number {number}.")).collect();
        assert_eq!(bodies(&cast.member.get(&thread).await.expect(200)), wanted);
        let mut found = Vec::new();
        let mut query = "limit=2".to_owned();
        for page in 0..3 {
            let answer = cast.member.get(&format!("{thread}?{query}")).await.expect(200);
            found.extend(bodies(&answer));
            assert_eq!(answer.body["next"].is_null(), page == 2, "{answer:#?}");
            query = format!("limit=2&after={}", answer.body["next"].as_str().unwrap_or_default());
        }
        assert_eq!(found, wanted);
        assert_eq!(
            problem(cast.member.get(&format!("{thread}?after=x")).await, 400)["errors"][0]["field"],
            "after"
        );
    });
}

/// The messages whose counts differ from their comments.
fn miscounted(system: &System, circle: &str) -> String {
    system.sql(&format!(
        "select count(*) from messages m where circle_id = '{circle}' and comments <> (
             select count(*) from messages c
             where c.circle_id = m.circle_id and c.parent_id = m.id and c.deleted_at is null)"
    ))
}

#[test]
fn counts_are_those_of_an_oracle_after_random_deeds_at_once() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let people = [&cast.owner, &cast.moderator, &cast.member];
        let seed = fastrand::u64(..);
        let random = fastrand::Rng::with_seed(seed);
        let play = async |who: &Client, mut random: fastrand::Rng| {
            for _ in 0..60 {
                system.forget_limits_of(who).await;
                let page = who.get(&cast.path("/messages?limit=30")).await.expect(200);
                let items = page.body["items"].as_array().unwrap();
                let any = &items[random.usize(..items.len())];
                let [message, thread] = paths(&cast, any["id"].as_str().unwrap());
                let answer = match random.u8(..10) {
                    0 | 1 => who.post(&cast.path("/messages"), json!({"body": "New."})).await,
                    2 | 3 if any["number"] != 1 => who.delete(&message).await,
                    _ => who.post(&thread, json!({"body": "Of it."})).await,
                };
                // Of a comment; deleted meanwhile; somebody else's.
                assert!(matches!(answer.status, 201 | 204 | 403 | 404 | 422), "{seed}: {answer:#?}");
            }
        };
        let players = people.iter().map(|who| {
            let mut random = random.clone();
            random.seed(seed ^ u64::from(who.user.as_bytes()[35]));
            play(who, random)
        });
        futures_util::future::join_all(players).await;
        assert_eq!(miscounted(system, &cast.circle), "0", "{seed}");
        let of_thread = "select count(*) filter (where parent_id is not null) > 20, max(comments) > 1";
        let of_thread = format!("{of_thread} from messages where circle_id = '{}'", cast.circle);
        assert_eq!(system.sql(&of_thread), "t|t", "{seed}");
        system.forget_limits_of(&cast.member).await;
        let page = cast.member.get(&cast.path("/messages?limit=100")).await.expect(200);
        for item in page.body["items"].as_array().unwrap().iter().take(30) {
            let [_, thread] = paths(&cast, item["id"].as_str().unwrap());
            let listed = cast.member.get(&format!("{thread}?limit=100")).await.expect(200);
            assert_eq!(item["comments"], listed.body["items"].as_array().unwrap().len(), "{seed}: {item}");
        }
    });
}
