//! Every key in Redis belongs to a row of the tables, and expires as its row says.

use std::ops::RangeInclusive;

use optimist_shared::keys::{KEYS, Key, Life};
use optimist_shared::limits::LIMITS;
use optimist_tests::{Answer, System};
use regex_lite::{Captures, Regex};
use reqwest::Method;
use serde_json::json;

/// A key's form, and its shortest and longest life in seconds after a write; `None` if it never expires.
struct Row {
    form: Regex,
    seconds: Option<RangeInclusive<i64>>,
    /// It may also have no expiry until it is in Postgres.
    may_wait: bool,
}

impl Row {
    fn new(form: &str, seconds: Option<RangeInclusive<i64>>) -> Row {
        Row { form: Regex::new(&format!("^{form}$")).unwrap(), seconds, may_wait: false }
    }
}

fn rows() -> Vec<Row> {
    let parameter = Regex::new("<[^>]+>").unwrap();
    let mut rows = Vec::new();
    for key in KEYS {
        let escaped = key.template.replace('{', "\\{").replace('}', "\\}");
        let form = parameter.replace_all(&escaped, |found: &Captures<'_>| match &found[0] {
            partition if partition.starts_with("<p") => "p[0-9]{3}",
            _ => "[0-9a-f-]{36}",
        });
        // A minute's tolerance for the test itself.
        let seconds = key.kept_seconds().map(|most| (i64::from(most) - 60).max(0)..=i64::from(most));
        for companion in ["hidden:", "fence:", "lease:"] {
            rows.push(Row::new(&format!("{companion}{form}"), Some(0..=7)));
        }
        rows.push(Row::new(&format!("floor:{form}"), Some(0..=60)));
        let may_wait = matches!(key.life, Life::Unflushed { .. });
        rows.push(Row { may_wait, ..Row::new(&form, seconds) });
    }
    for limit in LIMITS {
        let longest = i64::from(limit.longest_window());
        // Limits of an address or a part of an account share the slot of what contains it.
        let form = format!("{}:\\{{[^{{}}]+\\}}{}(:.+)?", limit.prefix, limit.suffix);
        rows.push(Row::new(&form, Some(longest - 60..=longest)));
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_has_a_row_and_its_life() {
    let system = System::start().await;
    let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
    let circle = ada.create_circle("public").await;
    let path = format!("/v1/circles/{circle}");
    bo.join(&circle, &ada).await;
    let message = ada.say(&circle, "Good morning.").await;
    let reads = [
        "/v1/me".to_owned(),
        "/v1/me/circles".to_owned(),
        format!("{path}/activity"),
        format!("{path}/stats"),
        format!("/v1/users/{}", bo.user),
        "/v1/circles".to_owned(),
        path.clone(),
        format!("{path}/members"),
        format!("{path}/messages"),
        format!("{path}/messages/{message}"),
        format!("{path}/messages/{message}/comments"),
        "/v1/me/limits".to_owned(),
        "/v1/me/preferences".to_owned(),
        "/v1/journal/prompts".to_owned(),
        "/v1/categories".to_owned(),
        "/v1/messages/popular".to_owned(),
        "/v1/journal/tags/recent".to_owned(),
        "/v1/journal/streak".to_owned(),
    ];
    let draft = format!("/v1/journal/drafts/{}", uuid::Uuid::now_v7());
    let body = json!({"body": "Dear diary", "base_version": null}).to_string().into_bytes();
    ada.send(Method::PUT, &draft, &[], Some(body)).await.expect(200);
    ada.post("/v1/journal/entries", json!({"body": "Dear diary", "tags": ["rain"]})).await.expect(201);
    ada.post("/v1/mood", json!({"score": 4})).await.expect(201);
    ada.post("/v1/me/recent", json!({"kind": "circle", "id": circle})).await.expect(200);
    for client in [&ada, &bo] {
        for read in &reads {
            client.get(read).await.expect(200);
            client.get(read).await.expect(200);
        }
    }
    ada.patch(&path, json!({"join_policy": "on_request"})).await.expect(200);
    let cy = system.register("Cy").await;
    cy.post(&format!("{path}/join-requests"), json!({"text": "Hello."})).await.expect(201);
    let read = json!({"number": 1}).to_string().into_bytes();
    bo.send(Method::PUT, &format!("{path}/read"), &[], Some(read)).await.expect(204);
    ada.patch(&path, json!({"description": "Changed."})).await.expect(200);
    system.client().post("/v1/auth/refresh", json!({"refresh_token": "x"})).await.expect(401);
    system.client().post("/v1/auth/login", json!({"email": bo.email, "password": "wrong"})).await.expect(401);
    system.client().get("/v1/openapi.json").await.expect(200);
    // Pause a write while its fences stand.
    system.origins[0].arm("tx.fenced", "pause", 1_000, 1).await;
    let fenced = tokio::spawn({
        let (ada, path) = (ada.clone(), path.clone());
        async move { ada.patch(&path, json!({"description": "Again."})).await.expect(200) }
    });
    system.origins[0].wait_for_passes("tx.fenced", 1).await;
    check(&system, 32).await;
    fenced.await.unwrap();
    check(&system, 32).await;
}

/// Checks all keys; they must be of at least `kinds` kinds.
async fn check(system: &System, kinds: usize) {
    let rows = rows();
    let mut redis = system.redis.connect().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await.unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for key in keys {
        let seconds: i64 = redis::cmd("TTL").arg(&key).query_async(&mut redis).await.unwrap();
        if seconds == -2 {
            continue;
        }
        let fitting: Vec<(usize, &Row)> =
            rows.iter().enumerate().filter(|(_, row)| row.form.is_match(&key)).collect();
        assert_eq!(fitting.len(), 1, "{key} has one row");
        let (index, row) = fitting[0];
        match &row.seconds {
            None => assert_eq!(seconds, -1, "{key} is kept"),
            Some(_) if row.may_wait && seconds == -1 => {}
            // TTL rounds to the nearest second.
            Some(range) => assert!(range.contains(&seconds), "{key} lives {seconds} s, not {range:?}"),
        }
        seen.insert(index);
    }
    assert!(seen.len() >= kinds, "only {} kinds of keys were written", seen.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_type_is_no_lost_redis() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let [whole, broken] = [ada.create_circle("private").await, ada.create_circle("private").await];
    let path = |circle: &str| format!("/v1/circles/{circle}/messages");
    ada.say(&broken, "Good morning.").await;
    for circle in [&whole, &broken] {
        ada.get(&path(circle)).await.expect(200);
    }
    let is_hit = |answer: &Answer| answer.header("cache-status").starts_with("optimist; hit");
    assert!(is_hit(&ada.get(&path(&whole)).await));
    let mut redis = system.redis.connect().await;
    let counts = Key::counts(broken.parse().unwrap()).name();
    let _: () = redis::cmd("SET").arg(&counts).arg("not a hash").query_async(&mut redis).await.unwrap();
    for _ in 0..3 {
        assert_eq!(ada.get(&path(&broken)).await.expect(200).body["items"][0]["body"], "Good morning.");
        assert!(is_hit(&ada.get(&path(&whole)).await));
    }
}
