//! Private writing: no store holds readable text, keys rotate, and days follow the user's time zone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeZone as _, Utc};
use optimist_shared::keys::Key;
use optimist_tests::stores::folder;
use optimist_tests::{Answer, Client, Kind, Options, Origin, System, until};
use reqwest::Method;
use serde_json::{Value, json};

use crate::drafts::{ENTRIES, flushed, new_draft, put};

/// A text, and its base64 form at any alignment.
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
    // Uncompressed, so that the search would find text in the files.
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
        ada.post(&format!("{ENTRIES}/search"), json!({"tag": tag})).await.expect(200);
    }
    ada.get("/v1/journal/tags/recent").await.expect(200);
    flushed(&system, &last).await;
    put(&ada, &drafts[0], CANARY, &Value::Null).await.expect(409);
    // Idempotency records hold no digest of a text either, since short texts could be guessed.
    let guessed = json!({"score": 2, "note": "Fine."}).to_string();
    for _ in 0..2 {
        let (key, body) = ([("idempotency-key", "mood")], guessed.clone().into_bytes());
        ada.send(Method::POST, "/v1/mood", &key, Some(body)).await.expect(201);
    }
    let digest = |path: &str| format!("encode(sha256({path} || convert_to('{guessed}', 'UTF8')), 'hex')");
    let digests = ["'/v1/mood'::bytea || '\\x00'", "decode(repeat('00', 64), 'hex')"].map(digest).join(", ");
    let kept =
        format!("select count(*), count(*) filter (where request_hash in ({digests})) from idempotency");
    assert_eq!(system.sql(&kept), "1|0");
    // Failures that appear in a log.
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
    // Before the rotation an origin without the old key cannot read, and names the missing key.
    let (succeeded, output) = Origin::command(&with(&new), &["keys", "rotate"]);
    assert!(!succeeded && output.contains("j1"), "{output}");
    // Another transaction locks the row meanwhile; if the rotation skipped it, the row would be lost with the old key.
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
    // The list of keys may also come from a file.
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

