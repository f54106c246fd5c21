//! Exports: whole, each item once, sealed, and nobody else's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use optimist_tests::system::TOLD_CIRCLES;
use optimist_tests::{Answer, Client, Options, Origin, System, until};
use reqwest::Method;
use serde_json::{Value, json};

/// A text that no other has.
const CANARY: &str = "canary-7f3a";

async fn put(client: &Client, path: &str, body: Value) -> Answer {
    client.send(Method::PUT, path, &[], (!body.is_null()).then(|| body.to_string().into_bytes())).await
}

fn run(system: &System, job: &str) {
    let (succeeded, output) = Origin::command(&system.environment(), &["jobs", "run", job]);
    assert!(succeeded, "{output}");
}

/// The export's link, once it is ready.
async fn ready(system: &System, client: &Client, id: &str) -> String {
    let sql = format!("select ready_at is not null from exports where id = '{id}'");
    until("the export is ready", async || system.sql(&sql) == "t").await;
    let shown = client.get(&format!("/v1/me/exports/{id}")).await.expect(200);
    assert_eq!(shown.body["status"], "ready");
    shown.text("/link")
}

/// What a client fetches: the status, and the lines by their sections.
async fn fetch(system: &System, client: &Client, link: &str) -> (u16, BTreeMap<String, Vec<Value>>) {
    let request = reqwest::Client::new().get(format!("{}{link}", system.url()));
    let response = request.bearer_auth(client.token.as_deref().unwrap()).send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let mut sections: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    if status != 200 {
        return (status, sections);
    }
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["section"], "export");
    let last = lines.last().unwrap();
    assert_eq!((&last["section"], &last["item"]["items"]), (&json!("end"), &json!(lines.len() - 1)));
    for mut line in lines {
        let section = line["section"].as_str().unwrap().to_owned();
        sections.entry(section).or_default().push(line["item"].take());
    }
    (status, sections)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_takes_all_they_have_and_nobody_else_does() {
    let system = System::start().await;
    let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
    let circle = ada.create_circle("private").await;
    bo.join(&circle, &ada).await;
    let path = format!("/v1/circles/{circle}");
    let said = ada.say(&circle, &format!("{CANARY} said")).await;
    let other = bo.say(&circle, "Bo's own words.").await;
    ada.say(&circle, "Deleted.").await;
    let deleted = ada.say(&circle, "Gone.").await;
    ada.delete(&format!("{path}/messages/{deleted}")).await.expect(204);
    put(&ada, &format!("{path}/messages/{other}/reactions/heart"), Value::Null).await.expect(202);
    put(&ada, &format!("/v1/me/favorites/{other}"), json!({"circle_id": circle})).await.expect(204);
    put(&ada, &format!("/v1/me/mutes/{}", bo.user), Value::Null).await.expect(204);
    ada.post(&format!("{path}/messages/{other}/report"), json!({"reason": "other", "text": CANARY}))
        .await
        .expect(201);
    let entry = json!({"title": CANARY, "body": "First.", "tags": ["rain"]});
    let entry = ada.post("/v1/journal/entries", entry).await.expect(201).text("/id");
    ada.patch(&format!("/v1/journal/entries/{entry}"), json!({"body": "Second."})).await.expect(200);
    ada.post("/v1/mood", json!({"score": 4, "note": CANARY})).await.expect(201);
    let draft = format!("/v1/journal/drafts/{}", uuid::Uuid::now_v7());
    put(&ada, &draft, json!({"body": CANARY, "base_version": null})).await.expect(200);
    for (table, rows) in
        [("reactions", "1"), ("drafts where deleted_at is null", "1"), ("activity where posts > 0", "2")]
    {
        let sql = format!("select count(*) from {table}");
        until("what was written behind is in Postgres", async || system.sql(&sql) == rows).await;
    }

    let asked = ada.post("/v1/me/export", Value::Null).await.expect(202);
    let id = asked.text("/id");
    assert_eq!((&asked.body["status"], &asked.body["link"]), (&json!("building"), &Value::Null));
    assert_eq!(ada.post("/v1/me/export", Value::Null).await.expect(200).text("/id"), id);
    bo.get(&format!("/v1/me/exports/{id}")).await.expect(404);
    run(&system, "exports.build");
    let link = ready(&system, &ada, &id).await;
    let (_, sections) = fetch(&system, &ada, &link).await;
    let of = |section: &str| sections.get(section).cloned().unwrap_or_default();
    assert_eq!(of("export")[0]["user_id"], ada.user.as_str());
    assert_eq!(of("account")[0]["email"], ada.email.as_str());
    let messages: Vec<Value> = of("messages").iter().map(|item| item["body"].clone()).collect();
    assert_eq!(messages, [json!(format!("{CANARY} said")), json!("Deleted.")]);
    assert_eq!(of("messages")[0]["id"], said.as_str());
    assert_eq!(
        (&of("reactions")[0]["kind"], &of("reactions")[0]["message_id"]),
        (&json!("heart"), &json!(other))
    );
    assert_eq!(of("circles")[0]["role"], "owner");
    assert_eq!(of("favorites")[0]["message_id"], other.as_str());
    assert_eq!(of("mutes")[0]["user_id"], bo.user.as_str());
    assert_eq!(of("reports")[0]["text"], CANARY);
    let entries = of("journal-entries");
    assert_eq!((&entries[0]["title"], &entries[0]["body"]), (&json!(CANARY), &json!("Second.")));
    assert_eq!(entries[0]["tags"], json!(["rain"]));
    assert_eq!(of("journal-versions")[0]["body"], "First.");
    assert_eq!(of("journal-drafts")[0]["body"], CANARY);
    assert_eq!((&of("moods")[0]["score"], &of("moods")[0]["note"]), (&json!(4), &json!(CANARY)));
    assert_eq!(of("activity")[0]["posts"], 3);
    assert_eq!((of("sessions").len(), of("notification-preferences").len()), (1, 0));
    assert!(!format!("{sections:?}").contains("Bo's own words."));

    // The link is of no use without the session, and the session without the key.
    assert_eq!(fetch(&system, &bo, &link).await.0, 404);
    system.client().get(&link).await.expect(401);
    let (bare, key) = link.split_once('=').unwrap();
    let wrong = format!("{bare}={}", key.chars().rev().collect::<String>());
    assert!([400, 404].contains(&fetch(&system, &ada, &wrong).await.0));
    for query in ["", "?key=x", "?key=x&more=1"] {
        ada.get(&format!("/v1/me/exports/{id}/archive{query}")).await.expect(400);
    }
    let dump = system.own_postgres.as_ref().map_or_else(
        || optimist_tests::stores::SHARED.dump(&system.database),
        |own| own.dump(&system.database),
    );
    let dump = String::from_utf8_lossy(&dump).into_owned();
    assert!(!dump.contains(key) && dump.contains("export_pieces"));
    let logs = String::from_utf8_lossy(&system.logs()).into_owned();
    assert!(!logs.contains(key), "the link's key is in a log");

    // After a day it is gone, and there may be another.
    system.sql("update exports set ready_at = now() - interval '25 hours'");
    assert_eq!(fetch(&system, &ada, &link).await.0, 404);
    run(&system, "exports.clean");
    assert_eq!(
        system.sql("select (select count(*) from exports) + (select count(*) from export_pieces)"),
        "0"
    );
    assert_ne!(ada.post("/v1/me/export", Value::Null).await.expect(202).text("/id"), id);
}

