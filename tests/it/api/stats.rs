//! A circle in numbers, and how it grows.

use optimist_shared::keys::Key;
use optimist_tests::{Client, System};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Cast, on_system, problem};

/// The circle in numbers, once so many reactions are counted. It may be five minutes old, so the copy is dropped each time.
async fn counted(system: &System, client: &Client, circle: &str, reactions: i64) -> Value {
    let path = format!("/v1/circles/{circle}/stats");
    let mut redis = system.redis.connect().await;
    for _ in 0..600 {
        let key = Key::circle_stats(circle.parse().unwrap()).name();
        let _: () = redis::cmd("DEL").arg(key).query_async(&mut redis).await.unwrap();
        let stats = client.get(&path).await.expect(200).body;
        if stats["in_all"]["reactions"] == reactions
            && stats["last_7_days"]["posts"] == stats["in_all"]["posts"]
        {
            return stats;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{reactions} reactions were not counted");
}

#[test]
fn readers_see_a_circle_in_numbers_and_moderators_how_it_grows() {
    on_system(|system| async move {
        let cast = Cast::new(system, "public").await;
        let message = cast.path(&format!("/messages/{}", cast.message));
        let comment = cast.owner.post(&format!("{message}/comments"), json!({"body": "And to you."})).await;
        let comment = comment.expect(201).text("/id");
        for (person, kind) in [(&cast.owner, "heart"), (&cast.moderator, "heart"), (&cast.moderator, "hug")] {
            person.send(Method::PUT, &format!("{message}/reactions/{kind}"), &[], None).await.expect(202);
        }
        let stats = counted(system, &cast.stranger, &cast.circle, 3).await;
        let today = chrono::Utc::now().date_naive().to_string();
        let lately =
            json!({"posts": 2, "comments": 1, "reactions": 3, "people": {"count": 3, "is_exact": true}});
        let expected = json!({
            "members": 3,
            "in_all": {"posts": 2, "comments": 1, "reactions": 3},
            "last_7_days": lately,
            "last_30_days": lately,
            "most_used": [{"kind": "heart", "count": 2}, {"kind": "hug", "count": 1}],
            "counted_from": today,
        });
        assert_eq!(stats, expected);
        let path = cast.path("/growth");
        let growth = cast.moderator.get(&path).await.expect(200).body;
        let day = json!({
            "day": today, "members": 3, "joined": 5, "left": 2, "posts": 2, "comments": 1, "reactions": 3, "people": 3,
        });
        assert_eq!((&growth["items"], &growth["next"]), (&json!([day]), &Value::Null), "{growth}");
        assert!(growth["as_of"].is_string());
        // What was said was said, even if it is deleted.
        cast.owner.delete(&cast.path(&format!("/messages/{comment}"))).await.expect(204);
        assert_eq!(counted(system, &cast.stranger, &cast.circle, 3).await["in_all"]["posts"], 2);

        // A circle of last year, in which nothing happened for long: days without changes have the members of before, and two answers
        // follow each other.
        let id = &cast.circle;
        system.sql(&format!(
            "update circles set counted_from = counted_from - 500 where id = '{id}';
             insert into member_days (circle_id, day, joined, departed, members)
             select id, counted_from + 100, 1, 0, 1 from circles where id = '{id}';
             insert into activity_days (circle_id, day, part, posts, comments, reactions, people)
             select id, counted_from + 101, 1, 0, 0, 7, 2 from circles where id = '{id}'"
        ));
        let asked = format!("{path}?from=2001-01-01");
        let first = cast.owner.get(&asked).await.expect(200).body;
        let second = cast
            .owner
            .get(&format!("{asked}&to={}", first.pointer("/next").unwrap().as_str().unwrap()))
            .await;
        let second = second.expect(200).body;
        let (first, second) = (first["items"].as_array().unwrap(), second["items"].as_array().unwrap());
        assert_eq!((first.len(), second.len()), (400, 101));
        let members = |days: &[Value], index: usize| days[index]["members"].clone();
        assert_eq!(
            [members(first, 0), members(first, 1), members(first, 399)],
            [json!(3), json!(1), json!(1)]
        );
        assert_eq!(
            [members(second, 0), members(second, 1), members(second, 100)],
            [json!(1), json!(0), json!(0)]
        );
        assert_eq!((&first[399]["reactions"], &first[399]["people"]), (&json!(7), &json!(2)));
        assert_eq!(
            cast.owner.get(&format!("{path}?from=2026-02-02&to=2026-02-01")).await.expect(200).body["items"],
            json!([])
        );
        for bad in ["?from=today", "?to=2026-02-30", "?limit=3", "?from=2026-01-01&from=2026-01-02"] {
            problem(cast.owner.get(&format!("{path}{bad}")).await, 400);
        }

        // Who may know.
        for (client, stats, growth) in [
            (&cast.owner, 200, 200),
            (&cast.moderator, 200, 200),
            (&cast.member, 200, 403),
            (&cast.former, 200, 403),
            (&cast.banned, 404, 404),
            (&cast.stranger, 200, 403),
        ] {
            client.get(&cast.path("/stats")).await.expect(stats);
            client.get(&path).await.expect(growth);
        }
        cast.member.until_hit(&cast.path("/stats")).await;
        problem(system.client().get(&path).await, 401);
        cast.owner.patch(&cast.path(""), json!({"visibility": "private"})).await.expect(200);
        problem(cast.former.get(&cast.path("/stats")).await, 404);
        problem(cast.stranger.get(&path).await, 404);
    });
}
