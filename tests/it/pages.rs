//! Pages are bounded in bytes, and a read moves no more of a value than it needs.

use optimist_shared::envelope::LIST_BYTES;
use optimist_shared::keys::{BoundKey, Key};
use optimist_tests::{Answer, Client, System};
use reqwest::Method;
use serde_json::{Value, json};

/// A message of the most characters, each of the most bytes.
fn long() -> String {
    "\u{1f388}".repeat(8_000)
}

/// A circle with so many long messages, newest last, and their ids.
async fn circle_of_long_messages(system: &System, ada: &Client, messages: usize) -> (String, Vec<String>) {
    let circle = ada.create_circle("private").await;
    let mut ids = Vec::new();
    for number in 0..messages {
        if number % 10 == 0 {
            system.forget_limits_of(ada).await;
        }
        ids.push(ada.say(&circle, &long()).await);
    }
    (circle, ids)
}

/// All items of a list in order, read by its cursors, and the bytes of its largest page.
async fn read_all(client: &Client, path: &str, cursor: &str) -> (Vec<Value>, usize) {
    let (mut items, mut most, mut next) = (Vec::new(), 0, String::new());
    loop {
        let page = client.get(&format!("{path}?limit=100{next}")).await.expect(200);
        items.extend(page.body["items"].as_array().unwrap().clone());
        most = most.max(page.body.to_string().len());
        let Some(after) = page.body["next"].as_str() else { return (items, most) };
        next = format!("&{cursor}={after}");
    }
}

