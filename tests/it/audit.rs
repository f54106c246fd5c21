//! The auditor finds and repairs differences of every data type, and changes nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use optimist_shared::ids::Id;
use optimist_shared::keys::{BoundKey, Freshness, KEYS, Key};
use optimist_shared::limits::LIMITS;
use optimist_tests::registers::{Registers, fenced_keys};
use optimist_tests::{Client, Crowd, Kind, Load, Options, Origin, System, until};
use reqwest::Method;
use serde_json::{Value, json};

/// The audited data types, by the tables: copies, state that lives in Redis first, journal keys, and sums within
/// Postgres.
fn data_types() -> BTreeSet<&'static str> {
    let compared = KEYS.iter().filter(|row| row.freshness != Freshness::Own || row.key == Key::JournalKey);
    let sums = [
        "member_count",
        "member_days",
        "reaction_counts",
        "notifications",
        "comment_count",
        "activity_days",
        "activity_totals",
    ];
    compared.filter(|row| row.key != Key::DirtyDrafts).map(|row| row.data_type).chain(sums).collect()
}

/// `optimist-origin check`: whether nothing differs; and for each type the numbers compared, conflicting and stale.
fn check(system: &System) -> (bool, Vec<(String, u64, u64, u64)>) {
    let (is_good, output) = Origin::command(&system.environment(), &["check"]);
    let rows = output.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, checked, differ, stale] = words[..] else { return None };
        Some((name.to_owned(), checked.parse().ok()?, differ.parse().ok()?, stale.parse().ok()?))
    });
    let rows: Vec<(String, u64, u64, u64)> = rows.collect();
    assert!(!rows.is_empty(), "{output}");
    (is_good, rows)
}

/// People and resources of every data type, in both stores.
async fn populate(system: &System) -> (Client, String) {
    let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
    let circle = ada.create_circle("public").await;
    bo.join(&circle, &ada).await;
    let message = ada.say(&circle, "Good morning.").await;
    let path = format!("/v1/circles/{circle}");
    let message = format!("{path}/messages/{message}");
    bo.send(Method::PUT, &format!("{message}/reactions/heart"), &[], None).await.expect(202);
    bo.post(&format!("{message}/comments"), json!({"body": "And to you."})).await.expect(201);
    ada.post("/v1/journal/entries", json!({"body": "Dear diary.", "tags": ["rain"]})).await.expect(201);
    let token = json!({"endpoint": "https://127.0.0.1:9/hook"});
    ada.post("/v1/me/push-tokens", token).await.expect(201);
    let draft = format!("/v1/journal/drafts/{}", uuid::Uuid::now_v7());
    let body = json!({"body": "Dear", "base_version": null}).to_string().into_bytes();
    ada.send(Method::PUT, &draft, &[], Some(body)).await.expect(200);
    until("drafts and reactions are flushed", async || {
        system.sql("select (select count(*) from drafts) || ' ' || (select count(*) from notifications) || ' ' || (select count(*) from activity)")
            == "1 3 2"
    })
    .await;
    // The cached list predates these circles.
    let discovery = Key::discovery().name();
    let _: () =
        redis::cmd("DEL").arg(discovery).query_async(&mut system.redis.connect().await).await.unwrap();
    for client in [&ada, &bo] {
        for read in [
            "/v1/me".to_owned(),
            "/v1/me/circles".to_owned(),
            format!("/v1/users/{}", bo.user),
            "/v1/circles".to_owned(),
            path.clone(),
            format!("{path}/members"),
            format!("{path}/activity"),
            format!("{path}/stats"),
            format!("{path}/messages"),
            message.clone(),
            format!("{message}/comments"),
            "/v1/journal/prompts".to_owned(),
            "/v1/categories".to_owned(),
            "/v1/messages/popular".to_owned(),
            "/v1/journal/tags/recent".to_owned(),
            "/v1/journal/streak".to_owned(),
            "/v1/me/preferences".to_owned(),
            "/v1/me/notification-preferences".to_owned(),
            "/v1/me/push-tokens".to_owned(),
            draft.clone(),
        ] {
            for _ in 0..2 {
                client.send(Method::GET, &read, &[], None).await;
            }
        }
    }
    (ada, path)
}

