//! What one has looked at lately, and the circles among it.

use optimist_tests::Client;
use serde_json::{Value, json};

use super::presence::{is_answered_at_the_edge, until_known};
use super::{Cast, on_system, problem};

const PATH: &str = "/v1/me/recent";

async fn note(client: &Client, kind: &str, id: &str) -> Value {
    client.post(PATH, json!({"kind": kind, "id": id})).await.expect(200).body
}

async fn listed(client: &Client) -> Vec<(String, String)> {
    let list = client.get(PATH).await.expect(200);
    assert_eq!(list.body["next"], Value::Null);
    let text = |item: &Value, field: &str| item[field].as_str().unwrap().to_owned();
    let items = list.body["items"].as_array().unwrap().clone();
    items.iter().map(|item| (text(item, "kind"), text(item, "id"))).collect()
}

fn an_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

#[test]
fn what_one_has_looked_at_is_remembered_for_oneself() {
    on_system(|system| async move {
        let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
        problem(system.client().get(PATH).await, 401);
        problem(system.client().post(PATH, json!({"kind": "circle", "id": an_id()})).await, 401);
        assert_eq!(listed(&ada).await, []);
        let (circle, person, entry, message) = (an_id(), an_id(), an_id(), an_id());
        // By the origin first, and then by the edge, which knows the session by then.
        let promised = json!({"promise": "redis-only", "expires_in": 86_400});
        assert_eq!(note(&ada, "circle", &circle).await, promised);
        until_known(&ada).await;
        assert_eq!(note(&ada, "person", &person.to_uppercase()).await, promised);
        assert_eq!(note(&ada, "entry", &entry).await, promised);
        let looked = json!({"kind": "message", "id": message, "circle_id": circle});
        let noted = ada.post(PATH, looked).await.expect(200);
        assert!(is_answered_at_the_edge(&noted), "{noted:#?}");
        // Again, and so the newest.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        note(&ada, "person", &person).await;
        let list = ada.get(PATH).await.expect(200);
        assert!(is_answered_at_the_edge(&list), "{list:#?}");
        let found: Vec<_> = listed(&ada).await;
        let expected = [("person", &person), ("message", &message), ("entry", &entry), ("circle", &circle)];
        assert_eq!(found, expected.map(|(kind, id)| (kind.to_owned(), id.clone())));
        assert_eq!(list.body["items"][1]["circle_id"], circle.as_str());
        assert_eq!(list.body["items"][0]["circle_id"], Value::Null);
        assert!(
            (86_390..=86_400).contains(&list.body["items"][0]["expires_in"].as_u64().unwrap()),
            "{list:#?}"
        );
        assert_eq!(listed(&bo).await, []);
        for (body, field) in [
            (json!({"kind": "mood", "id": circle}), "kind"),
            (json!({"kind": "circle", "id": "here"}), "id"),
            (json!({"kind": "circle"}), "id"),
            (json!({"kind": "message", "id": message}), "circle_id"),
            (json!({"kind": "circle", "id": circle, "circle_id": circle}), "circle_id"),
            (json!({"kind": "circle", "id": circle, "at": 1}), "at"),
        ] {
            let refused = problem(ada.post(PATH, body).await, 422);
            assert!(refused["errors"][0].to_string().contains(field), "{refused}");
        }
        problem(ada.get(&format!("{PATH}?limit=1")).await, 400);
        assert_eq!(listed(&ada).await.len(), 4);
    });
}

#[test]
fn the_newest_hundred_are_remembered() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let mut noted = Vec::new();
        for number in 0..110 {
            if number % 60 == 0 {
                system.forget_limits_of(&ada).await;
            }
            let id = an_id();
            note(&ada, "circle", &id).await;
            noted.push(id);
        }
        noted.reverse();
        let found: Vec<String> = listed(&ada).await.into_iter().map(|(_, id)| id).collect();
        assert_eq!(found.len(), 100);
        // Those of one millisecond have no order of their own.
        assert!(found.iter().all(|id| noted[..102].contains(id)), "{found:?}");
    });
}

#[test]
fn the_context_names_circles_that_one_may_still_read() {
    on_system(|system| async move {
        let private = Cast::new(system, "private").await;
        let public = Cast::new(system, "public").await;
        let context = async |client: &Client| client.get("/v1/me/context").await.expect(200).body;
        problem(system.client().get("/v1/me/context").await, 401);
        let nothing = json!({"recent_circles": [], "favorite_categories": []});
        assert_eq!(context(&private.member).await, nothing);
        let category = json!({"category": "mindfulness"});
        private.owner.patch(&private.path(""), category).await.expect(200);
        for client in [&private.member, &private.former, &private.banned, &private.stranger] {
            note(client, "circle", &public.circle).await;
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            note(client, "circle", &private.circle).await;
            note(client, "circle", &an_id()).await;
        }
        let read = json!({"id": public.circle, "name": "A circle", "category": null, "role": null});
        let own =
            json!({"id": private.circle, "name": "A circle", "category": "mindfulness", "role": "member"});
        let expected = json!({"recent_circles": [own, read], "favorite_categories": ["mindfulness"]});
        assert_eq!(context(&private.member).await, expected);
        let outside = json!({"recent_circles": [read], "favorite_categories": []});
        for client in [&private.former, &private.banned, &private.stranger] {
            assert_eq!(context(client).await, outside);
        }
        // Whoever is banned from a public circle does not see it either, and whoever leaves one keeps nothing of it.
        note(&public.banned, "circle", &public.circle).await;
        assert_eq!(context(&public.banned).await, nothing);
        private.member.delete(&private.path("/members/me")).await.expect(204);
        assert_eq!(context(&private.member).await, outside);
        // An archived circle exists for its members alone.
        public.owner.delete(&public.path("")).await.expect(204);
        for client in [&private.stranger, &private.former] {
            assert_eq!(context(client).await["recent_circles"], json!([]));
        }
        note(&public.member, "circle", &public.circle).await;
        assert_eq!(context(&public.member).await["recent_circles"][0]["id"], json!(public.circle));
    });
}
