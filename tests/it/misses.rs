//! The cost of reads: a warm one, and ten thousand simultaneous misses.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use optimist_shared::keys::Key;
use optimist_shared::signature::Identity;
use optimist_tests::{Answer, Kind, Options, System};
use reqwest::Method;
use serde_json::Value;

use crate::origin::{OriginClient, checked};

/// Statements by name since `before`, except those of the relay, jobs and probes.
fn since(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let background = |name: &str| {
        ["relay::", "outbox::", "flush::", "write_behind::", "jobs::", "app::"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    after
        .iter()
        .filter(|(name, _)| !background(name))
        .map(|(name, count)| (name.clone(), count - before.get(name).unwrap_or(&0)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// The commands that clients sent while `work` ran, by the address of their connection; those of scripts are left out.
async fn commands_of<T>(
    system: &System,
    work: impl Future<Output = T>,
) -> (T, BTreeMap<String, Vec<String>>) {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", system.redis.port)).await.unwrap();
    let (reader, mut writer) = stream.into_split();
    writer.write_all(b"MONITOR\r\n").await.unwrap();
    let mut lines = BufReader::new(reader).lines();
    lines.next_line().await.unwrap();
    let result = work.await;
    // MONITOR reports in order: everything before this marker has been reported by then.
    let marker = "\"ECHO\" \"end of watch\"";
    let mut connection = system.redis.connect().await;
    let _: String = redis::cmd("ECHO").arg("end of watch").query_async(&mut connection).await.unwrap();
    let mut commands: BTreeMap<String, Vec<String>> = BTreeMap::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains(marker) {
            break;
        }
        // `+<time> [<db> <address>] "COMMAND" …`
        let Some((from, command)) = line.split_once("] ") else { continue };
        let from = from.rsplit(' ').next().unwrap_or_default();
        if from != "lua" {
            commands.entry(from.to_owned()).or_default().push(command.to_owned());
        }
    }
    (result, commands)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_read_is_two_commands_sent_together_and_nothing_else() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let circle = ada.create_circle("private").await;
    ada.say(&circle, "Good morning.").await;
    let path = format!("/v1/circles/{circle}/messages");
    ada.until_hit(&path).await;
    // The first hit has stored the page of counts for the next.
    let session_key = format!("session:{{{}}}", ada.user);
    let (answer, commands): (Answer, _) = commands_of(&system, ada.get(&path)).await;
    assert!(answer.is_hit(), "{answer:?}");
    let of_edge: Vec<&Vec<String>> = commands
        .values()
        .filter(|commands| commands.iter().any(|command| command.contains(&session_key)))
        .collect();
    assert_eq!(of_edge.len(), 1, "one connection: {commands:#?}");
    let names: Vec<&str> = of_edge[0]
        .iter()
        // Of one read in sixty-four, taken along by the next.
        .filter(|command| !command.contains("metrics:"))
        .map(|command| command.split('"').nth(1).unwrap_or_default())
        .collect();
    // Admission; then the value with its counts.
    assert_eq!(names, ["EVALSHA", "MGET"], "{of_edge:#?}");
    // Projections of the message and periodic work of the origin end at some time between two reads.
    let deadline = optimist_tests::patience();
    loop {
        let before = system.origins[0].statements().await;
        assert!(ada.get(&path).await.expect(200).is_hit());
        let statements = since(&before, &system.origins[0].statements().await);
        if statements.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "with every read: {statements:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miss_of_messages_is_one_query_between_two_trips() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let circle = ada.create_circle("private").await;
    let message = ada.say(&circle, "Good morning.").await;
    let path = format!("/v1/circles/{circle}/messages");
    // Opens the partition for write-behind.
    ada.send(Method::PUT, &format!("{path}/{message}/reactions/heart"), &[], None).await.expect(202);
    ada.until_hit(&path).await;
    let id = circle.parse().unwrap();
    let list = Key::circle_messages(id).name();
    let mut connection = system.redis.connect().await;
    for key in [&list, &Key::counts(id).name(), &Key::counts_page(id).name()] {
        let _: u64 = redis::cmd("DEL").arg(key).query_async(&mut connection).await.unwrap();
    }
    let before = system.origins[0].statements().await;
    let (answer, commands): (Answer, _) = commands_of(&system, ada.get(&path)).await;
    assert_eq!(answer.header("cache-status"), "optimist; fwd=uri-miss");
    assert_eq!(answer.body["items"][0]["reactions"], serde_json::json!({"heart": 1}), "{answer:?}");
    let mut statements = since(&before, &system.origins[0].statements().await);
    // Projections of the message may run now.
    statements.retain(|name, _| name.starts_with("messages::") || name.starts_with("reactions::"));
    assert_eq!(statements, BTreeMap::from([("messages::list".to_owned(), 1)]));
    let of_origin = commands.values().find(|commands| {
        let is_of = |word: &str| commands.iter().any(|command| command.contains(word));
        is_of(&list) && !is_of("MGET")
    });
    let names: Vec<&str> = of_origin
        .unwrap_or_else(|| panic!("nobody asked for the list: {commands:#?}"))
        .iter()
        // A flush of reactions is about the circle too.
        .filter(|command| command.contains(&format!("\"{list}\"")))
        .map(|command| command.split('"').nth(1).unwrap_or_default())
        .collect();
    // The lease; then the list with its counts.
    assert_eq!(names, ["EVALSHA"; 2], "{of_origin:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_are_counted_by_estimate() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let circle = ada.create_circle("private").await;
    let path = format!("/v1/circles/{circle}/messages");
    for _ in 0..1_600 {
        ada.get(&path).await.expect(200);
    }
    let page = reqwest::get(format!("{}/metrics", system.origins[0].internal)).await.unwrap();
    let page = page.text().await.unwrap();
    let line =
        page.lines().find_map(|line| line.strip_prefix("optimist_edge_hits_total{type=\"messages\"} "));
    let hits: u64 = line.unwrap_or_else(|| panic!("{page}")).parse().unwrap();
    // One in sixty-four stands for all, and a later trip tells of it; the upper bound is six standard deviations away.
    assert!((1..=3_520).contains(&hits) && hits.is_multiple_of(64), "{hits}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_simultaneous_misses_cost_at_most_two_queries() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let circle = ada.create_circle("private").await;
    ada.say(&circle, "Good morning.").await;
    let origin = OriginClient::new(&system);
    let path = format!("/v1/circles/{circle}/messages");
    let identity =
        Identity::Session { user: ada.user.parse().unwrap(), session: ada.session.parse().unwrap() };
    // All must wait at once, but need not connect at once.
    let all = join_all((0..10_000).map(async |number| {
        tokio::time::sleep(Duration::from_micros(300 * number)).await;
        origin.get(&path, checked(identity)).await
    }));
    let (answers, statements) = at_once(&system, 10_000, all).await;
    for shown in not_given_up(&answers) {
        assert_eq!(shown["items"][0]["body"], "Good morning.");
    }
    for name in ["messages::list", "reactions::snapshot"] {
        assert!(*statements.get(name).unwrap_or(&0) <= 2, "{statements:?}");
    }
}

/// What those are shown who were not too many for a slow machine: some.
fn not_given_up(answers: &[Answer]) -> Vec<&Value> {
    assert!(answers.iter().all(|answer| crate::api::is_in_crowd(answer.status, &[200])));
    let shown: Vec<&Value> =
        answers.iter().filter(|answer| answer.status == 200).map(|answer| &answer.body).collect();
    assert!(!shown.is_empty(), "nobody is answered");
    shown
}

/// Pauses the first query until `joins` callers have joined it, or all that are admitted. Returns the result of `work`, and its statements in
/// Postgres.
async fn at_once<T>(
    system: &System,
    joins: u64,
    work: impl Future<Output = T>,
) -> (T, BTreeMap<String, u64>) {
    let origin = &system.origins[0];
    // Jobs read as well, and must not be counted.
    system.sql("update jobs set started_at = now() + interval '1 hour'");
    let mut asked = origin.passes("read.joined").await;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = origin.passes("read.joined").await;
        if now == asked {
            break;
        }
        asked = now;
    }
    let before = origin.statements().await;
    origin.arm("fill.leased", "pause", 120_000, 1).await;
    let release = async {
        let (mut joined, mut since) = (asked, Instant::now());
        // A slow machine refuses some of so many: then no more come.
        while joined < asked + joins && (joined == asked || since.elapsed() < Duration::from_secs(15)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let now = origin.passes("read.joined").await;
            if now != joined {
                (joined, since) = (now, Instant::now());
            }
        }
        origin.release().await;
    };
    let (result, ()) = futures_util::join!(work, release);
    (result, since(&before, &origin.statements().await))
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_misses_through_the_edge_cost_at_most_two_queries() {
    let system = System::with(Options { kind: Options::kind_under_test(), ..Options::default() }).await;
    let ada = system.register("Ada").await;
    let circle = ada.create_circle("private").await;
    ada.say(&circle, "Good morning.").await;
    let path = format!("/v1/circles/{circle}");
    ada.get("/v1/me").await.expect(200);
    let all = join_all((0..500).map(|_| ada.get(&path)));
    let (answers, statements) = at_once(&system, 500, all).await;
    assert!(not_given_up(&answers).iter().all(|shown| shown["role"] == "owner"));
    assert!(statements["circles::load"] <= 2, "{statements:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_without_its_origin_answers_what_it_has() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    ada.until_hit("/v1/me").await;
    // Nothing listens on this port.
    let cut_off = system.edge_before(Kind::Embedded, "http://127.0.0.1:9");
    let alone = ada.at(&cut_off.url);
    assert!(alone.get("/v1/me").await.expect(200).is_hit());
    alone.get("/v1/auth/session").await.expect(200);
    for answer in [
        alone.get("/v1/me/sessions").await,
        alone.post("/v1/circles", serde_json::json!({"name": "Never", "visibility": "public"})).await,
    ] {
        let answer = answer.expect(503);
        assert_eq!(answer.header("retry-after"), "1");
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    // The attempt was given back: it never reached the origin.
    let limits = ada.get("/v1/me/limits").await.expect(200);
    let items = limits.body["items"].as_array().unwrap();
    let creations = items.iter().find(|item| item["policy"] == "circle-creations-86400s").unwrap();
    assert_eq!(creations["remaining"], 2);
}

/// The edge serves a copy if the origin is unreachable, but not if it is broken: otherwise nobody would notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_defect_is_not_hidden_behind_an_old_copy() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let circle = ada.create_circle("private").await;
    let path = format!("/v1/circles/{circle}");
    ada.until_hit(&path).await;
    let name = Key::circle(circle.parse().unwrap()).name();
    let mut redis = system.redis.connect().await;
    // Make it expire in 1970.
    let _: i64 = redis::cmd("SETRANGE")
        .arg(&name)
        .arg(17)
        .arg("00000000000001")
        .query_async(&mut redis)
        .await
        .unwrap();
    system.sql("alter table circles rename column description to gone");
    ada.get(&path).await.expect(500);
    system.sql("alter table circles rename column gone to description");
    ada.get(&path).await.expect(200);
}