fn replaced(bytes: &[u8], old: &str, new: &str) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let at = bytes.windows(old.len()).position(|part| part == old.as_bytes());
    let at = at.unwrap_or_else(|| panic!("no {old} in {}", String::from_utf8_lossy(bytes)));
    [&bytes[..at], new.as_bytes(), &bytes[at + old.len()..]].concat()
}

/// Corrupts the value of a key in a way that none of our protocols would.
async fn plant(redis: &mut redis::aio::MultiplexedConnection, name: &str, key: Key) {
    /// The header of a cached value: version, epoch, two times, transaction, kind.
    const HEADER: usize = 62;
    let mut hash = redis::cmd("HSET");
    match key {
        Key::Reactions => {
            hash.arg(name).arg("1:00000000-0000-7000-8000-000000000001").arg("");
        }
        Key::Counts => {
            let fields: Vec<(String, String)> =
                redis::cmd("HGETALL").arg(name).query_async(redis).await.unwrap();
            let (message, counts) = &fields[0];
            hash.arg(name).arg(message).arg(format!("{}9,9", &counts[..16]));
        }
        Key::Draft => {
            hash.arg(name).arg("sealed").arg("AAAA");
        }
        _ => {
            let value: Vec<u8> = redis::cmd("GET").arg(name).query_async(redis).await.unwrap();
            let planted = match key {
                Key::JournalKey => b"j1 AAAA".to_vec(),
                Key::CountsPage => [&value[..], b"9"].concat(),
                Key::Prompts => replaced(&value, "category", "kategory"),
                Key::Session => {
                    let other = if value[HEADER] == b'0' { b'1' } else { b'0' };
                    [&value[..HEADER], &[other], &value[HEADER + 1..]].concat()
                }
                Key::Popular
                | Key::Membership
                | Key::CircleAccess
                | Key::RecentTags
                | Key::Streak
                | Key::ReadMarker => [&value[..HEADER], b"other"].concat(),
                Key::Blocked => [&value[..HEADER], b"0190a0a0-0000-7000-8000-00000000000a"].concat(),
                Key::PersonalPreferences => replaced(&value, "week_start", "Week_start"),
                Key::Preferences => replaced(&value, "webhook", "Webhook"),
                Key::Categories => replaced(&value, "names", "Names"),
                Key::PushTokens => replaced(&value, "items", "Items"),
                Key::CircleActivity => replaced(&value, "kind", "Kind"),
                Key::CircleStats => replaced(&value, "comments", "Comments"),
                Key::CircleMembers | Key::MyCircles => replaced(&value, "joined_at", "Joined_at"),
                Key::CircleHead => replaced(&value, "visibility", "Visibility"),
                _ => replaced(&value, "created_at", "Created_at"),
            };
            let _: () =
                redis::cmd("SET").arg(name).arg(planted).arg("KEEPTTL").query_async(redis).await.unwrap();
            return;
        }
    }
    let _: i64 = hash.query_async(redis).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_differences_of_every_type_are_found_and_repaired() {
    let system = System::start().await;
    let (ada, path) = populate(&system).await;
    let (is_good, rows) = check(&system);
    assert!(is_good, "{rows:?}");
    let compared: BTreeSet<&str> =
        rows.iter().filter(|(_, checked, ..)| *checked > 0).map(|(name, ..)| name.as_str()).collect();
    assert_eq!(compared, data_types());

    // Keep the auditor from finding them first.
    system.sql("update jobs set started_at = now() + interval '1 hour' where name = 'audit'");
    let before = ada.get(&path).await.expect(200).body;
    let mut redis = system.redis.connect().await;
    let names: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await.unwrap();
    for name in names {
        if let Some(key) = BoundKey::parse(&name).filter(|key| data_types().contains(key.row().data_type)) {
            plant(&mut redis, &name, key.key()).await;
        }
    }
    system.sql(
        "update circles set member_count = member_count + 5;
         update reaction_counts set count = count + 3;
         update messages set comments = comments + 7 where comments > 0;
         update member_days set members = members + 1;
         update activity_days set posts = posts + 1;
         update activity_totals set reactions = reactions + 4;
         update notification_counts set unread = unread + 2",
    );
    // Checked alone: any later reader of the key repairs it, such as the check of drafts.
    assert_eq!(Origin::exit(&system.environment(), &["check", "journal_key"]).0, Some(1));
    let (is_good, rows) = check(&system);
    assert!(!is_good);
    for name in data_types().into_iter().filter(|name| *name != "journal_key") {
        let row = rows.iter().find(|(found, ..)| found == name).unwrap_or_else(|| panic!("{name}: {rows:?}"));
        assert!(row.2 + row.3 > 0, "{name} was not found: {rows:?}");
    }
    system.sql("update jobs set started_at = null where name = 'audit'");
    until("everything is repaired", async || {
        let (is_good, rows) = check(&system);
        rows.iter().filter(|(_, _, differ, stale)| differ + stale > 0).for_each(|row| println!("{row:?}"));
        is_good
    })
    .await;
    let after = ada.get(&path).await.expect(200).body;
    assert_eq!(after["member_count"], before["member_count"]);
    let counts = system.sql("select string_agg(distinct count::text, ',') from reaction_counts");
    assert_eq!(counts, "1");

    // The report that administrators see.
    assert!(Origin::command(&system.environment(), &["admin", "grant", &ada.email]).0);
    let deadline = optimist_tests::patience();
    loop {
        let report = ada.get("/v1/admin/consistency").await.expect(200).body;
        let found = |name: &str| {
            let item = report["items"].as_array()?.iter().find(|item| item["data_type"] == name)?.clone();
            Some(item["conflicts"].as_i64()? + item["stale"].as_i64()? > 0)
        };
        // Counts are repaired with their message's state, and a key by its readers, so these may show no findings.
        let missing: Vec<&str> = data_types()
            .into_iter()
            .filter(|name| {
                !["counts", "counts_page", "journal_key"].contains(name) && found(name) != Some(true)
            })
            .collect();
        if missing.is_empty() {
            assert_eq!((&report["region"], &report["mode"]), (&json!("test"), &json!("on")));
            assert_eq!(report["writes_set_aside"], 0);
            break;
        }
        assert!(Instant::now() < deadline, "{missing:?}: {report:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_of_one_type_sees_that_alone_and_exits_with_1() {
    let system = System::start().await;
    populate(&system).await;
    // Keep the auditor from finding it first.
    system.sql("update jobs set started_at = now() + interval '1 hour' where name = 'audit'");
    let run = |arguments: &[&str]| Origin::exit(&system.environment(), arguments);
    assert_eq!(run(&["check"]).0, Some(0));
    system.sql("update notification_counts set unread = unread + 2");
    assert_eq!(run(&["check"]).0, Some(1));
    let (code, output) = run(&["check", "notifications"]);
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("notifications") && !output.contains("circle"), "{output}");
    assert_eq!(run(&["check", "circle"]).0, Some(0));
    assert_eq!(run(&["check", "notifications", "--repair"]).0, Some(1), "it differed");
    assert_eq!(run(&["check", "notifications"]).0, Some(0));
    let (code, output) = run(&["check", "nothing"]);
    assert!(code == Some(1) && output.contains("notifications"), "what there is: {output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_differs_under_load() {
    let system = System::with(Options { origins: 2, ..Options::default() }).await;
    let other_edge = system.edge_before(Kind::Embedded, &system.origins[1].api);
    let crowd = Crowd::new(&system, 4, 2, 20).await;
    let ada = system.register("Ada").await;
    let registers = Arc::new(Registers::new(&system).await);
    let edges = [registers.clone(), Arc::new(registers.at(&other_edge.url))];
    let mut loads = Vec::new();
    for key in fenced_keys() {
        loads.push(Load::start(key, &edges).await);
    }
    let urls = [system.edge.url.clone(), other_edge.url.clone()];
    let reacting = tokio::spawn({
        let crowd = crowd.clone();
        async move { crowd.react(&urls, 2_000, false).await }
    });
    let writing = tokio::spawn(writes(ada.at(&other_edge.url), system.redis.connect().await));
    let mut compared = 0;
    for _ in 0..6 {
        let (is_good, rows) = check(&system);
        assert!(is_good, "{rows:?}");
        compared += rows.iter().map(|(_, checked, ..)| checked).sum::<u64>();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    for load in loads {
        let violations = load.stop().await;
        assert!(violations.is_empty(), "{violations:#?}");
    }
    reacting.await.unwrap();
    writing.abort();
    assert!(compared > 300, "only {compared} were comparable");
    assert_eq!(system.sql("select coalesce(sum(conflicts), 0) from consistency"), "0");
}

/// Saves drafts some times each and then as entries, until aborted.
async fn writes(client: Client, mut redis: redis::aio::MultiplexedConnection) {
    let limits: Vec<String> = LIMITS.iter().map(|row| row.key(&client.user)).collect();
    for number in 0.. {
        let id = uuid::Uuid::now_v7();
        let mut base = Value::Null;
        for _ in 0..3 + number % 4 {
            let _: i64 = redis::cmd("DEL").arg(&limits).query_async(&mut redis).await.unwrap();
            let body = json!({"body": "Dear diary", "base_version": base}).to_string().into_bytes();
            let path = format!("/v1/journal/drafts/{id}");
            base = client.send(Method::PUT, &path, &[], Some(body)).await.expect(200).body["version"].clone();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let entry = json!({"draft_id": id, "body": "Dear diary.", "tags": ["rain"]});
        client.post("/v1/journal/entries", entry).await.expect(201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_may_drop_a_copy_and_nothing_else() {
    let system = System::start().await;
    let (ada, path) = populate(&system).await;
    let circle = path.rsplit('/').next().unwrap();
    let mut redis = system.redis.connect().await;
    let names: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await.unwrap();
    let named = |wanted: Key| {
        let is = |name: &&String| BoundKey::parse(name).is_some_and(|key| key.key() == wanted);
        names.iter().find(is).unwrap_or_else(|| panic!("no {wanted:?}")).clone()
    };
    let drop_path = |name: &str| format!("/v1/admin/cache/{}", name.replace('{', "%7B").replace('}', "%7D"));
    let copy = named(Key::Circle);
    assert!(copy.contains(circle));
    ada.delete(&drop_path(&copy)).await.expect(403);
    assert!(Origin::command(&system.environment(), &["admin", "grant", &ada.email]).0);
    assert!(ada.get(&path).await.expect(200).is_hit());
    let answer = ada.delete(&drop_path(&copy)).await.expect(200);
    assert_eq!(answer.body, json!({"key": copy, "dropped": 1}));
    let exists: i64 = redis::cmd("EXISTS").arg(&copy).query_async(&mut redis).await.unwrap();
    assert_eq!(exists, 0);
    assert_eq!(ada.get(&path).await.expect(200).body["id"], circle);
    for refused in [named(Key::Draft), named(Key::Ledger), named(Key::Vouch), "nonsense".to_owned()] {
        let answer = ada.delete(&drop_path(&refused)).await.expect(422);
        assert_eq!(answer.body["errors"][0]["field"], "key", "{refused}");
    }
    let record = "select payload ->> 'key' from outbox where kind = 'admin.copy-dropped'";
    assert_eq!(system.sql(record), copy);
}

#[tokio::test(flavor = "multi_thread")]
async fn critical_keys_are_read_anew_before_they_are_missed() {
    let system = System::start().await;
    let (_, path) = populate(&system).await;
    let circle = path.rsplit('/').next().unwrap().to_owned();
    until("activity is counted", async || system.sql("select count(*) > 0 from activity") == "t").await;
    let mut redis = system.redis.connect().await;
    let _: () = redis::cmd("FLUSHALL").query_async(&mut redis).await.unwrap();
    until("they are back", async || {
        system.sql("update jobs set started_at = null where name = 'cache.refresh'");
        let names: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await.unwrap();
        let keys: Vec<Key> = names
            .iter()
            .filter_map(|name| BoundKey::parse(name))
            .filter(|key| key.ids().get(Id::Circle).is_none_or(|id| id.to_string() == circle))
            .map(|key| key.key())
            .collect();
        let critical = [
            Key::Discovery,
            Key::Prompts,
            Key::Circle,
            Key::CircleAccess,
            Key::CircleMembers,
            Key::CircleMessages,
            Key::Counts,
        ];
        critical.iter().all(|key| keys.contains(key))
    })
    .await;
    assert_eq!(system.sql("select error is null from jobs where name = 'cache.refresh'"), "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_vouches_for_is_not_called_the_same() {
    let mut system = System::start().await;
    assert!(check(&system).0);
    system.origins[0].kill();
    until("the vouching is over", async || {
        let (is_good, output) = Origin::command(&system.environment(), &["check"]);
        !is_good && output.contains("vouches")
    })
    .await;
}
