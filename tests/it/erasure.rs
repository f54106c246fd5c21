//! Erased accounts leave nothing: wherever a person can write something, it is gone within the hour, whatever dies meanwhile, and
//! counts stay right.

use std::collections::BTreeMap;
use std::process::Command;

use optimist_tests::client::PASSWORD;
use optimist_tests::stores::binaries;
use optimist_tests::{Client, Origin, System, until};
use redis::Value as Reply;
use reqwest::Method;
use serde_json::{Value, json};

use crate::api::erasing::erase;

/// A word that nobody else writes.
const CANARY: &str = "xylocanary";

/// Runs a command of the origin, which must succeed.
#[track_caller]
fn run(settings: &[(String, String)], arguments: &[&str]) -> String {
    let (succeeded, output) = Origin::command(settings, arguments);
    assert!(succeeded, "{arguments:?}: {output}");
    output
}

/// Lets the jobs of the serving origins rest, and requests of before the erasure be over.
fn be_alone(system: &System) {
    system.sql("update jobs set started_at = '2999-01-01' where name like 'erasure.%'");
    system.sql("update erased set erased_at = erased_at - interval '2 minutes'");
}

/// Runs the jobs until the erasures are done.
async fn finish(system: &System, settings: &[(String, String)]) {
    until("every erasure is done", async || {
        run(settings, &["jobs", "run", "erasure.run"]);
        run(settings, &["jobs", "run", "erasure.keys"]);
        system.sql("select count(*) from erased where done_at is null") == "0"
    })
    .await;
}

/// A circle that people ask to join.
async fn of_others(system: &System) -> String {
    let owner = system.register("Dee").await;
    let circle = owner.create_circle("public").await;
    owner.patch(&format!("/v1/circles/{circle}"), json!({"join_policy": "on_request"})).await.expect(200);
    circle
}

/// Everything that a person can write, with the canary in it.
async fn write_everywhere(system: &System, person: &Client, shared: &str) -> String {
    let put = async |path: &str, body: Value| {
        person.send(Method::PUT, path, &[], Some(body.to_string().into_bytes())).await
    };
    person.patch("/v1/me", json!({"name": CANARY, "bio": format!("{CANARY} bio")})).await.expect(200);
    let own = json!({"name": CANARY, "description": CANARY, "rules": CANARY, "visibility": "public"});
    let own = person.post("/v1/circles", own).await.expect(201).text("/id");
    let messages = format!("/v1/circles/{shared}/messages");
    let key = [("idempotency-key", CANARY)];
    let body = json!({"body": format!("{CANARY} says this.")}).to_string().into_bytes();
    let message = person.send(Method::POST, &messages, &key, Some(body)).await.expect(201).text("/id");
    person.say(&own, CANARY).await;
    let asked = json!({"text": CANARY}).to_string();
    let path = format!("/v1/circles/{}/join-requests", of_others(system).await);
    person.send(Method::POST, &path, &[], Some(asked.into_bytes())).await.expect(201);
    put(&format!("/v1/circles/{shared}/draft"), json!({"body": CANARY})).await.expect(200);
    let draft = uuid::Uuid::now_v7();
    let saved = put(
        &format!("/v1/journal/drafts/{draft}"),
        json!({"title": CANARY, "body": CANARY, "base_version": null}),
    )
    .await;
    saved.expect(200);
    let entry = json!({"title": CANARY, "body": CANARY, "tags": [CANARY]});
    person.post("/v1/journal/entries", entry).await.expect(201);
    let now = chrono::Utc::now().to_rfc3339();
    let mood = json!({"score": 4, "note": CANARY, "tags": [CANARY], "logged_at": now});
    person.post("/v1/mood", mood).await.expect(201);
    // The keys of RFC 8291's example.
    let keys = json!({
        "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
        "auth": "BTBZMqHH6r4Tts7J_aSIgg",
    });
    let browser = json!({"endpoint": format!("https://push.example.org/{CANARY}"), "keys": keys});
    person.post("/v1/me/push-tokens", browser).await.expect(201);
    let agent = [("user-agent", CANARY)];
    let login = json!({"email": person.email, "password": PASSWORD}).to_string().into_bytes();
    system.client().send(Method::POST, "/v1/auth/login", &agent, Some(login)).await.expect(200);
    person.post(&format!("/v1/circles/{own}/invites"), json!({})).await.expect(201);
    message
}

