//! Drafts in both stores: no edit is lost and no deleted draft returns, whichever process dies at whichever step.

use std::time::{Duration, Instant};

use optimist_shared::ids::Partition;
use optimist_shared::keys::Key;
use optimist_shared::limits::Limit;
use optimist_tests::{Answer, Client, Kind, Options, System, until};
use reqwest::Method;
use serde_json::{Value, json};

pub const ENTRIES: &str = "/v1/journal/entries";
const DRAFTS: &str = "/v1/journal/drafts";

pub fn new_draft() -> String {
    format!("{DRAFTS}/{}", uuid::Uuid::now_v7())
}

pub async fn put(client: &Client, path: &str, body: &str, base: &Value) -> Answer {
    try_put(client, path, body, base).await.unwrap()
}

async fn try_put(client: &Client, path: &str, body: &str, base: &Value) -> reqwest::Result<Answer> {
    let body = json!({"body": body, "base_version": base}).to_string().into_bytes();
    client.try_send(Method::PUT, path, &[], Some(body)).await
}

/// Saves a text over the `base` version; returns the next version.
async fn save(client: &Client, path: &str, body: &str, base: &Value) -> Value {
    put(client, path, body, base).await.expect(200).body["version"].clone()
}

pub async fn flushed(system: &System, version: &Value) {
    let version = version.as_str().unwrap();
    let sql = format!("select count(*) from drafts where version = '{version}'");
    until("the draft is flushed", async || system.sql(&sql) == "1").await;
}

async fn empty_redis(system: &System) {
    let _: () = redis::cmd("FLUSHALL").query_async(&mut system.redis.connect().await).await.unwrap();
}

