//! Private writing: no edit lost, nothing brought back that was deleted, nothing readable in any store, days as the user has
//! them.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeZone as _, Utc};
use optimist_shared::ids::Partition;
use optimist_shared::keys::{Key, Parameters};
use optimist_shared::limits::Limit;
use optimist_tests::stores::folder;
use optimist_tests::{Answer, Client, Kind, Options, Origin, System};
use reqwest::Method;
use serde_json::{Value, json};

const ENTRIES: &str = "/v1/journal/entries";
const DRAFTS: &str = "/v1/journal/drafts";

fn new_draft() -> String {
    format!("{DRAFTS}/{}", uuid::Uuid::now_v7())
}

async fn put(client: &Client, path: &str, body: &str, base: &Value) -> Answer {
    try_put(client, path, body, base).await.unwrap()
}

async fn try_put(client: &Client, path: &str, body: &str, base: &Value) -> reqwest::Result<Answer> {
    let body = json!({"body": body, "base_version": base}).to_string().into_bytes();
    client.try_send(Method::PUT, path, &[], Some(body)).await
}

/// Saves a text over this version; the next one.
async fn save(client: &Client, path: &str, body: &str, base: &Value) -> Value {
    put(client, path, body, base).await.expect(200).body["version"].clone()
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn flushed(system: &System, version: &Value) {
    let version = version.as_str().unwrap();
    let sql = format!("select count(*) from drafts where version = '{version}'");
    until("the draft is flushed", async || system.sql(&sql) == "1").await;
}

async fn empty_redis(system: &System) {
    let _: () = redis::cmd("FLUSHALL").query_async(&mut system.redis.connect().await).await.unwrap();
}

/// The texts of all drafts, page after page.
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
    // The tab still has all of it, and nothing that it sends is lost.
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
                    let deadline = Instant::now() + Duration::from_secs(60);
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
                            // Not acknowledged: again.
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
    // Each text that is kept beside another counts against a limit that is another test's.
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
        // A list flushes first: no need to wait for the next round.
        let _ = ada.try_send(Method::GET, DRAFTS, &[], None).await;
        let deadline = Instant::now() + Duration::from_secs(20);
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
    // Unflushed when it is buried, and flushed before.
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

/// Every step of a final save: its transaction's, and those between the two stores.
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
        // Flushed before, and not.
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
    // It says that it waits, went another way than its row, and does not open.
    let user = ada.user.parse().unwrap();
    let id = path.rsplit('/').next().unwrap();
    let parameters = Parameters { user: Some(user), draft: id.parse().ok(), ..Parameters::default() };
    let (draft, dirty) =
        (Key::Draft.render(&parameters).unwrap(), Key::DirtyDrafts.of_partition(Partition::of(user)));
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
    // And before it there are many of which nothing is left, and what names no draft.
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
    assert!(system.origins[0].log().contains("a draft can be kept nowhere"));
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

/// A text, and how it looks in base64 at any place.
fn needles(text: &str) -> Vec<String> {
    let encoded = (0..3).map(|shift| {
        let padded = [&vec![0; shift], text.as_bytes()].concat();
        let encoded = STANDARD.encode(padded);
        encoded[4..encoded.len() - 4].to_owned()
    });
    encoded.chain([text.to_owned()]).collect()
}

fn holds(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|part| part == needle.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_written_is_readable_in_any_store_or_log() {
    const CANARY: &str = "canary-41c2f7e09b";
    const CONTROL: &str = "control-58d3a610fe";
    let mut system = System::with(Options { own_postgres: true, ..Options::default() }).await;
    let ada = system.register("Ada").await;
    let mut redis = system.redis.connect().await;
    // As it would be read by eye.
    let _: () = redis::cmd("CONFIG")
        .arg(&["SET", "rdbcompression", "no", "aof-use-rdb-preamble", "no"])
        .query_async(&mut redis)
        .await
        .unwrap();
    let circle = ada.create_circle("private").await;
    ada.say(&circle, CONTROL).await;
    let messages = format!("/v1/circles/{circle}/messages");
    ada.get(&messages).await.expect(200);
    let (mut last, mut drafts) = (Value::Null, Vec::new());
    for number in 0..200 {
        if number % 5 == 0 {
            system.forget_limits_of(&ada).await;
        }
        let tag = format!("{CANARY}-{number}");
        let text = format!("{CANARY} {number}");
        let path = new_draft();
        let draft = json!({"title": text, "body": text, "tags": [tag], "mood": 3, "base_version": null});
        last = ada.send(Method::PUT, &path, &[], Some(draft.to_string().into_bytes())).await.expect(200).body
            ["version"]
            .clone();
        drafts.push(path);
        let entry = json!({"title": text, "body": text, "tags": [tag], "mood": 3});
        let entry = ada.post(ENTRIES, entry).await.expect(201).header("location").to_owned();
        ada.patch(&entry, json!({"body": format!("{text} changed")})).await.expect(200);
        let mood = json!({"score": 3, "emotions": [tag], "note": text, "tags": [tag]});
        ada.post("/v1/mood", mood).await.expect(201);
        ada.get(&format!("{ENTRIES}?tag={tag}")).await.expect(200);
    }
    ada.get("/v1/journal/tags/recent").await.expect(200);
    flushed(&system, &last).await;
    put(&ada, &drafts[0], CANARY, &Value::Null).await.expect(409);
    // Nor does what tells repetitions apart: no digest of a text that one could guess.
    let guessed = json!({"score": 2, "note": "Fine."}).to_string();
    for _ in 0..2 {
        let (key, body) = ([("idempotency-key", "mood")], guessed.clone().into_bytes());
        ada.send(Method::POST, "/v1/mood", &key, Some(body)).await.expect(201);
    }
    let digest =
        format!("encode(sha256(decode(repeat('00', 64), 'hex') || convert_to('{guessed}', 'UTF8')), 'hex')");
    let kept = format!("select count(*), count(*) filter (where request_hash = {digest}) from idempotency");
    assert_eq!(system.sql(&kept), "1|0");
    // Failures that a log tells of.
    ada.post(ENTRIES, json!({"body": CANARY, "tags": [CANARY.repeat(9)]})).await.expect(422);
    ada.get(&messages).await.expect(200);

    let _: () = redis::cmd("SAVE").query_async(&mut redis).await.unwrap();
    let of_redis = system.redis.files();
    let postgres = system.own_postgres.as_ref().unwrap();
    let dump = postgres.dump(&system.database);
    let logs = system.logs();
    for (place, bytes) in [("pg_dump", &dump), ("Redis's files", &of_redis)] {
        assert!(holds(bytes, CONTROL), "{place}: this search is blind");
    }
    assert!(!logs.is_empty(), "these are no logs");
    system.own_postgres.as_mut().unwrap().kill();
    let files = system.own_postgres.as_ref().unwrap().files();
    assert!(holds(&files, CONTROL), "Postgres's files: this search is blind");
    for needle in needles(CANARY) {
        for (place, bytes) in [
            ("pg_dump", &dump),
            ("Postgres's files", &files),
            ("Redis's files", &of_redis),
            ("the logs", &logs),
        ] {
            assert!(!holds(bytes, &needle), "{place} has {needle}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_and_the_old_one_may_go() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let entry = ada.post(ENTRIES, json!({"body": "Kept."})).await.expect(201).header("location").to_owned();
    let with = |keys: &str| {
        let mut environment = system.environment();
        let setting = environment.iter_mut().find(|(name, _)| name == "OPTIMIST_JOURNAL_KEYS").unwrap();
        let old = std::mem::take(&mut setting.1);
        setting.1 = keys.replace("OLD", &old);
        environment
    };
    let new = format!("j2:{}", STANDARD.encode([9; 32]));
    // Before the rotation an origin without the old key cannot read, and says so plainly.
    let (succeeded, output) = Origin::command(&with(&new), &["keys", "rotate"]);
    assert!(!succeeded && output.contains("j1"), "{output}");
    // Somebody has the row locked meanwhile: left out, it would be lost with the old key.
    let database = system.database.clone();
    let locked = tokio::task::spawn_blocking(move || {
        let sql = "begin; select from journal_keys for update; select pg_sleep(1); commit";
        optimist_tests::stores::SHARED.sql(&database, sql)
    });
    let waiting = "select count(*) from pg_stat_activity where query like '%pg_sleep(1)%' and datname = current_database()
                   and state = 'active' and pid <> pg_backend_pid() and wait_event = 'PgSleep'";
    until("the row is locked", async || system.sql(waiting) == "1").await;
    let (succeeded, output) = Origin::command(&with(&format!("{new},OLD")), &["keys", "rotate"]);
    assert!(succeeded && output.lines().any(|line| line == "1"), "{output}");
    locked.await.unwrap();
    assert_eq!(system.sql("select distinct kek_id from journal_keys"), "j2");
    // The list may come from a file as well.
    let folder = folder();
    let file = folder.path().join("keys");
    std::fs::write(&file, format!("{new}\n")).unwrap();
    let mut environment = with(&new);
    environment.retain(|(name, _)| name != "OPTIMIST_JOURNAL_KEYS");
    environment.push(("OPTIMIST_JOURNAL_KEYS_FILE".to_owned(), file.display().to_string()));
    let origin = Origin::start(&environment, folder.path());
    origin.wait_until_vouching(&system.redis).await;
    let edge = system.edge_before(Kind::Embedded, &origin.api);
    assert_eq!(ada.at(&edge.url).get(&entry).await.expect(200).body["body"], "Kept.");
}

/// Someone whose clock a test sets.
struct Writer<'a> {
    system: &'a System,
    ada: Client,
}

impl Writer<'_> {
    async fn is_in(&self, zone: &str) {
        self.ada.patch("/v1/me", json!({"time_zone": zone})).await.expect(200);
    }

    async fn clock(&self, utc: &str) {
        self.system.origins[0].set_clock(utc.parse().unwrap()).await;
    }

    /// Writes at this time.
    async fn writes(&self, utc: &str) -> Answer {
        self.clock(utc).await;
        self.system.forget_limits_of(&self.ada).await;
        self.ada.post(ENTRIES, json!({"body": "A day."})).await.expect(201)
    }

    /// The current and the longest streak at this time.
    async fn streak(&self, utc: &str) -> (i64, i64) {
        self.clock(utc).await;
        let answer = self.ada.get("/v1/journal/streak").await.expect(200);
        (answer.body["current"].as_i64().unwrap(), answer.body["longest"].as_i64().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streaks_count_the_days_of_the_users_own_zone() {
    let system = System::start().await;
    let someone = async || Writer { system: &system, ada: system.register("Ada").await };

    // Ten minutes before midnight, local, through both changes of the clocks: each a day of its own.
    let writer = someone().await;
    writer.is_in("Europe/Vienna").await;
    for (first, changes) in [("2026-03-26", 3), ("2026-10-22", 3)] {
        let first: DateTime<Utc> = format!("{first}T00:00:00Z").parse().unwrap();
        for day in 0..6 {
            let local = (first + chrono::Duration::days(day)).date_naive().and_hms_opt(23, 50, 0).unwrap();
            let is_summer =
                if first.date_naive().to_string().contains("-03-") { day >= changes } else { day < changes };
            let offset = chrono::FixedOffset::east_opt(if is_summer { 7_200 } else { 3_600 }).unwrap();
            let utc = offset.from_local_datetime(&local).unwrap().to_utc().to_rfc3339();
            let entry = writer.writes(&utc).await;
            assert_eq!(entry.body["entry_date"], local.date().to_string(), "at {utc}");
            assert_eq!(writer.streak(&utc).await.0, day + 1, "on {}", local.date());
        }
    }
    // The day after it still stands, the next it does not: to the minute.
    assert_eq!(writer.streak("2026-10-28T22:59:00Z").await, (6, 6));
    assert_eq!(writer.streak("2026-10-28T23:00:00Z").await, (0, 6));

    // The first and the last zone of the world: what is one day here is another there.
    for (zone, evening, next_morning) in [
        ("Pacific/Kiritimati", "2026-03-01T09:59:00Z", "2026-03-01T10:01:00Z"),
        ("Etc/GMT+12", "2026-03-01T11:59:00Z", "2026-03-01T12:01:00Z"),
    ] {
        let writer = someone().await;
        writer.is_in(zone).await;
        writer.writes(evening).await;
        assert_eq!(writer.streak(evening).await.0, 1, "{zone}");
        writer.writes(next_morning).await;
        assert_eq!(writer.streak(next_morning).await.0, 2, "{zone}");
    }

    // Westward over the date line a day is left out that had no hour: the run holds. East, a day comes twice: one day.
    let writer = someone().await;
    writer.is_in("Pacific/Honolulu").await;
    writer.writes("2026-05-02T06:00:00Z").await;
    writer.is_in("Pacific/Kiritimati").await;
    let there = writer.writes("2026-05-02T16:00:00Z").await;
    assert_eq!(there.body["entry_date"], "2026-05-03");
    assert_eq!(writer.streak("2026-05-02T16:00:00Z").await.0, 2);
    writer.is_in("Pacific/Honolulu").await;
    let back = writer.writes("2026-05-03T20:00:00Z").await;
    assert_eq!(back.body["entry_date"], "2026-05-03");
    assert_eq!(writer.streak("2026-05-03T20:00:00Z").await.0, 2);
    // Who only forgot a day, forgot it.
    writer.writes("2026-05-05T20:00:00Z").await;
    assert_eq!(writer.streak("2026-05-05T20:00:00Z").await, (1, 2));
}
