//! Public circles listed: by category, in each order, page by page.

use optimist_tests::Client;
use reqwest::Method;
use serde_json::{Value, json};

use super::drafts::texts;
use super::{on_system, problem};

/// No other test's circles are of this category.
const CATEGORY: &str = "sobriety";

async fn listed(client: &Client, query: &str) -> Vec<String> {
    let answer = client.get(&format!("/v1/circles?category={CATEGORY}{query}")).await.expect(200);
    texts(&answer, "name").into_iter().map(str::to_owned).collect()
}

#[test]
fn circles_are_found_by_category_in_each_order() {
    on_system(|system| async move {
        let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
        let mut circles = Vec::new();
        for (maker, name) in [(&ada, "First"), (&ada, "Second"), (&bo, "Third"), (&bo, "Hidden")] {
            let visibility = if name == "Hidden" { "private" } else { "public" };
            let body = json!({"name": name, "visibility": visibility, "category": CATEGORY});
            circles.push(maker.post("/v1/circles", body).await.expect(201).text("/id"));
        }
        assert_eq!(listed(&ada, "").await, ["Third", "Second", "First"], "a private one is in no list");
        assert_eq!(listed(&ada, "&order=new").await, ["Third", "Second", "First"]);
        bo.post(&format!("/v1/circles/{}/members/me", circles[1]), json!({})).await.expect(201);
        assert_eq!(listed(&ada, "&order=popular&limit=1").await, ["Second"]);
        assert_eq!(listed(&ada, "&order=popular").await, ["Second", "Third", "First"]);
        system.sql("update circles set active_at = now() - interval '2 hours' where category = 'sobriety'");
        ada.say(&circles[0], "Day one.").await;
        assert_eq!(listed(&ada, "&order=active&limit=1").await, ["First"]);
        let active_at = || system.sql(&format!("select active_at from circles where id = '{}'", circles[0]));
        let before = active_at();
        ada.say(&circles[0], "Day two.").await;
        assert_eq!(active_at(), before, "most posts change no index");
        for order in ["new", "active", "popular"] {
            let (mut paged, mut cursor) = (Vec::new(), String::new());
            loop {
                let path = format!("/v1/circles?category={CATEGORY}&order={order}&limit=1{cursor}");
                let page = bo.get(&path).await.expect(200);
                paged.extend(texts(&page, "name").into_iter().map(str::to_owned));
                let Some(next) = page.body["next"].as_str() else { break };
                cursor = format!("&cursor={next}");
            }
            assert_eq!(paged, listed(&bo, &format!("&order={order}")).await);
        }
        let all = bo.get("/v1/circles?order=popular&limit=100").await.expect(200);
        let counts: Vec<i64> = all.body["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["member_count"].as_i64().unwrap())
            .collect();
        assert!(counts.is_sorted_by(|one, next| one >= next), "{counts:?}");
        assert_eq!(listed(&bo, "").await.len(), 3);
        let gone = format!("/v1/circles/{}", circles[2]);
        bo.send(Method::DELETE, &gone, &[], None).await.expect(204);
        assert_eq!(listed(&ada, "").await, ["Second", "First"], "an archived one leaves the list");
    });
}

#[test]
fn what_discovery_does_not_know_is_refused_by_name() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        for (query, field) in [
            ("order=old", "order"),
            ("category=Sleep", "category"),
            ("colour=red", "colour"),
            ("order=popular&cursor=Yzox", "cursor"),
            ("limit=0", "limit"),
        ] {
            let refused = problem(ada.get(&format!("/v1/circles?{query}")).await, 400);
            assert_eq!(refused["errors"][0]["field"], field, "{query}");
        }
        let none = ada.get("/v1/circles?category=no-such-thing").await.expect(200);
        assert_eq!(none.body["items"], json!([]));
        problem(system.client().get("/v1/circles?order=new").await, 401);
    });
}

#[test]
fn a_circle_has_a_category_of_the_list_or_none() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let known = ada.get("/v1/categories").await.expect(200);
        assert!(ada.get("/v1/categories").await.expect(200).is_hit());
        let first = &known.body["items"][0];
        assert_eq!((&first["id"], &first["names"]["de"]), (&json!("mindfulness"), &json!("Achtsamkeit")));
        problem(system.client().get("/v1/categories").await, 401);
        let unknown = json!({"name": "Walks", "visibility": "public", "category": "hats"});
        let refused = problem(ada.post("/v1/circles", unknown).await, 422);
        assert_eq!(refused["errors"][0], json!({"field": "category", "reason": "is not a category"}));
        let circle = ada.create_circle("public").await;
        let path = format!("/v1/circles/{circle}");
        assert_eq!(ada.get(&path).await.expect(200).body["category"], Value::Null);
        let changed = ada.patch(&path, json!({"category": "nature"})).await.expect(200);
        assert_eq!(changed.body["category"], "nature");
        assert_eq!(ada.get(&path).await.expect(200).body["category"], "nature");
        problem(ada.patch(&path, json!({"category": "hats"})).await, 422);
        let renamed = ada.patch(&path, json!({"name": "Walks"})).await.expect(200);
        assert_eq!(renamed.body["category"], "nature", "what is not given stays");
        assert_eq!(
            ada.patch(&path, json!({"category": null})).await.expect(200).body["category"],
            Value::Null
        );
        let bo = system.register("Bo").await;
        problem(bo.patch(&path, json!({"category": "sleep"})).await, 403);
    });
}
