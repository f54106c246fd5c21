//! What happened in a circle lately.

use optimist_shared::keys::Key;
use optimist_tests::{Client, System};
use serde_json::{Value, json};

use super::{Cast, on_system, problem};

/// The kinds, users and roles, once there are so many. The list may be an hour old, so the copy is dropped each time.
async fn happened(
    system: &System,
    client: &Client,
    circle: &str,
    wanted: usize,
) -> Vec<(String, String, Value)> {
    let path = format!("/v1/circles/{circle}/activity?limit=100");
    let mut redis = system.redis.connect().await;
    for _ in 0..200 {
        let key = Key::circle_activity(circle.parse().unwrap()).name();
        let _: () = redis::cmd("DEL").arg(key).query_async(&mut redis).await.unwrap();
        let list = client.get(&path).await.expect(200).body;
        let items = list["items"].as_array().unwrap();
        if items.len() >= wanted {
            let text =
                |item: &Value, pointer: &str| item.pointer(pointer).unwrap().as_str().unwrap().to_owned();
            return items
                .iter()
                .map(|item| (text(item, "/kind"), text(item, "/user/id"), item["role"].clone()))
                .collect();
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("less than {wanted} things happened");
}

#[test]
fn readers_see_who_came_and_went() {
    on_system(|system| async move {
        let cast = Cast::new(system, "public").await;
        cast.owner.patch(&cast.path(""), json!({"rules": "Be kind."})).await.expect(200);
        // The moderators' affair: somebody is banned who was no member, and the ban is lifted.
        let ban = format!("/members/{}?ban=true", cast.stranger.user);
        cast.owner.delete(&cast.path(&ban)).await.expect(204);
        cast.owner.delete(&cast.path(&format!("/bans/{}", cast.stranger.user))).await.expect(204);
        cast.owner.post(&cast.path("/invites"), json!({})).await.expect(201);
        cast.stranger.post(&cast.path("/members/me"), json!({})).await.expect(201);
        let found = happened(system, &cast.former, &cast.circle, 10).await;
        let line = |kind: &str, who: &Client, role: Value| (kind.to_owned(), who.user.clone(), role);
        let mut expected = vec![
            line("member.joined", &cast.stranger, Value::Null),
            line("circle.updated", &cast.owner, Value::Null),
            line("member.left", &cast.banned, Value::Null),
            line("member.left", &cast.former, Value::Null),
            line("member.role", &cast.moderator, json!("moderator")),
        ];
        expected.extend(
            [&cast.banned, &cast.former, &cast.member, &cast.moderator]
                .map(|who| line("member.joined", who, Value::Null)),
        );
        expected.push(line("circle.created", &cast.owner, Value::Null));
        assert_eq!(found, expected);
        // By pages, it is the same.
        let path = cast.path("/activity");
        let mut cursor = String::new();
        let mut paged = 0;
        loop {
            let list = cast.member.get(&format!("{path}?limit=3{cursor}")).await.expect(200).body;
            paged += list["items"].as_array().unwrap().len();
            let Some(next) = list["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(paged, expected.len());
        assert!(cast.member.get(&path).await.expect(200).is_hit());
        problem(cast.banned.get(&path).await, 404);
        problem(system.client().get(&path).await, 401);
        problem(cast.member.get(&format!("{path}?cursor=YzowOjA")).await, 400);
        cast.owner.patch(&cast.path(""), json!({"visibility": "private"})).await.expect(200);
        problem(cast.former.get(&path).await, 404);
        problem(cast.former.get(&format!("{path}?limit=3{cursor}")).await, 404);
    });
}
