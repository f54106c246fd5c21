//! Months that leave for the archive and come back: nothing is lost or there twice, however often it is killed.

mod bucket;
mod copies;
mod erasing;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use optimist_tests::aged::add_old_messages;
use optimist_tests::stores::SHARED;
use optimist_tests::{Answer, Client, Origin, System, until};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use copies::next_month;

/// Messages of each of the two old months.
const EACH: usize = 300;

/// A system with a circle whose messages are from 27 and 26 months ago, and one of today.
struct Aged {
    system: System,
    settings: Vec<(String, String)>,
    folder: TempDir,
    ada: Client,
    bob: Client,
    circle: String,
    /// Like `2024-05`, the older first.
    months: [String; 2],
    /// An old message of Ada's in each of them.
    messages: [String; 2],
}

impl Aged {
    async fn start() -> Aged {
        let system = System::start().await;
        let (ada, bob) = (system.register("Ada").await, system.register("Bob").await);
        let circle = ada.create_circle("public").await;
        bob.post(&format!("/v1/circles/{circle}/members/me"), json!({})).await.expect(201);
        let months = add_old_messages(&system, &circle, [&ada.user, &bob.user], EACH);
        ada.say(&circle, "Today.").await;
        let messages = [1, EACH + 1].map(|number| {
            system.sql(&format!("select id from messages where circle_id = '{circle}' and number = {number}"))
        });
        let folder = tempfile::tempdir().unwrap();
        let mut settings = system.environment();
        settings.push(("OPTIMIST_ARCHIVE_URL".to_owned(), folder.path().display().to_string()));
        settings.push(("OPTIMIST_TEST_DISABLED".to_owned(), "lapse".to_owned()));
        Aged { system, settings, folder, ada, bob, circle, months, messages }
    }

    /// Runs the origin's `archive` command, which must succeed.
    #[track_caller]
    fn archive(&self, arguments: &[&str]) -> String {
        let (succeeded, output) = self.try_archive(arguments, &[]);
        assert!(succeeded, "{arguments:?}: {output}");
        output
    }

    /// Erases an account: the archive's objects follow with its next run.
    #[track_caller]
    fn erase(&self, user: &str) {
        let (succeeded, output) = Origin::command(&self.settings, &["erasure", "apply", user]);
        assert!(succeeded, "{output}");
    }

    fn try_archive(&self, arguments: &[&str], more: &[(&str, &str)]) -> (bool, String) {
        let mut settings = self.settings.clone();
        settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Origin::command(&settings, &[&["archive"], arguments].concat())
    }

    fn is_attached(&self, table: &str, month: &str) -> bool {
        let leaf = format!("{table}_{}", month.replace('-', "_"));
        self.system.sql(&format!(
            "select count(*) from pg_inherits where inhrelid = to_regclass('{leaf}') and not inhdetachpending"
        )) == "1"
    }

    fn state(&self, table: &str, month: &str) -> String {
        self.system
            .sql(&format!("select state from archived where name = '{table}' and month = '{month}-01'"))
    }

    fn object(&self, table: &str, month: &str) -> PathBuf {
        let version = self
            .system
            .sql(&format!("select version from archived where name = '{table}' and month = '{month}-01'"));
        self.folder.path().join(table).join(month).join(format!("{version}.csv.zst"))
    }

    /// All rows of a table as CSV, in the order of its key: of each month from its partition, or from its object.
    fn everything(&self, table: &str) -> String {
        let key = self.system.sql(&format!("select keys_as('{table}', '%I')"));
        let mut rows = Vec::new();
        for month in &self.months {
            rows.push(match self.is_attached(table, month) {
                true => self.system.sql(&format!(
                    "copy (select * from {table}_{} order by {key}) to stdout (format csv)",
                    month.replace('-', "_")
                )),
                false => unpacked(&self.object(table, month)),
            });
        }
        rows.join("\n")
    }

