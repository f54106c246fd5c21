//! The growth table says no less than what the longest requests leave in the stores.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use optimist_shared::growth::{Growth, Left};
use optimist_shared::routes::by_name;
use optimist_tests::{Answer, Client, System};
use reqwest::Method;
use serde_json::{Value, json};

/// The bytes of the rows of each table, and of each key.
#[derive(Clone, PartialEq)]
struct Sizes {
    postgres: Bytes,
    redis: Bytes,
}

type Bytes = BTreeMap<String, u64>;

/// Tables that belong to the process, and not to requests.
const OWN: &str =
    "'jobs', 'origins', 'regions', 'consistency', 'write_behind', 'projections', 'refinery_schema_history'";

async fn sizes(system: &System) -> Sizes {
    let tables = system.sql(&format!(
        "select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace and relname not in ({OWN})"
    ));
    let sum = |table: &str| {
        format!("select '{table} ' || coalesce(sum(pg_column_size(t.*)), 0) from \"{table}\" t")
    };
    let all: Vec<String> = tables.lines().map(sum).collect();
    let rows = system.sql(&all.join(" union all "));
    let size =
        |row: &str| row.split_once(' ').map(|(table, bytes)| (table.to_owned(), bytes.parse().unwrap()));
    let postgres = rows.lines().filter_map(size).collect();
    let mut connection = system.redis.connect().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    let mut redis = Bytes::new();
    let is_of_requests = |key: &String| {
        !["vouch:", "metrics:", "events:", "cursor:", "settled:"].iter().any(|own| key.starts_with(own))
    };
    for key in keys.into_iter().filter(is_of_requests) {
        let mut usage = redis::cmd("MEMORY");
        usage.arg("USAGE").arg(&key).arg("SAMPLES").arg(0);
        // A key may have expired.
        let bytes = usage.query_async::<Option<u64>>(&mut connection).await.unwrap().unwrap_or(0);
        redis.insert(key, bytes);
    }
    Sizes { postgres, redis }
}