/// More messages than a piece holds, while the origin that writes them dies again and again.
#[tokio::test(flavor = "multi_thread")]
async fn each_item_is_there_once_although_origins_die() {
    const EACH_DAY: usize = 150;
    let mut system = System::with(Options { origins: 2, ..Options::default() }).await;
    let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
    let circle = ada.create_circle("private").await;
    bo.join(&circle, &ada).await;
    // Every third message is Bo's.
    system.sql(&format!(
        "insert into messages (id, circle_id, number, author_id, body, created_at)
         select id_at(next_place(null, 1) + n), '{circle}', n, case n % 3 when 0 then '{1}' else '{0}' end::uuid, repeat('x', 4000) || n, now()
         from generate_series(1, {EACH_DAY} * 4) n;
         {TOLD_CIRCLES};
         insert into activity (circle_id, user_id, day, posts, last_seen_at)
         select distinct '{circle}'::uuid, '{0}'::uuid, d, 1, now() from unnest(array[current_date - 1, current_date, current_date + 1]) d
         on conflict do nothing",
        ada.user, bo.user
    ));
    let asked = ada.post("/v1/me/export", Value::Null).await.expect(202).text("/id");
    for _ in 0..3 {
        for origin in &system.origins {
            origin.arm("exports.written", "abort", 0, 1).await;
        }
        // The job is due every ten seconds; whichever takes it dies after a piece.
        system.sql("update jobs set started_at = now() - interval '1 hour' where name = 'exports.build'");
        let deadline = optimist_tests::patience();
        while system.origins.iter_mut().all(Origin::is_running) {
            assert!(Instant::now() < deadline, "nobody writes it");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for index in 0..2 {
            system.origins[index].kill();
            system.replace_origin(index);
        }
    }
    let ada = ada.at(&system.url());
    system.sql("update jobs set started_at = now() - interval '1 hour' where name = 'exports.build'");
    let link = ready(&system, &ada, &asked).await;
    let (_, sections) = fetch(&system, &ada, &link).await;
    let numbers: Vec<i64> =
        sections["messages"].iter().map(|item| item["number"].as_i64().unwrap()).collect();
    let wanted: BTreeSet<i64> = (1..=EACH_DAY as i64 * 4).filter(|number| number % 3 != 0).collect();
    assert_eq!(numbers.len(), wanted.len(), "each is there once");
    assert_eq!(numbers.into_iter().collect::<BTreeSet<_>>(), wanted);
    assert!(system.sql("select pieces from exports").parse::<u32>().unwrap() > 3);
}
