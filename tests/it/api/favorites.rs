//! Favourites: whose they are, and what they show of messages that one may not read any more.

use optimist_tests::{Answer, Client, System};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Cast, on_system, problem};

const LIST: &str = "/v1/me/favorites";

async fn keep(client: &Client, circle: &str, message: &str) -> Answer {
    let body = json!({"circle_id": circle}).to_string().into_bytes();
    client.send(Method::PUT, &format!("{LIST}/{message}"), &[], Some(body)).await
}

async fn listed(client: &Client) -> Vec<String> {
    let list = client.get(&format!("{LIST}?limit=100")).await.expect(200);
    let items = list.body["items"].as_array().unwrap().iter();
    items.map(|item| item["message"]["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn favourites_are_ones_own_and_the_latest_come_first() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let (member, circle) = (&cast.member, cast.circle.as_str());
        assert_eq!(member.get(LIST).await.expect(200).body, json!({"items": [], "next": null}));
        let mut messages = vec![cast.message.clone()];
        for number in 1..4 {
            messages.push(cast.owner.say(circle, &format!("Number {number}.")).await);
        }
        for message in &messages {
            keep(member, circle, message).await.expect(204);
        }
        // Again, it stays where it is.
        keep(member, circle, &messages[0]).await.expect(204);
        let newest: Vec<String> = messages.iter().rev().cloned().collect();
        assert_eq!(listed(member).await, newest);
        let first = member.get(&format!("{LIST}?limit=3")).await.expect(200);
        let item = &first.body["items"][0];
        assert_eq!(
            (&item["message"]["body"], &item["message"]["reactions"]),
            (&json!("Number 3."), &json!({}))
        );
        assert!(item["added_at"].is_string());
        let second = member.get(&format!("{LIST}?limit=3&cursor={}", first.text("/next"))).await.expect(200);
        assert_eq!(
            (&second.body["items"][0]["message"]["id"], &second.body["next"]),
            (&json!(messages[0]), &Value::Null)
        );
        assert_eq!(listed(&cast.owner).await, Vec::<String>::new(), "nobody else's");
        problem(cast.owner.delete(&format!("{LIST}/{}", messages[0])).await, 404);
        member.delete(&format!("{LIST}/{}", messages[3])).await.expect(204);
        problem(member.delete(&format!("{LIST}/{}", messages[3])).await, 404);
        assert_eq!(listed(member).await, newest[1..]);
        // As it is now, and gone with the message.
        cast.owner
            .patch(&cast.path(&format!("/messages/{}", messages[2])), json!({"body": "Mended."}))
            .await
            .expect(200);
        let list = member.get(LIST).await.expect(200);
        assert_eq!(list.body["items"][0]["message"]["body"], "Mended.");
        cast.owner.delete(&cast.path(&format!("/messages/{}", messages[2]))).await.expect(204);
        assert_eq!(listed(member).await, newest[2..]);
        problem(member.get(&format!("{LIST}?cursor=x")).await, 400);
    });
}

#[test]
fn only_what_one_may_read_is_kept_and_shown() {
    on_system(|system| async move {
        for visibility in ["private", "public"] {
            let cast = Cast::new(system, visibility).await;
            let is_public = visibility == "public";
            for (name, client) in cast.everyone() {
                let may = matches!(name, "owner" | "moderator" | "member") || (is_public && name != "banned");
                let answer = keep(client, &cast.circle, &cast.message).await;
                match may {
                    true => drop(answer.expect(204)),
                    false => drop(problem(answer, 404)),
                }
                assert_eq!(listed(client).await.len(), usize::from(may), "{name}");
            }
            // Of another circle, and of none.
            let elsewhere = Cast::new(system, visibility).await;
            problem(keep(&cast.member, &cast.circle, &elsewhere.message).await, 404);
            problem(keep(&cast.member, "0190a0a0-0000-7000-8000-00000000c1c1", &cast.message).await, 404);
            problem(system.client().get(LIST).await, 401);

            // Whoever leaves sees nothing of it, and finds it again after a return.
            cast.member.delete(&cast.path("/members/me")).await.expect(204);
            let left = cast.member.get(LIST).await.expect(200);
            assert_eq!(left.body["items"].as_array().unwrap().len(), usize::from(is_public), "{left:#?}");
            cast.member.join(&cast.circle, &cast.owner).await;
            assert_eq!(listed(&cast.member).await, std::slice::from_ref(&cast.message));
            cast.owner
                .delete(&cast.path(&format!("/members/{}?ban=true", cast.member.user)))
                .await
                .expect(204);
            let banned = cast.member.get(LIST).await.expect(200);
            assert!(!banned.body.to_string().contains(&cast.message), "{banned:#?}");
            cast.member.delete(&format!("{LIST}/{}", cast.message)).await.expect(204);
            // An archived circle is its members' to read.
            cast.owner.delete(&cast.path("")).await.expect(204);
            for (name, client) in [("owner", &cast.owner), ("stranger", &cast.stranger)] {
                assert_eq!(listed(client).await.len(), usize::from(name == "owner"), "{name}");
            }
        }
    });
}

/// As many as one may keep, of the oldest messages of a circle; the oldest `dead` of them have none.
fn fill(system: &System, client: &Client, circle: &str, dead: u32) {
    let base = 100_000 + 10_000 * dead;
    system.sql(&format!(
        "with made as (
             insert into messages (id, circle_id, number, author_id, body)
             select id_at((floor(extract(epoch from now()) * 1000)::bigint << 12) + n), '{circle}', {base} + n, '{0}', 'x'
             from generate_series(1, 4998) n returning id, number)
         insert into favorites (user_id, message_id, circle_id, added_at)
         select '{0}', case when number <= {base} + {dead} then id_at(id_place(id)) else id end, '{circle}',
             now() - interval '10000 seconds' + interval '1 second' * (number - {base})
         from made",
        client.user
    ));
}

#[test]
fn there_are_only_so_many_and_those_that_are_gone_make_room() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let other = [cast.owner.say(&cast.circle, "One.").await, cast.owner.say(&cast.circle, "Two.").await];
        fill(system, &cast.owner, &cast.circle, 0);
        keep(&cast.owner, &cast.circle, &cast.message).await.expect(204);
        keep(&cast.owner, &cast.circle, &other[0]).await.expect(204);
        let refused = problem(keep(&cast.owner, &cast.circle, &other[1]).await, 422);
        assert_eq!(
            (refused["code"].as_str(), refused["limit"].as_str()),
            (Some("quota-exceeded"), Some("favorites"))
        );
        // One that is kept already is no more.
        keep(&cast.owner, &cast.circle, &other[0]).await.expect(204);
        assert_eq!(listed(&cast.owner).await.len(), 100);

        fill(system, &cast.moderator, &cast.circle, 150);
        for message in [&cast.message, &other[0], &other[1]] {
            keep(&cast.moderator, &cast.circle, message).await.expect(204);
        }
        let count = format!("select count(*) from favorites where user_id = '{}'", cast.moderator.user);
        assert_eq!(system.sql(&count), "4851", "the oldest that are gone have made room");
        // Whoever may read none of many gets an empty list, and no error.
        cast.moderator.delete(&cast.path("/members/me")).await.expect(204);
        assert_eq!(cast.moderator.get(LIST).await.expect(200).body, json!({"items": [], "next": null}));
    });
}