/// A page may pass the bound by what frames and overlays its items.
const FRAME: usize = 16 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_page_stops_at_its_bytes_and_says_that_more_follows() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let (circle, mut sent) = circle_of_long_messages(&system, &ada, 20).await;
    sent.reverse();
    let path = format!("/v1/circles/{circle}/messages");
    for _ in 0..3 {
        let (items, most) = read_all(&ada, &path, "before").await;
        let read: Vec<String> = items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(read, sent, "each once, newest first");
        assert!(most <= LIST_BYTES + FRAME, "a page of {most} bytes");
    }
    assert!(ada.get(&format!("{path}?limit=100")).await.is_hit());
    let kept = bytes_of(&system, Key::circle_messages(circle.parse().unwrap())).await;
    assert!(kept <= LIST_BYTES + FRAME, "a key of {kept} bytes");

    // A list that is not cached.
    for number in 0..80 {
        if number % 20 == 0 {
            system.forget_limits_of(&ada).await;
        }
        let mood = json!({"score": 3, "note": "\u{1f388}".repeat(1_000), "emotions": []});
        ada.post("/v1/mood", mood).await.expect(201);
    }
    let (moods, most) = read_all(&ada, "/v1/mood", "cursor").await;
    assert_eq!(moods.len(), 80);
    assert!(most <= LIST_BYTES + FRAME, "a page of {most} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_carries_no_rules_and_is_bounded_in_bytes() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    system.sql(&format!(
        "insert into circles (id, name, description, rules, visibility, owner_id) \
         select gen_random_uuid(), 'C' || n, repeat('\u{1f388}', 2000), repeat('\u{1f388}', 8000), 'public', '{}' \
         from generate_series(1, 60) n",
        ada.user
    ));
    // A job has filled it when the system started.
    let mut redis = system.redis.connect().await;
    let _: u64 = redis::cmd("DEL").arg(Key::discovery().name()).query_async(&mut redis).await.unwrap();
    let (circles, most) = read_all(&ada, "/v1/circles", "cursor").await;
    assert_eq!(circles.len(), 60);
    assert!(circles.iter().all(|circle| circle.get("rules").is_none()));
    assert!(most <= LIST_BYTES + FRAME, "a page of {most} bytes");
    let kept = bytes_of(&system, Key::discovery()).await;
    assert!(kept <= LIST_BYTES + FRAME, "a key of {kept} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_moves_no_more_of_a_value_than_it_needs() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let (circle, _) = circle_of_long_messages(&system, &ada, 12).await;
    let path = format!("/v1/circles/{circle}/messages");
    let page = warm(&ada, &path).await;
    let first = format!("{path}?limit=1");
    let tag = page.header("etag");
    let read = async |path: &str, tag: &str| {
        let before = moved(&system).await;
        let headers = [("if-none-match", tag)];
        let answer = ada.send(Method::GET, path, if tag.is_empty() { &[] } else { &headers[..] }, None).await;
        assert!(answer.is_hit(), "{:#?}", answer.headers);
        (answer, moved(&system).await - before)
    };
    let (_, whole) = read(&path, "").await;
    assert!(whole > 200_000, "{whole}: the value is large");
    let (unchanged, bytes) = read(&path, tag).await;
    assert_eq!((unchanged.status, unchanged.header("etag")), (304, tag));
    assert!(bytes < 16_000, "a conditional read moved {bytes} bytes");
    // Long items are more than is asked for at first, and still not the whole value.
    let (one, bytes) = read(&first, "").await;
    assert_eq!(one.body["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(one.body["items"][0], page.body["items"][0]);
    assert!(bytes < 64_000, "a read of one item moved {bytes} bytes");
    let (unchanged, bytes) = read(&first, one.header("etag")).await;
    assert_eq!((unchanged.status, unchanged.header("etag")), (304, one.header("etag")));
    assert!(bytes < 16_000, "a conditional read of one item moved {bytes} bytes");
    // A client whose copy is old gets the new one.
    let (changed, _) = read(&path, "\"old.old\"").await;
    assert_eq!((changed.status, &changed.body), (200, &page.body));
    let next = one.text("/next");
    let second = ada.get(&format!("{first}&before={next}")).await.expect(200);
    assert_eq!(second.body["items"][0], page.body["items"][1]);
}

/// Parts of a value that were read agree with the whole, for short items as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_list_is_the_beginning_of_the_whole() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let circle = ada.create_circle("private").await;
    let path = format!("/v1/circles/{circle}/messages");
    for number in 1..=10 {
        ada.say(&circle, &"x".repeat(number * 700)).await;
    }
    let page = warm(&ada, &path).await;
    let items = page.body["items"].as_array().unwrap();
    for limit in 1..=12 {
        let part = ada.get(&format!("{path}?limit={limit}")).await.expect(200);
        assert!(part.is_hit());
        assert_eq!(part.body["items"].as_array().unwrap()[..], items[..limit.min(10)], "{limit}");
        assert_eq!(part.body["next"].is_null(), limit >= 10, "{limit}");
        let headers = [("if-none-match", part.header("etag"))];
        let again = ada.send(Method::GET, &format!("{path}?limit={limit}"), &headers, None).await.expect(304);
        assert!(again.is_hit());
    }
    let fourth = format!("{path}/{}", items[3]["id"].as_str().unwrap());
    ada.patch(&fourth, json!({"body": "Short."})).await.expect(200);
    let headers = [("if-none-match", page.header("etag"))];
    let changed = ada.send(Method::GET, &path, &headers, None).await.expect(200);
    assert_eq!(changed.body["items"][3]["body"], "Short.");
}

/// The answer once the edge gives it by itself.
async fn warm(client: &Client, path: &str) -> Answer {
    loop {
        let answer = client.get(path).await.expect(200);
        if answer.is_hit() {
            return answer;
        }
    }
}

async fn bytes_of(system: &System, key: BoundKey) -> usize {
    let mut redis = system.redis.connect().await;
    redis::cmd("STRLEN").arg(key.name()).query_async(&mut redis).await.unwrap()
}

/// Bytes that Redis has sent to its clients.
async fn moved(system: &System) -> u64 {
    let mut redis = system.redis.connect().await;
    let stats: String = redis::cmd("INFO").arg("stats").query_async(&mut redis).await.unwrap();
    let sent = stats.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:"));
    sent.unwrap().trim().parse().unwrap()
}