/// A failover may lose the row of a key that Redis still knows. Whatever is stored afterwards must open when Redis has forgotten
/// it.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_only_redis_knows_comes_to_postgres_with_what_it_seals() {
    let system = System::start().await;
    let mut redis = system.redis.connect().await;
    for path in ["entry", "edit", "mood", "draft", "audit"] {
        let ada = system.register("Ada").await;
        let key = Key::journal_key(ada.user.parse().unwrap()).name();
        let entry =
            ada.post(ENTRIES, json!({"body": "Before."})).await.expect(201).header("location").to_owned();
        system.sql(&format!("delete from journal_keys where user_id = '{}'", ada.user));
        let draft = new_draft();
        let (read, pointer) = match path {
            "entry" => {
                let entry = ada.post(ENTRIES, json!({"body": "After."})).await.expect(201);
                (entry.header("location").to_owned(), "/body")
            }
            "edit" => {
                ada.patch(&entry, json!({"body": "After."})).await.expect(200);
                (entry, "/body")
            }
            "mood" => {
                ada.post("/v1/mood", json!({"score": 3, "note": "After."})).await.expect(201);
                ("/v1/mood".to_owned(), "/items/0/note")
            }
            "audit" => {
                let restored = format!("select count(*) from journal_keys where user_id = '{}'", ada.user);
                until("the auditor restores it", async || system.sql(&restored) == "1").await;
                (entry, "/body")
            }
            _ => {
                let saved = put(&ada, &draft, "After.", &Value::Null).await.expect(200);
                flushed(&system, &saved.body["version"]).await;
                (draft, "/body")
            }
        };
        let _: () = redis::cmd("DEL").arg(&key).query_async(&mut redis).await.unwrap();
        let answer = ada.get(&read).await.expect(200);
        let expected = if path == "audit" { "Before." } else { "After." };
        assert_eq!(answer.text(pointer), expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_stored_that_the_key_in_postgres_does_not_open() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let mut redis = system.redis.connect().await;
    let key = Key::journal_key(ada.user.parse().unwrap()).name();
    ada.get("/v1/journal/drafts").await.expect(200);
    let lost: String = redis::cmd("GET").arg(&key).query_async(&mut redis).await.unwrap();
    system.sql("delete from journal_keys");
    let _: () = redis::cmd("DEL").arg(&key).query_async(&mut redis).await.unwrap();
    ada.get("/v1/journal/drafts").await.expect(200);
    let _: () = redis::cmd("SET").arg(&key).arg(&lost).query_async(&mut redis).await.unwrap();
    let refused = ada.post(ENTRIES, json!({"body": "Kept."})).await.expect(503);
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(system.sql("select count(*) from journal_entries"), "0");
    let entry = ada.post(ENTRIES, json!({"body": "Kept."})).await.expect(201).header("location").to_owned();
    let _: () = redis::cmd("DEL").arg(&key).query_async(&mut redis).await.unwrap();
    assert_eq!(ada.get(&entry).await.expect(200).body["body"], "Kept.");
}

/// A person whose clock a test sets.
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

    /// Writes an entry at this time.
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
async fn recent_tags_are_those_of_the_entry_saved_last_whatever_the_clock_said() {
    let system = System::start().await;
    let writer = Writer { system: &system, ada: system.register("Ada").await };
    for (utc, tag) in [("2026-05-02T13:00:00Z", "first"), ("2026-05-02T06:00:00Z", "second")] {
        writer.clock(utc).await;
        writer.ada.post(ENTRIES, json!({"body": "A day.", "tags": [tag]})).await.expect(201);
    }
    let recent = writer.ada.get("/v1/journal/tags/recent").await.expect(200);
    assert_eq!(recent.body["items"], json!(["second", "first"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn streaks_count_the_days_of_the_users_own_zone() {
    let system = System::start().await;
    let someone = async || Writer { system: &system, ada: system.register("Ada").await };

    // Ten minutes before local midnight, across both changes of the clocks: each entry has its own day.
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
    // The run still counts on the next day, and ends with that day, to the minute.
    assert_eq!(writer.streak("2026-10-28T22:59:00Z").await, (6, 6));
    assert_eq!(writer.streak("2026-10-28T23:00:00Z").await, (0, 6));

    // The first and the last time zone: the same instants fall on different days.
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

    // Travelling west across the date line skips a day that had no hour, and the run holds. Travelling east repeats a
    // day, which counts once.
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
    // A forgotten day ends the run.
    writer.writes("2026-05-05T20:00:00Z").await;
    assert_eq!(writer.streak("2026-05-05T20:00:00Z").await, (1, 2));
}

/// Each of these days without an entry had time to write, so that no run goes on over it.
#[tokio::test(flavor = "multi_thread")]
async fn a_streak_bridges_no_day_on_which_one_could_have_written() {
    let system = System::start().await;
    let someone = async |zone: &str| {
        let writer = Writer { system: &system, ada: system.register("Ada").await };
        writer.is_in(zone).await;
        writer
    };
    // Yesterday is filled in tonight, and tomorrow has an entry at eight: today has none. In any zone.
    for (zone, tonight, tomorrow) in [
        ("Europe/Vienna", "2026-06-10T20:00:00Z", "2026-06-11T06:00:00Z"),
        ("Pacific/Auckland", "2026-06-10T10:00:00Z", "2026-06-10T20:00:00Z"),
        ("Pacific/Honolulu", "2026-06-11T08:00:00Z", "2026-06-11T18:00:00Z"),
    ] {
        let writer = someone(zone).await;
        writer.clock(tonight).await;
        let filled_in = json!({"body": "Yesterday.", "entry_date": "2026-06-09"});
        writer.ada.post(ENTRIES, filled_in).await.expect(201);
        let entry = writer.writes(tomorrow).await;
        assert_eq!(entry.body["entry_date"], "2026-06-11", "{zone}");
        assert_eq!(writer.streak(tomorrow).await, (1, 1), "{zone}");
        // Filled in too, the day between joins them.
        writer.ada.post(ENTRIES, json!({"body": "Late.", "entry_date": "2026-06-10"})).await.expect(201);
        assert_eq!(writer.streak(tomorrow).await, (3, 3), "{zone}");
    }
    // A Sunday of 23 hours: from the last minute of Saturday to the first of Monday it is not a day.
    let writer = someone("Europe/Vienna").await;
    writer.writes("2026-03-28T22:59:00Z").await;
    let monday = writer.writes("2026-03-29T22:00:00Z").await;
    assert_eq!(monday.body["entry_date"], "2026-03-30");
    assert_eq!(writer.streak("2026-03-29T22:00:00Z").await, (1, 1));
    // Flying east from London to Tokyo, most of Saturday could have been written on.
    let writer = someone("Europe/London").await;
    writer.writes("2026-05-08T22:50:00Z").await;
    writer.is_in("Asia/Tokyo").await;
    let sunday = writer.writes("2026-05-09T15:10:00Z").await;
    assert_eq!(sunday.body["entry_date"], "2026-05-10");
    assert_eq!(writer.streak("2026-05-09T15:10:00Z").await, (1, 1));
    // Flying from Los Angeles to Auckland, Saturday had three hours.
    let writer = someone("America/Los_Angeles").await;
    writer.writes("2026-05-09T04:00:00Z").await;
    writer.is_in("Pacific/Auckland").await;
    let sunday = writer.writes("2026-05-09T20:00:00Z").await;
    assert_eq!(sunday.body["entry_date"], "2026-05-10");
    assert_eq!(writer.streak("2026-05-09T20:00:00Z").await, (2, 2));
}
