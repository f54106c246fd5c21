//! Postgres away: copies are served, marked as degraded; writes are refused, and none is lost.

use std::time::{Duration, Instant};

use optimist_tests::{Answer, Client, Options, System};
use reqwest::Method;
use serde_json::json;

async fn post(client: &Client, path: &str, number: u64) -> Option<Answer> {
    let body = json!({"body": number.to_string()}).to_string().into_bytes();
    let key = format!("post-{number}");
    client.try_send(Method::POST, path, &[("idempotency-key", key.as_str())], Some(body)).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_write_load_and_restarted() {
    let mut system = System::with(Options { own_postgres: true, ..Options::default() }).await;
    let (writer, reader) = (system.register("Ada").await, system.register("Bo").await);
    let circle = writer.create_circle("private").await;
    reader.join(&circle, &writer).await;
    let path = format!("/v1/circles/{circle}/messages");
    let mut acknowledged = Vec::new();
    let mut number = 0;
    while number < 50 {
        number += 1;
        system.forget_limits_of(&writer).await;
        assert_eq!(post(&writer, &path, number).await.unwrap().status, 201);
        acknowledged.push(number);
    }
    while !reader.get(&path).await.expect(200).is_hit() {}

    let killed = Instant::now();
    system.own_postgres.as_mut().unwrap().kill();
    let mut marked = false;
    while killed.elapsed() < Duration::from_secs(6) {
        number += 1;
        system.forget_limits_of(&writer).await;
        if let Some(answer) = post(&writer, &path, number).await {
            match answer.status {
                201 => panic!("Postgres is dead: {answer:#?}"),
                503 => {
                    assert!(answer.header("retry-after").parse::<u64>().is_ok(), "{answer:#?}");
                    assert_eq!(answer.header("content-type"), "application/problem+json");
                }
                504 => {}
                _ => panic!("{answer:#?}"),
            }
        }
        let kept = reader.get(&path).await.expect(200);
        assert_eq!(kept.body["items"][0]["body"], "50", "{kept:#?}");
        marked |=
            kept.header("warning").starts_with("110") && kept.header("cache-status").contains("degraded");
    }
    assert!(marked, "what is kept is marked as such");
    assert!(reader.get(&path).await.expect(200).header("warning").starts_with("110"));
    // Requests that need no Postgres go on.
    reader.get("/v1/auth/session").await.expect(200);
    reader.get("/v1/me/limits").await.expect(200);

    system.own_postgres.as_mut().unwrap().launch();
    let returned = Instant::now();
    loop {
        number += 1;
        system.forget_limits_of(&writer).await;
        let answer = post(&writer, &path, number).await;
        if answer.is_some_and(|answer| answer.status == 201) {
            acknowledged.push(number);
            break;
        }
        assert!(returned.elapsed() < Duration::from_secs(15), "no write is accepted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let deadline = optimist_tests::patience();
    loop {
        let read = reader.get(&format!("{path}?limit=100")).await.expect(200);
        if read.header("warning").is_empty() {
            let items = read.body["items"].as_array().unwrap();
            let mut found: Vec<u64> =
                items.iter().map(|item| item["body"].as_str().unwrap().parse().unwrap()).collect();
            found.reverse();
            let unique: std::collections::BTreeSet<u64> = found.iter().copied().collect();
            assert_eq!(unique.len(), found.len(), "each once");
            for number in &acknowledged {
                assert!(unique.contains(number), "{number} was acknowledged, and is lost");
            }
            break;
        }
        assert!(Instant::now() < deadline, "still marked");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let log = system.origins[0].log();
    let told =
        log.lines().filter(|line| line.contains("the store is lost") && line.contains("postgres")).count();
    assert!((1..=3).contains(&told), "the cause is logged once: {told} times");
}