/// The sizes once nothing more follows from what was sent: those that stay the same for as long as a flush may wait.
async fn settled(system: &System, flushed_within: Duration) -> Sizes {
    let deadline = optimist_tests::patience();
    let mut last = (sizes(system).await, Instant::now());
    while last.1.elapsed() < flushed_within {
        assert!(Instant::now() < deadline, "the stores still change");
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = sizes(system).await;
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
    last.0
}

fn longest(characters: usize) -> String {
    // Random enough that Postgres does not compress it.
    (0..characters).map(|_| char::from_u32(0x1_f300 + fastrand::u32(..0x2ff)).unwrap()).collect()
}

async fn send(client: &Client, method: Method, path: &str, body: Value) -> Answer {
    let answer = client
        .send(method, path, &[("idempotency-key", "growth")], Some(body.to_string().into_bytes()))
        .await;
    assert!(answer.status < 300, "{path}: {answer:#?}");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_requests_leave_no_more_than_the_table_says() {
    let system = System::start().await;
    let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
    let circle = ada.create_circle("public").await;
    let cy = system.register("Cy").await;
    cy.get("/v1/me").await.expect(200);
    let message = ada.say(&circle, "Good morning.").await;
    let path = format!("/v1/circles/{circle}");
    // It writes to the outbox when it comes to a name that has changed.
    system.sql("update jobs set started_at = now() + interval '1 hour' where name in ('names.drop', 'exports.build')");
    let entry = ada.post("/v1/journal/entries", json!({"body": "Short."})).await.expect(201).text("/id");
    let tags: Vec<String> = (0..20).map(|number| format!("{number}{}", longest(30))).collect();
    let draft = format!("/v1/journal/drafts/{}", uuid::Uuid::from_u128(7));
    let requests = [
        ("members.join", &bo, Method::POST, format!("{path}/members/me"), json!({})),
        ("messages.post", &ada, Method::POST, format!("{path}/messages"), json!({"body": longest(8_000)})),
        (
            "comments.post",
            &bo,
            Method::POST,
            format!("{path}/messages/{message}/comments"),
            json!({"body": longest(8_000)}),
        ),
        (
            "messages.edit",
            &ada,
            Method::PATCH,
            format!("{path}/messages/{message}"),
            json!({"body": longest(8_000)}),
        ),
        (
            "circles.update",
            &ada,
            Method::PATCH,
            path.clone(),
            json!({"description": longest(2_000), "rules": longest(8_000), "join_policy": "on_request"}),
        ),
        ("joins.ask", &cy, Method::POST, format!("{path}/join-requests"), json!({"text": longest(280)})),
        ("me.update", &ada, Method::PATCH, "/v1/me".to_owned(), json!({"bio": longest(500)})),
        ("invites.create", &ada, Method::POST, format!("{path}/invites"), json!({})),
        ("reactions.add", &bo, Method::PUT, format!("{path}/messages/{message}/reactions/hug"), json!({})),
        ("me.export", &cy, Method::POST, "/v1/me/export".to_owned(), json!({})),
        (
            "reports.make",
            &bo,
            Method::POST,
            format!("{path}/messages/{message}/report"),
            json!({"reason": "other", "text": longest(500)}),
        ),
        ("blocks.add", &bo, Method::PUT, format!("/v1/me/blocks/{}", cy.user), json!({})),
        ("unread.mark", &bo, Method::PUT, format!("{path}/read"), json!({"number": 1})),
        ("visits.record", &bo, Method::POST, format!("{path}/visits"), json!({})),
        (
            "recent.note",
            &ada,
            Method::POST,
            "/v1/me/recent".to_owned(),
            json!({"kind": "circle", "id": circle}),
        ),
        ("message-drafts.save", &ada, Method::PUT, format!("{path}/draft"), json!({"body": longest(8_000)})),
        (
            "journal.save",
            &ada,
            Method::POST,
            "/v1/journal/entries".to_owned(),
            json!({"title": longest(200), "body": longest(50_000), "tags": tags}),
        ),
        (
            "journal.edit",
            &ada,
            Method::PATCH,
            format!("/v1/journal/entries/{entry}"),
            json!({"body": longest(50_000)}),
        ),
        ("drafts.save", &ada, Method::PUT, draft, json!({"body": longest(50_000), "base_version": null})),
        ("mood.log", &ada, Method::POST, "/v1/mood".to_owned(), json!({"score": 3, "note": longest(500)})),
    ];
    let mut before = settled(&system, Duration::from_millis(1_200)).await;
    for (route, who, method, path, body) in requests {
        let row = by_name(route).and_then(Growth::of).unwrap();
        send(who, method, &path, body).await;
        let flushed_within = Duration::from_millis(if route == "drafts.save" { 6_000 } else { 1_200 });
        let after = settled(&system, flushed_within).await;
        let fits = |what: &str, left: &Left, before: &Bytes, after: &Bytes| {
            let places: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            let of = |sizes: &Bytes, place| i64::try_from(sizes.get(place).copied().unwrap_or(0)).unwrap();
            let changes = places.into_iter().map(|place| (place, of(after, place) - of(before, place)));
            let changes: Vec<_> = changes.filter(|(_, change)| *change != 0).collect();
            let grown: i64 = changes.iter().map(|(_, change)| change).sum();
            let most = left.each + left.within;
            println!("{route}: {grown} bytes in {what}, at most {most}");
            assert!(
                grown <= i64::try_from(most).unwrap(),
                "{route} leaves {grown} bytes in {what}, and the table says {most}: {changes:#?}"
            );
        };
        fits("Postgres", &row.postgres, &before.postgres, &after.postgres);
        fits("Redis", &row.redis, &before.redis, &after.redis);
        before = after;
    }
}