/// Every string that Redis holds, names and values.
async fn in_redis(system: &System) -> String {
    let mut redis = system.redis.connect().await;
    let _: () =
        redis::cmd("CONFIG").arg(&["SET", "rdbcompression", "no"]).query_async(&mut redis).await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await.unwrap();
    let mut all = String::new();
    for key in keys {
        let dump: Reply = redis::cmd("DUMP").arg(&key).query_async(&mut redis).await.unwrap();
        all.push_str(&key);
        if let Reply::BulkString(bytes) = dump {
            all.push_str(&String::from_utf8_lossy(&bytes));
        }
        all.push('\n');
    }
    all
}

fn url_of(system: &System) -> String {
    let settings = system.environment();
    settings.into_iter().find(|(name, _)| name == "OPTIMIST_MIGRATE_DATABASE_URL").unwrap().1
}

/// What a backup would have.
fn dumped(system: &System) -> String {
    let dump = Command::new(binaries().join("pg_dump")).arg(url_of(system)).output().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    String::from_utf8_lossy(&dump.stdout).into_owned()
}

#[track_caller]
fn assert_absent(needle: &str, haystack: &str, where_: &str) {
    let lines: Vec<&str> = haystack.lines().filter(|line| line.contains(needle)).take(3).collect();
    assert!(lines.is_empty(), "{needle} is in {where_}: {lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_in_every_field_is_gone_and_counts_are_right() {
    let system = System::start().await;
    let (ada, bob) = (system.register("Ada").await, system.register("Bob").await);
    let shared = bob.create_circle("public").await;
    ada.join(&shared, &bob).await;
    let message = write_everywhere(&system, &ada, &shared).await;
    let of_bob = bob.say(&shared, "Good morning.").await;
    for (person, message) in [(&ada, &of_bob), (&bob, &of_bob), (&bob, &message)] {
        let path = format!("/v1/circles/{shared}/messages/{message}/reactions/heart");
        person.send(Method::PUT, &path, &[], None).await.expect(202);
    }
    let comments = format!("/v1/circles/{shared}/messages/{of_bob}/comments");
    ada.post(&comments, json!({"body": format!("{CANARY} answers.")})).await.expect(201);
    bob.post(&comments, json!({"body": "And I."})).await.expect(201);
    bob.get(&comments).await.expect(200);
    bob.get("/v1/circles").await.expect(200);
    let favorite = json!({"circle_id": shared}).to_string().into_bytes();
    ada.send(Method::PUT, &format!("/v1/me/favorites/{of_bob}"), &[], Some(favorite)).await.expect(204);
    let settings = system.environment();
    run(&settings, &["jobs", "run", "writes.flush"]);
    assert!(in_redis(&system).await.contains(CANARY) && dumped(&system).contains(CANARY));
    let email = ada.email.clone();
    assert!(dumped(&system).contains(&email));

    erase(&ada, json!({"password": PASSWORD, "messages": "remove"})).await.expect(202);
    be_alone(&system);
    finish(&system, &settings).await;
    // Lists of circles may show a former name for a minute: a job drops them.
    until("no list has the circle's name", async || {
        run(&settings, &["jobs", "run", "names.drop"]);
        !in_redis(&system).await.contains(CANARY)
    })
    .await;

    let (postgres, redis) = (dumped(&system), in_redis(&system).await);
    for needle in [CANARY, &email] {
        assert_absent(needle, &postgres, "Postgres");
        assert_absent(needle, &redis, "Redis");
        for origin in &system.origins {
            assert_absent(needle, &origin.log(), "a log");
        }
    }
    for path in ["", "/members", "/messages"] {
        let answer = bob.get(&format!("/v1/circles/{shared}{path}")).await.expect(200);
        assert_absent(CANARY, &answer.body.to_string(), path);
    }
    assert_absent(CANARY, &bob.get("/v1/circles").await.expect(200).body.to_string(), "discovery");
    let circle = bob.get(&format!("/v1/circles/{shared}")).await.expect(200);
    assert_eq!(circle.body["member_count"], 1);
    let one = bob.get(&format!("/v1/circles/{shared}/messages/{of_bob}")).await.expect(200);
    assert_eq!(
        (&one.body["reactions"]["heart"], &one.body["comments"]),
        (&json!(1), &json!(1)),
        "{:?}",
        one.body
    );
    let left = bob.get(&comments).await.expect(200).body;
    assert_eq!(left["items"].as_array().unwrap().len(), 1, "{left}");
    assert_eq!(system.sql(&format!("select count(*) from reactions where user_id = '{}'", ada.user)), "0");
    run(&settings, &["erasure", "verify", &ada.user]);
    run(&settings, &["check"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_messages_are_by_a_deleted_account_and_circles_pass_on() {
    let system = System::start().await;
    let people = [system.register("Ada").await, system.register("Bob").await, system.register("Cy").await];
    let [ada, bob, cy] = &people;
    let circle = ada.create_circle("private").await;
    bob.join(&circle, ada).await;
    cy.join(&circle, ada).await;
    let path = format!("/v1/circles/{circle}");
    // Cy moderates, Bob has been there longer.
    ada.patch(&format!("{path}/members/{}", cy.user), json!({"role": "moderator"})).await.expect(200);
    let alone = ada.create_circle("public").await;
    let message = ada.say(&circle, "It stays.").await;
    let begun = bob.say(&circle, "What do you think?").await;
    let comments = format!("{path}/messages/{begun}/comments");
    ada.post(&comments, json!({"body": "This stays too."})).await.expect(201);
    for read in [&format!("{path}/messages/{message}"), &comments] {
        bob.get(read).await.expect(200);
    }
    erase(ada, json!({"password": PASSWORD, "messages": "keep"})).await.expect(202);
    be_alone(&system);
    finish(&system, &system.environment()).await;
    let kept = bob.get(&format!("{path}/messages/{message}")).await.expect(200);
    assert_eq!(kept.body["body"], "It stays.");
    assert_eq!(kept.body["author"], json!({"id": ada.user, "name": "Deleted account"}));
    let comment = bob.get(&comments).await.expect(200).body["items"][0].clone();
    assert_eq!((&comment["author"], &comment["body"]), (&kept.body["author"], &json!("This stays too.")));
    let members = bob.get(&format!("{path}/members")).await.expect(200);
    let roles: BTreeMap<String, String> = members.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            (item["user"]["id"].as_str().unwrap().to_owned(), item["role"].as_str().unwrap().to_owned())
        })
        .collect();
    let expected = [(&bob.user, "member"), (&cy.user, "owner")];
    assert_eq!(roles, expected.map(|(user, role)| (user.clone(), role.to_owned())).into());
    cy.patch(&path, json!({"name": "Ours"})).await.expect(200);
    assert_eq!(bob.get(&format!("/v1/circles/{alone}")).await.status, 404);
    assert_eq!(
        system.sql(&format!(
            "select name, archived_at is not null, member_count from circles where id = '{alone}'"
        )),
        "Deleted circle|t|0"
    );
    run(&system.environment(), &["erasure", "verify", &ada.user]);
    run(&system.environment(), &["check"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_dies_between_two_steps_an_erasure_comes_to_its_end() {
    let system = System::start().await;
    let (ada, bob) = (system.register("Ada").await, system.register("Bob").await);
    let shared = bob.create_circle("public").await;
    ada.join(&shared, &bob).await;
    write_everywhere(&system, &ada, &shared).await;
    let of_bob = bob.say(&shared, "Good morning.").await;
    let path = format!("/v1/circles/{shared}/messages/{of_bob}/reactions/heart");
    ada.send(Method::PUT, &path, &[], None).await.expect(202);
    let settings = system.environment();
    run(&settings, &["jobs", "run", "writes.flush"]);
    erase(&ada, json!({"password": PASSWORD, "messages": "remove"})).await.expect(202);
    be_alone(&system);
    let steps = [
        "erasing.begun",
        "erasure.step",
        "erasure.given",
        "erasure.left",
        "tx.committed",
        "erasure.messages",
        "erasure.reactions",
        "erasure.rows",
        "erasure.step",
        "erasure.keys",
    ];
    for step in steps {
        let dying = [settings.clone(), vec![("OPTIMIST_TEST_ABORT".to_owned(), step.to_owned())]].concat();
        until(&format!("{step} is reached"), async || {
            let job = if step == "erasure.keys" { "erasure.keys" } else { "erasure.run" };
            !Origin::command(&dying, &["jobs", "run", job]).0
        })
        .await;
    }
    finish(&system, &settings).await;
    assert_absent(CANARY, &dumped(&system), "Postgres");
    assert_absent(CANARY, &in_redis(&system).await, "Redis");
    run(&settings, &["erasure", "verify", &ada.user]);
    run(&settings, &["check"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_behind_before_an_erasure_goes_with_it() {
    let system = System::start().await;
    let (ada, bob) = (system.register("Ada").await, system.register("Bob").await);
    let circle = bob.create_circle("public").await;
    ada.join(&circle, &bob).await;
    let message = bob.say(&circle, "Good morning.").await;
    let path = format!("/v1/circles/{circle}/messages/{message}");
    let heart = format!("{path}/reactions/heart");
    let react = async || ada.send(Method::PUT, &heart, &[], None).await.expect(202);
    system.origins[0].hold("flush.read", react).await;
    erase(&ada, json!({"password": PASSWORD, "messages": "keep"})).await.expect(202);
    be_alone(&system);
    system.origins[0].release_step("flush.read").await;
    finish(&system, &system.environment()).await;
    assert_eq!(system.sql("select count(*) from reactions"), "0");
    let shown = bob.get(&path).await.expect(200);
    assert_eq!(shown.body["reactions"]["heart"].as_u64().unwrap_or_default(), 0, "{:?}", shown.body);
    run(&system.environment(), &["check"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_serves_nobody_who_was_erased_since() {
    let system = System::start().await;
    let (ada, bob) = (system.register("Ada").await, system.register("Bob").await);
    let circle = bob.create_circle("public").await;
    ada.join(&circle, &bob).await;
    ada.say(&circle, CANARY).await;
    let folder = tempfile::tempdir().unwrap();
    let mut settings = system.environment();
    settings.push(("OPTIMIST_ARCHIVE_URL".to_owned(), folder.path().display().to_string()));
    // As if a backup of before the erasure had been restored: the list outside alone has her.
    std::fs::create_dir(folder.path().join("erased")).unwrap();
    std::fs::write(folder.path().join("erased").join(&ada.user), []).unwrap();
    let (succeeded, left) = Origin::command(&settings, &["erasure", "verify", &ada.user]);
    assert!(!succeeded && left.contains("users: 1 rows"), "{left}");
    let other = tempfile::tempdir().unwrap();
    let origin = Origin::start(&settings, other.path());
    assert_eq!(
        system.sql(&format!("select name, status from users where id = '{}'", ada.user)),
        "Deleted account|erased"
    );
    assert_eq!(bob.get(&format!("/v1/users/{}", ada.user)).await.status, 404);
    be_alone(&system);
    finish(&system, &settings).await;
    run(&settings, &["erasure", "verify", &ada.user]);
    assert_absent(CANARY, &dumped(&system), "Postgres");
    drop(origin);
    // The command does the same at once, and notes it outside.
    assert!(run(&settings, &["erasure", "apply", &bob.user, "--keep-messages"]).contains("erased"));
    assert!(folder.path().join("erased").join(format!("{}.keep", bob.user)).exists());
    be_alone(&system);
    finish(&system, &settings).await;
    run(&settings, &["erasure", "verify", &bob.user]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_table_or_column_is_unknown_to_erasures() {
    let system = System::start().await;
    let known: BTreeMap<String, String> = run(&system.environment(), &["erasure", "tables"])
        .lines()
        .map(|line| {
            let (table, rest) = line.split_once('|').unwrap();
            (table.to_owned(), rest.split('|').next().unwrap().to_owned())
        })
        .collect();
    let there = system.sql(
        "select c.relname, string_agg(a.attname, ' ' order by attnum)
         from pg_class c join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'public'
         join pg_attribute a on a.attrelid = c.oid and attnum > 0 and not attisdropped
         where relkind in ('r', 'p') and not relispartition and relname not in ('refinery_schema_history', 'outbox_floor')
           and atttypid = any(array['uuid', 'text', 'bytea', 'jsonb', 'json', 'varchar', 'inet', 'uuid[]', 'text[]', 'bytea[]']::regtype[])
         group by 1 order by 1",
    );
    let there: BTreeMap<String, String> = there
        .lines()
        .map(|line| {
            line.split_once('|').map(|(table, columns)| (table.to_owned(), columns.to_owned())).unwrap()
        })
        .collect();
    assert_eq!(there, known, "say in origin/src/erasure/tables.rs what an erasure does about it");
}