    fn all(&self) -> [String; 3] {
        ["messages", "reactions", "reaction_counts"].map(|table| self.everything(table))
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1/circles/{}/messages{rest}", self.circle)
    }

    fn age_detached(&self) {
        self.system
            .sql("update archived set changed_at = changed_at - interval '8 days' where state = 'detached'");
    }
}

fn unpacked(object: &Path) -> String {
    let bytes = zstd::decode_all(std::fs::File::open(object).unwrap()).unwrap();
    String::from_utf8(bytes).unwrap().trim_end_matches('\n').to_owned()
}

#[track_caller]
fn refused(answer: &Answer) {
    assert_eq!((answer.status, answer.body["code"].as_str()), (410, Some("archived")), "{:?}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_killed_runs_leave_no_row_twice_and_lose_none() {
    let aged = Aged::start().await;
    let before = aged.all();
    assert_eq!(before[1].lines().count(), EACH);
    let kill_at = |step: &str| {
        let (succeeded, output) = aged.try_archive(&["run"], &[("OPTIMIST_TEST_ABORT", step)]);
        assert!(!succeeded, "{step} was not reached: {output}");
        assert_eq!(aged.all(), before, "after a run that was killed at {step}");
    };
    for step in
        ["closed", "part", "written", "described", "compared", "compared", "leaving", "detached", "detached"]
    {
        kill_at(&format!("archive.{step}"));
    }
    aged.archive(&["run"]);
    aged.age_detached();
    kill_at("archive.dropped");
    aged.archive(&["run"]);
    assert_eq!(aged.all(), before);
    for table in ["messages", "reactions", "reaction_counts"] {
        for month in &aged.months {
            assert_eq!(aged.state(table, month), "dropped");
            assert!(!aged.is_attached(table, month));
        }
    }
    assert_eq!(aged.system.sql("select count(*) from messages"), "1", "today's");
    aged.archive(&["verify"]);
    // And back: also a restoration that is killed is continued.
    let older = aged.months[0].as_str();
    for step in ["archive.part", "archive.loaded", "archive.attached"] {
        let (succeeded, _) =
            aged.try_archive(&["restore", "messages", older], &[("OPTIMIST_TEST_ABORT", step)]);
        assert!(!succeeded, "{step} was not reached");
        assert_eq!(aged.all(), before, "after a restoration that was killed at {step}");
    }
    aged.archive(&["restore", "messages", older]);
    aged.archive(&["restore", "reactions", &aged.months[1]]);
    assert_eq!(aged.all(), before);
    assert!(aged.months.iter().all(|month| aged.is_attached("messages", month)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detachment_that_is_killed_while_it_waits_is_finished() {
    let aged = Aged::start().await;
    let before = aged.all();
    let reader = SHARED.transaction(&aged.system.database, "select count(*) from messages");
    let mut run = std::process::Command::new(optimist_tests::stores::origin_program())
        .args(["archive", "run"])
        .envs(aged.settings.iter().map(|(name, value)| (name, value)))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = optimist_tests::patience();
    while aged.system.sql("select count(*) from pg_inherits where inhdetachpending") == "0" {
        assert!(Instant::now() < deadline, "no partition is being detached");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    run.kill().unwrap();
    run.wait().unwrap();
    drop(reader);
    // Its session ends when its statement does.
    tokio::time::sleep(Duration::from_millis(500)).await;
    aged.archive(&["run"]);
    assert_eq!(aged.all(), before);
    assert!(aged.months.iter().all(|month| !aged.is_attached("messages", month)));
}

#[tokio::test(flavor = "multi_thread")]
async fn history_tells_where_the_archive_begins_and_a_restored_month_reads_like_any_other() {
    let aged = Aged::start().await;
    let (ada, [older, newer]) = (&aged.ada, &aged.months);
    let before = aged.all();
    // A month on its way: nothing of it changes any more.
    aged.try_archive(&["run"], &[("OPTIMIST_TEST_ABORT", "archive.closed")]);
    let path = aged.path(&format!("/{}", aged.messages[0]));
    ada.get(&path).await.expect(200);
    refused(&ada.patch(&path, json!({"body": "Changed."})).await);
    refused(&ada.delete(&path).await);
    // Its thread gets nothing new, whether the batch finds out or the transaction of one comment.
    let thread = format!("{path}/comments");
    assert_eq!(ada.get(&thread).await.expect(200).body["items"], json!([]));
    for key in [&[][..], &[("idempotency-key", "a-comment")]] {
        let body = json!({"body": "Late."}).to_string().into_bytes();
        refused(&ada.send(Method::POST, &thread, key, Some(body)).await);
    }
    assert_eq!(aged.system.sql("select count(*) from messages where parent_id is not null"), "0");
    ada.send(Method::PUT, &format!("{path}/reactions/hug"), &[], None).await.expect(202);
    let metrics = format!("{}/metrics", aged.system.origins[0].internal);
    let deadline = optimist_tests::patience();
    loop {
        let page = reqwest::get(&metrics).await.unwrap().text().await.unwrap();
        if page.contains("optimist_reactions_dropped_total 1") {
            break;
        }
        assert!(Instant::now() < deadline, "the reaction was not dropped");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    aged.archive(&["run"]);
    assert_eq!(aged.all(), before);

    aged.system.sql("update regions set epoch = epoch + 1"); // What is in Redis may be half an hour old.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let begins = next_month(newer);
    for round in 0..2 {
        let page = ada.get(&aged.path("")).await.expect(200);
        assert_eq!(page.body["items"].as_array().unwrap().len(), 1, "round {round}");
        assert_eq!(
            (&page.body["next"], page.text("/archived_before")),
            (&Value::Null, begins.clone()),
            "round {round}"
        );
    }
    until("the page comes from Redis", async || ada.get(&aged.path("")).await.is_hit()).await;
    let page = ada.get(&aged.path("?after=0&limit=5")).await.expect(200);
    assert_eq!(
        (page.body["items"].as_array().unwrap().len(), page.text("/archived_before")),
        (1, begins.clone())
    );
    for message in &aged.messages {
        let path = aged.path(&format!("/{message}"));
        refused(&ada.get(&path).await);
        refused(&ada.patch(&path, json!({"body": "Changed."})).await);
        refused(&ada.delete(&path).await);
        refused(&ada.get(&format!("{path}/reactions")).await);
        refused(&ada.get(&format!("{path}/comments")).await);
        refused(&ada.post(&format!("{path}/comments"), json!({"body": "Late."})).await);
        refused(&ada.send(Method::PUT, &format!("{path}/reactions/heart"), &[], None).await);
    }
    ada.get(&aged.path("/0190a0a0-0000-7000-8000-000000000001")).await.expect(404);

    aged.archive(&["restore", "messages", older]);
    assert_eq!(aged.all(), before);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let page = ada.get(&aged.path("?limit=100")).await.expect(200);
    assert_eq!((page.body["items"].as_array().unwrap().len(), page.text("/archived_before")), (100, begins));
    let page = ada.get(&aged.path(&format!("?limit=100&before={}", page.text("/next")))).await.expect(200);
    assert_eq!(
        (page.body["items"].as_array().unwrap().len(), &page.body["archived_before"]),
        (100, &Value::Null)
    );
    ada.get(&path).await.expect(200);
    ada.patch(&path, json!({"body": "Changed."})).await.expect(200);
    ada.send(Method::PUT, &format!("{path}/reactions/heart"), &[], None).await.expect(202);
    // It stays until it is asked for, or until another age is set.
    aged.archive(&["run"]);
    assert_eq!(aged.state("messages", older), "restored");
    let (succeeded, output) = aged.try_archive(&["run"], &[("OPTIMIST_ARCHIVE_AGES", "messages=20 months")]);
    assert!(succeeded, "{output}");
    assert_eq!(aged.state("messages", older), "detached");
    assert!(unpacked(&aged.object("messages", older)).contains("Changed."));
    let (succeeded, output) = aged.try_archive(&["run", "messages", "2999-01"], &[]);
    assert!(!succeeded, "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_cut_changed_or_missing_is_found_and_replaces_nothing() {
    let aged = Aged::start().await;
    aged.archive(&["run"]);
    let month = aged.months[0].as_str();
    let object = aged.object("messages", month);
    let manifest = object.with_extension("").with_extension("json");
    let whole = std::fs::read(&object).unwrap();
    let described = std::fs::read_to_string(&manifest).unwrap();
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    let other = std::fs::read(aged.object("messages", &aged.months[1])).unwrap();
    let fewer = described.replace(&format!("\"rows\": {EACH}"), "\"rows\": 299");
    assert_ne!(fewer, described);
    let wrong: [(&str, &Path, Option<&[u8]>); 6] = [
        ("cut", &object, Some(&whole[..whole.len() / 2])),
        ("changed", &object, Some(&changed)),
        ("another's", &object, Some(&other)),
        ("missing", &object, None),
        ("described otherwise", &manifest, Some(fewer.as_bytes())),
        ("not described", &manifest, None),
    ];
    for (what, file, bytes) in wrong {
        let right = std::fs::read(file).unwrap();
        match bytes {
            Some(bytes) => std::fs::write(file, bytes).unwrap(),
            None => std::fs::remove_file(file).unwrap(),
        }
        let (succeeded, output) = aged.try_archive(&["verify"], &[]);
        assert!(!succeeded && output.contains("1 objects are not"), "{what}: {output}");
        let (succeeded, output) = aged.try_archive(&["restore", "messages", month], &[]);
        assert!(!succeeded, "{what}: {output}");
        assert!(!aged.is_attached("messages", month) && !aged.is_attached("reactions", month), "{what}");
        // Nor is what it stands for dropped.
        aged.age_detached();
        let (succeeded, output) = aged.try_archive(&["run"], &[]);
        assert!(!succeeded && output.contains("stays"), "{what}: {output}");
        std::fs::write(file, right).unwrap();
    }
    aged.archive(&["verify"]);
    aged.archive(&["restore", "messages", month]);
}

#[tokio::test(flavor = "multi_thread")]
async fn erased_people_leave_objects_and_months_that_are_restored() {
    let aged = Aged::start().await;
    let bob = aged.becomes_old(&aged.bob);
    aged.archive(&["run"]);
    let [older, newer] = &aged.months;
    let of_bob =
        |text: &str| text.lines().filter(|line| line.contains(&bob)).any(|line| line.contains("Number"));
    assert!(of_bob(&unpacked(&aged.object("messages", older))));
    let reactions = unpacked(&aged.object("reactions", older));
    assert!(reactions.contains(&bob));
    aged.erase(&bob);
    // A database of before the erasure learns of it from the store.
    aged.system.sql("delete from erased");
    aged.archive(&["restore", "messages", newer]);
    let texts = |month: &str| {
        aged.system.sql(&format!(
            "select count(*) from messages_{} where author_id = '{}' and (body <> '' or deleted_at is null)",
            month.replace('-', "_"),
            bob
        ))
    };
    assert_eq!(texts(newer), "0");
    assert_eq!(
        aged.system.sql(&format!("select count(*) from messages_{}", newer.replace('-', "_"))),
        EACH.to_string()
    );
    for step in ["archive.written", "archive.rewritten"] {
        let (succeeded, _) = aged.try_archive(&["run"], &[("OPTIMIST_TEST_ABORT", step)]);
        assert!(!succeeded, "{step} was not reached");
    }
    aged.archive(&["run"]);
    let rest = unpacked(&aged.object("messages", older));
    assert!(!of_bob(&rest) && rest.contains("Number"), "Ada's texts stay");
    let anonymous = unpacked(&aged.object("reactions", older));
    assert!(!anonymous.contains(&bob), "they are nobody's");
    assert_eq!(anonymous.lines().count(), reactions.lines().count(), "they count as before");
    let objects = std::fs::read_dir(aged.folder.path().join("messages").join(older)).unwrap().count();
    assert_eq!(objects, 2, "the former object is gone");
    assert_eq!(
        aged.system.sql(&format!("select to_regclass('messages_{}') is null", older.replace('-', "_"))),
        "t"
    );
    aged.archive(&["verify"]);
    aged.archive(&["restore", "messages", older]);
    assert_eq!(texts(older), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_leave_with_what_is_counted_of_them() {
    let aged = Aged::start().await;
    let system = &aged.system;
    system
        .sql("select make_leaf(name, leaf_now(name) - 5) from partitioned where goes_with = 'notifications'");
    system.sql(&format!(
        "insert into notifications (user_id, id, month, kind, circle_id, created_at, updated_at, place, read_at)
         select '{ada}', id_at((floor(extract(epoch from month_begin(month_number(now()) - 5)) * 1000)::bigint + n) << 12),
             (month_begin(month_number(now()) - 5) at time zone 'UTC')::date, 'message', '{circle}', now(), now(), n,
             case when n % 2 = 0 then now() end
         from generate_series(1, 900) n;
         insert into notification_counts (user_id, unread, last_place, held, read_through) values ('{ada}', 350, 900, 900, 200)
         on conflict (user_id) do update set unread = 350, last_place = 900, held = 900, read_through = 200",
        ada = aged.ada.user,
        circle = aged.circle,
    ));
    let month =
        system.sql("select to_char(month_begin(month_number(now()) - 5) at time zone 'UTC', 'YYYY-MM')");
    let (succeeded, _) = aged.try_archive(&["run"], &[("OPTIMIST_TEST_ABORT", "archive.left")]);
    assert!(!succeeded);
    aged.archive(&["run"]);
    assert_eq!(aged.state("notifications", &month), "detached");
    let counts = format!("select unread, held from notification_counts where user_id = '{}'", aged.ada.user);
    assert_eq!(system.sql(&counts), "0|0");
    assert_eq!(unpacked(&aged.object("notifications", &month)).lines().count(), 900);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_archive_old_months_are_dropped_where_nothing_counts_any_more() {
    let system = System::start().await;
    system.sql("select make_leaf(name, leaf_now(name) - n) from partitioned, generate_series(5, 6) n where goes_with in ('notifications', 'messages')");
    system.sql("select make_leaf('audit', leaf_now('audit') - n) from generate_series(12, 15) n");
    system.sql("insert into audit (at, xid, seq, kind, payload) select now() - interval '15 months', '3', 1, 'test', '{}'");
    system.sql(
        "insert into notifications (user_id, id, month, kind, circle_id, created_at, updated_at, place)
         select gen_random_uuid(), id_at(floor(extract(epoch from month_begin(month_number(now()) - 5)) * 1000)::bigint << 12),
             (month_begin(month_number(now()) - 5) at time zone 'UTC')::date, 'invite', gen_random_uuid(), now(), now(), 1",
    );
    let leaves = |table: &str, ago: i64| {
        system.sql(&format!(
            "select count(*) from leaves('{table}') leaf where leaf = leaf_now('{table}') - {ago}"
        ))
    };
    let settings = system.environment();
    let (succeeded, output) = Origin::command(&settings, &["jobs", "run", "archive.run"]);
    assert!(succeeded, "{output}");
    for (table, ago, left) in [
        ("notifications", 5, "1"),
        ("notification_actors", 5, "1"),
        ("notifications", 6, "0"),
        ("notification_actors", 6, "0"),
        ("messages", 6, "1"),
        ("audit", 15, "0"),
        ("audit", 12, "1"),
    ] {
        assert_eq!(leaves(table, ago), left, "{table}, {ago} months ago");
    }
}