/// The texts of all drafts, read page by page.
async fn texts(client: &Client) -> Vec<String> {
    let (mut texts, mut query) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("{DRAFTS}?limit=100{query}")).await.expect(200);
        let items = page.body["items"].as_array().unwrap();
        texts.extend(items.iter().map(|item| item["body"].as_str().unwrap().to_owned()));
        let Some(next) = page.body["next"].as_str() else { return texts };
        query = format!("&cursor={next}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_survives_the_loss_of_redis_as_promised() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let path = new_draft();
    let first = save(&ada, &path, "Flushed.", &Value::Null).await;
    flushed(&system, &first).await;
    system.origins[0].arm("drafts.flush", "pause", 60_000, 1_000).await;
    let second = save(&ada, &path, "Flushed. Not yet.", &first).await;
    empty_redis(&system).await;
    until("somebody vouches again", async || put(&ada, &new_draft(), "x", &Value::Null).await.status == 200)
        .await;
    let draft = ada.get(&path).await.expect(200);
    assert_eq!((&draft.body["body"], &draft.body["version"]), (&json!("Flushed."), &first));
    // The tab still has the whole text, and nothing that it sends is lost.
    let refused = put(&ada, &path, "Flushed. Not yet. And on.", &second).await.expect(409);
    assert_eq!(refused.body["current"]["body"], "Flushed.");
    assert_eq!(refused.body["sibling"]["body"], "Flushed. Not yet. And on.");
    let third = save(&ada, &path, "Flushed. Merged.", &first).await;
    system.origins[0].arm("drafts.flush", "pause", 0, 0).await;
    system.origins[0].release().await;
    flushed(&system, &third).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_drafts_are_written_through_and_come_back_into_it() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let path = new_draft();
    system.origins[0].arm("drafts.flush", "pause", 60_000, 1_000).await;
    let first = save(&ada, &path, "Unflushed", &Value::Null).await;
    system.origin_to_redis.cut();
    let through = put(&ada, &path, "Unflushed, and through", &first).await.expect(200);
    assert_eq!(through.body["promise"], "postgres");
    let stale = put(&ada, &path, "From another tab", &first).await.expect(409);
    assert_eq!(stale.body["current"]["body"], "Unflushed, and through");
    system.origin_to_redis.send_to(&format!("127.0.0.1:{}", system.redis.port));
    system.origins[0].arm("drafts.flush", "pause", 0, 0).await;
    system.origins[0].release().await;
    let mut base = through.body["version"].clone();
    let mut turn = 0;
    until("drafts are saved in Redis again", async || {
        turn += 1;
        let answer = put(&ada, &path, &format!("Through, {turn}"), &base).await.expect(200);
        base = answer.body["version"].clone();
        answer.body["promise"] == "redis"
    })
    .await;
    flushed(&system, &base).await;
    let mut all = texts(&ada).await;
    all.sort();
    assert_eq!(
        all,
        ["From another tab".to_owned(), format!("Through, {turn}")],
        "nothing twice, nothing old"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tabs_that_write_at_once_lose_no_word_whatever_dies() {
    const TABS: usize = 4;
    const WORDS: usize = 50;
    let mut system = System::with(Options { origins: 2, appendfsync: "always", ..Options::default() }).await;
    let other_edge = system.edge_before(Kind::Embedded, &system.origins[1].api);
    let ada = system.register("Ada").await;
    let path = new_draft();
    let first = save(&ada, &path, "", &Value::Null).await;
    let tabs: Vec<_> = (0..TABS)
        .map(|tab| {
            let client = if tab % 2 == 0 { ada.clone() } else { ada.at(&other_edge.url) };
            let (path, mut base) = (path.clone(), first.clone());
            tokio::spawn(async move {
                let (mut text, mut kept) = (String::new(), Vec::new());
                for number in 0..WORDS {
                    let word = format!(" w{tab}x{number}.");
                    let deadline = optimist_tests::patience();
                    loop {
                        assert!(Instant::now() < deadline, "no answer");
                        match try_put(&client, &path, &format!("{text}{word}"), &base).await {
                            Ok(answer) if answer.status == 200 => {
                                text.push_str(&word);
                                base = answer.body["version"].clone();
                            }
                            Ok(answer) if answer.status == 409 => {
                                text = answer.text("/current/body");
                                base = answer.body["current"]["version"].clone();
                            }
                            Ok(answer) if answer.status < 500 && answer.status != 429 => {
                                panic!("{answer:#?}")
                            }
                            // Not acknowledged: try again.
                            _ => {
                                tokio::time::sleep(Duration::from_millis(50)).await;
                                continue;
                            }
                        }
                        kept.push(word);
                        break;
                    }
                }
                kept
            })
        })
        .collect();
    // Every sibling counts against a limit that other tests cover; reset it.
    let forgetting = tokio::spawn({
        let limit = Limit::JournalAutosaves.row().key(&ada.user);
        let mut redis = system.redis.connect().await;
        async move {
            loop {
                let _: redis::RedisResult<()> = redis::cmd("DEL").arg(&limit).query_async(&mut redis).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    for step in ["drafts.flush", "drafts.flushed"] {
        system.origins[0].arm(step, "abort", 0, 1).await;
        // Listing drafts flushes first, so there is no need to wait for the next round.
        let _ = ada.try_send(Method::GET, DRAFTS, &[], None).await;
        let deadline = optimist_tests::patience();
        while system.origins[0].is_running() && !tabs.iter().all(|tab| tab.is_finished()) {
            assert!(Instant::now() < deadline, "nobody came to {step}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        system.origins[0].kill();
        system.replace_origin(0);
    }
    system.origin_to_redis.cut();
    tokio::time::sleep(Duration::from_millis(500)).await;
    system.origin_to_redis.send_to(&format!("127.0.0.1:{}", system.redis.port));
    let mut words = Vec::new();
    for tab in tabs {
        words.extend(tab.await.unwrap());
    }
    forgetting.abort();
    assert_eq!(words.len(), TABS * WORDS);
    let all = texts(&ada.at(&other_edge.url)).await;
    let lost: Vec<&String> =
        words.iter().filter(|word| !all.iter().any(|text| text.contains(*word))).collect();
    assert!(lost.is_empty(), "{lost:?} of {all:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_flush_brings_back_no_draft_that_was_saved_for_good() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    // Once buried before its flush, once after.
    for is_flushed in [false, true] {
        let path = new_draft();
        let first = save(&ada, &path, "Draft", &Value::Null).await;
        let second = if is_flushed {
            flushed(&system, &first).await;
            save(&ada, &path, "Draft, on", &first).await
        } else {
            first
        };
        let passes = system.origins[0].passes("drafts.flush").await;
        system.origins[0].arm("drafts.flush", "pause", 60_000, 1).await;
        system.origins[0].wait_for_passes("drafts.flush", passes + 1).await;
        let id = path.rsplit('/').next().unwrap();
        ada.post(ENTRIES, json!({"draft_id": id, "body": "For good"})).await.expect(201);
        ada.get(&path).await.expect(404);
        system.origins[0].release().await;
        let late = put(&ada, &path, "From a sleeping tab", &second).await.expect(409);
        assert_eq!(late.body["current"], Value::Null);
        system.origins[0].wait_for_passes("drafts.flushed", 1).await;
        assert_eq!(texts(&ada).await, ["From a sleeping tab"]);
        let sibling = late.text("/sibling/id");
        ada.delete(&format!("{DRAFTS}/{sibling}")).await.expect(204);
        ada.get(&path).await.expect(404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_killed_between_burying_and_forgetting_leaves_no_draft() {
    let mut system = System::start().await;
    let ada = system.register("Ada").await;
    let path = new_draft();
    let version = save(&ada, &path, "Draft", &Value::Null).await;
    let id = path.rsplit('/').next().unwrap();
    system.origins[0].arm("drafts.buried", "abort", 0, 1).await;
    let body = json!({"draft_id": id, "body": "For good"}).to_string().into_bytes();
    let key = [("idempotency-key", "once")];
    let answer = ada.send(Method::POST, ENTRIES, &key, Some(body.clone())).await;
    assert!(answer.status >= 500, "{answer:#?}");
    system.origins[0].kill();
    system.replace_origin(0);
    until("the repetition is answered", async || {
        ada.send(Method::POST, ENTRIES, &key, Some(body.clone())).await.status == 201
    })
    .await;
    ada.get(&path).await.expect(404);
    put(&ada, &path, "Late", &version).await.expect(409);
    assert_eq!(texts(&ada).await, ["Late"]);
    assert_eq!(system.sql("select count(*) from journal_entries"), "1");
}

/// An auto-save that is acknowledged while its final save is being made: the entry has its text, and whichever process finds it
/// afterwards keeps no draft of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_auto_save_that_races_with_its_final_save_leaves_no_draft_whatever_dies() {
    let mut system = System::start().await;
    let ada = system.register("Ada").await;
    let deaths = [None, Some("tx.committed"), Some("drafts.buried")];
    for (number, killed_at) in deaths.into_iter().enumerate() {
        system.forget_limits_of(&ada).await;
        let path = new_draft();
        let first = save(&ada, &path, "Dear", &Value::Null).await;
        // The final save has read the draft's version, and waits.
        let passes = system.origins[0].passes("tx.begun").await;
        system.origins[0].arm("tx.begun", "pause", 60_000, 1).await;
        let id = path.rsplit('/').next().unwrap();
        let body = json!({"draft_id": id, "body": "Dear diary, it rained."}).to_string().into_bytes();
        let key = format!("race-{number}");
        let saving = tokio::spawn({
            let (ada, body, key) = (ada.clone(), body.clone(), key.clone());
            async move {
                ada.try_send(Method::POST, ENTRIES, &[("idempotency-key", key.as_str())], Some(body)).await
            }
        });
        system.origins[0].wait_for_passes("tx.begun", passes + 1).await;
        let late = save(&ada, &path, "Dear diary, it", &first).await;
        if let Some(step) = killed_at {
            system.origins[0].arm(step, "abort", 0, 1).await;
        }
        system.origins[0].arm("tx.begun", "pause", 0, 0).await;
        system.origins[0].release().await;
        let answer = saving.await.unwrap();
        match killed_at {
            None => assert_eq!(answer.unwrap().status, 201),
            Some(step) => {
                until(step, async || !system.origins[0].is_running()).await;
                system.replace_origin(0);
                let key = [("idempotency-key", key.as_str())];
                until("the repetition is answered", async || {
                    ada.send(Method::POST, ENTRIES, &key, Some(body.clone())).await.status == 201
                })
                .await;
            }
        }
        ada.get(&path).await.expect(404);
        assert_eq!(
            put(&ada, &path, "Dear diary, it rai", &late).await.expect(409).body["sibling"],
            Value::Null
        );
        assert_eq!(texts(&ada).await, [""; 0], "{killed_at:?}");
        assert_eq!(system.sql("select count(*) from journal_entries"), (number + 1).to_string());
    }
}

/// The steps of a final save: those of its transaction, and those between the two stores.
#[tokio::test(flavor = "multi_thread")]
async fn an_origin_killed_at_any_step_of_a_final_save_saves_once_and_leaves_no_draft() {
    const STEPS: [&str; 7] = [
        "tx.begun",
        "tx.statements",
        "tx.outbox",
        "tx.fenced",
        "tx.committed",
        "tx.released",
        "drafts.buried",
    ];
    let mut system = System::start().await;
    let ada = system.register("Ada").await;
    for (number, step) in STEPS.into_iter().enumerate() {
        system.forget_limits_of(&ada).await;
        let path = new_draft();
        let version = save(&ada, &path, "Draft", &Value::Null).await;
        // Alternately flushed before, and not.
        if number % 2 == 0 {
            flushed(&system, &version).await;
        }
        let id = path.rsplit('/').next().unwrap();
        system.origins[0].arm(step, "abort", 0, 1).await;
        let body = json!({"draft_id": id, "body": "For good"}).to_string().into_bytes();
        let key = [("idempotency-key", step)];
        let answer = ada.send(Method::POST, ENTRIES, &key, Some(body.clone())).await;
        assert!(answer.status >= 500, "{step}: {answer:#?}");
        until(step, async || !system.origins[0].is_running()).await;
        system.replace_origin(0);
        until("the repetition is answered", async || {
            ada.send(Method::POST, ENTRIES, &key, Some(body.clone())).await.status == 201
        })
        .await;
        ada.get(&path).await.expect(404);
        assert_eq!(texts(&ada).await, [""; 0], "{step}");
        assert_eq!(system.sql("select count(*) from journal_entries"), (number + 1).to_string(), "{step}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_that_can_be_kept_nowhere_hinders_no_other() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let path = new_draft();
    let first = save(&ada, &path, "One", &Value::Null).await;
    let second = save(&ada, &path, "One, two", &first).await;
    flushed(&system, &second).await;
    // Plant a draft that claims to wait, has diverged from its row, and does not decrypt.
    let user = ada.user.parse().unwrap();
    let id = path.rsplit('/').next().unwrap();
    let draft = Key::draft(user, id.parse().unwrap()).name();
    let dirty = Key::DirtyDrafts.of_partition(Partition::of(user));
    let mut redis = system.redis.connect().await;
    let mut planted = redis::pipe();
    planted.cmd("HSET").arg(&draft).arg(&[
        "version",
        first.as_str().unwrap(),
        "sealed",
        "AAAA",
        "flushed",
        "0",
    ]);
    planted.cmd("ZADD").arg(&dirty).arg(0).arg(format!("{user}:{id}"));
    // Before it in the queue stand many missing drafts, and an entry that names no draft.
    for _ in 0..300 {
        planted.cmd("ZADD").arg(&dirty).arg(0).arg(format!("{user}:{}", uuid::Uuid::new_v4()));
    }
    planted.cmd("ZADD").arg(&dirty).arg(0).arg("nonsense");
    planted.exec_async(&mut redis).await.unwrap();
    let other = save(&ada, &new_draft(), "Another", &Value::Null).await;
    flushed(&system, &other).await;
    assert_eq!(texts(&ada).await, ["Another", "One, two"]);
    until("what is not there waits no more", async || {
        let waiting: Vec<String> =
            redis::cmd("ZRANGE").arg(&dirty).arg(0).arg(-1).query_async(&mut redis).await.unwrap();
        waiting.len() <= 2 && waiting.contains(&format!("{user}:{id}"))
    })
    .await;
    assert!(system.origins[0].log().contains("a draft cannot be kept as a sibling"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgres_drafts_go_on() {
    let mut system = System::with(Options { own_postgres: true, ..Options::default() }).await;
    let ada = system.register("Ada").await;
    let path = new_draft();
    let first = save(&ada, &path, "Before", &Value::Null).await;
    flushed(&system, &first).await;
    system.own_postgres.as_mut().unwrap().kill();
    let mut base = first;
    for text in ["During", "During, on"] {
        let answer = put(&ada, &path, text, &base).await.expect(200);
        assert_eq!(answer.body["promise"], "redis");
        base = answer.body["version"].clone();
    }
    assert_eq!(ada.get(&path).await.expect(200).body["body"], "During, on");
    system.own_postgres.as_mut().unwrap().launch();
    flushed(&system, &base).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quota_of_drafts_holds_without_redis_and_after_its_loss() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let path = new_draft();
    let first = save(&ada, &path, "Before.", &Value::Null).await;
    flushed(&system, &first).await;
    // Only the size of these counts.
    let fill = format!(
        "insert into drafts (user_id, id, version, sealed, saved_at)
         select '{}', gen_random_uuid(), '', convert_to(repeat('x', 200000), 'UTF8'), now() - interval '1 day'
         from generate_series(1, 20)",
        ada.user
    );
    system.sql(&fill);
    empty_redis(&system).await;
    let long = "\u{1f331}".repeat(49_000);
    let refused = async || {
        let answer = put(&ada, &new_draft(), &long, &Value::Null).await;
        // Until somebody vouches for the emptied Redis.
        (answer.status == 422).then(|| assert_eq!(answer.body["limit"], "drafts", "{answer:#?}")).is_some()
    };
    until("more is refused after the loss of Redis", refused).await;
    let shorter = save(&ada, &path, "Less.", &first).await;
    flushed(&system, &shorter).await;
    system.origin_to_redis.cut();
    until("more is refused without Redis", refused).await;
    let answer = put(&ada, &path, "", &shorter).await.expect(200);
    assert_eq!(answer.body["promise"], "postgres");
    assert_eq!(system.sql("select count(*) from drafts"), "21");
}
