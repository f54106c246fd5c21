//! Names in lists: a new one is shown in every cached list within a minute, and a circle that is private leaves discovery.

use std::time::{Duration, Instant};

use optimist_shared::ids::Uuid;
use optimist_shared::keys::Key;
use optimist_tests::{Answer, Client, Origin, System};
use reqwest::Method;
use serde_json::{Value, json};

/// The steps that the job has taken so far.
fn steps(system: &System) -> String {
    system.sql("select count(*) from outbox where kind = 'names.changed'")
}

/// Waits until the follower has noted a change, and runs the job, unless it was due and ran by itself.
async fn drop_copies(system: &System, before: &str) {
    let deadline = optimist_tests::patience();
    while system.sql("select count(*) from changed_names") == "0" && steps(system) == before {
        assert!(Instant::now() < deadline, "nobody noted the change");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (succeeded, output) = Origin::command(&system.environment(), &["jobs", "run", "names.drop"]);
    assert!(succeeded, "{output}");
}

/// Drops a copy, as if it had lapsed.
async fn forget(system: &System, key: String) {
    let mut redis = system.redis.connect().await;
    let _: () = redis::cmd("DEL").arg(key).query_async(&mut redis).await.unwrap();
}

/// Asks until the edge answers by itself.
async fn warm(client: &Client, path: &str) -> Answer {
    let deadline = optimist_tests::patience();
    loop {
        let answer = client.get(path).await.expect(200);
        if answer.is_hit() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{path} does not become warm");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks until the answer is as wanted: the relay drops copies a moment after the job.
async fn until(client: &Client, path: &str, wanted: impl Fn(&Value) -> bool) -> Answer {
    let deadline = optimist_tests::patience();
    loop {
        let answer = client.get(path).await.expect(200);
        if wanted(&answer.body) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{path} still shows {answer:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persons_new_name_is_shown_in_every_list() {
    let system = System::start().await;
    let (owner, member) = (system.register("Owen").await, system.register("Meg").await);
    let circle = owner.create_circle("private").await;
    member.join(&circle, &owner).await;
    let message = member.say(&circle, "Good morning.").await;
    // More circles than a step drops.
    system.sql(&format!(
        "with made as (
             insert into circles (id, name, visibility, owner_id)
             select gen_random_uuid(), 'Another', 'private', '{0}' from generate_series(1, 60) returning id)
         insert into memberships (circle_id, user_id, role) select id, '{1}', 'member' from made",
        owner.user, member.user
    ));
    let thread = owner.say(&circle, "Who is there?").await;
    let thread = format!("messages/{thread}/comments");
    member.post(&format!("/v1/circles/{circle}/{thread}"), json!({"body": "I am."})).await.expect(201);
    let paths = ["members", "messages", &format!("messages/{message}"), &thread]
        .map(|rest| format!("/v1/circles/{circle}/{rest}"));
    let mut before = Vec::new();
    for path in &paths {
        before.push(warm(&owner, path).await);
    }
    member.patch("/v1/me", json!({"name": "Margaret"})).await.expect(200);
    drop_copies(&system, "0").await;
    for (path, before) in paths.iter().zip(before) {
        let after = until(&owner, path, |body| body.to_string().contains("Margaret")).await;
        assert!(!after.body.to_string().contains("Meg"), "{after:#?}");
        assert_ne!(after.header("etag"), before.header("etag"), "{path}");
        let known = [("if-none-match", before.header("etag"))];
        owner.send(Method::GET, path, &known, None).await.expect(200);
    }
    assert_eq!(system.sql("select count(*) from changed_names"), "0");
    let dropped = "select count(*), bool_and(cardinality(keys) <= 550), bool_and(topics = '{}') from outbox
         where kind = 'names.changed'";
    assert_eq!(system.sql(dropped), "3|t|t", "61 circles in steps of 25");
}

/// Whoever changes a name ten times a second makes no more copies cold than whoever changes it once.
#[tokio::test(flavor = "multi_thread")]
async fn many_changes_of_a_name_are_dealt_with_together() {
    let system = System::start().await;
    let owner = system.register("Owen").await;
    let circle = owner.create_circle("public").await;
    for number in 0..20 {
        owner.patch("/v1/me", json!({"name": format!("Owen {number}")})).await.expect(200);
        owner
            .patch(&format!("/v1/circles/{circle}"), json!({"name": format!("Circle {number}")}))
            .await
            .expect(200);
        owner.patch("/v1/me", json!({"bio": format!("Bio {number}")})).await.expect(200);
    }
    drop_copies(&system, "0").await;
    // Two, unless the job was due in between as well.
    assert!(steps(&system).parse::<u32>().unwrap() <= 4, "{}", steps(&system));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_that_is_not_public_any_more_leaves_discovery() {
    let system = System::start().await;
    let (owner, reader) = (system.register("Owen").await, system.register("Rea").await);
    let circle = owner.create_circle("public").await;
    let path = format!("/v1/circles/{circle}");
    let lists = |body: &Value| body.to_string().contains(&circle);
    forget(&system, Key::discovery().name()).await;
    let listed = warm(&reader, "/v1/circles").await;
    assert!(lists(&listed.body), "{listed:#?}");
    let changes: [(Method, &str, Value, bool); 4] = [
        (Method::PATCH, "", json!({"visibility": "private"}), false),
        (Method::PATCH, "", json!({"visibility": "public"}), true),
        (Method::DELETE, "", Value::Null, false),
        (Method::POST, "/restore", json!({}), true),
    ];
    for (method, rest, body, is_listed) in changes {
        let body = (!body.is_null()).then(|| body.to_string().into_bytes());
        let before = steps(&system);
        let answer = owner.send(method, &format!("{path}{rest}"), &[], body).await;
        assert!(answer.status < 300, "{answer:#?}");
        drop_copies(&system, &before).await;
        until(&reader, "/v1/circles", |body| lists(body) == is_listed).await;
        warm(&reader, "/v1/circles").await;
    }
}

/// A tag stands for what is shown, so it changes with the author's name; and a change refuses the tag of before.
#[tokio::test(flavor = "multi_thread")]
async fn a_messages_tag_changes_with_its_authors_name() {
    let system = System::start().await;
    let author = system.register("Owen").await;
    let circle = author.create_circle("private").await;
    let message = author.say(&circle, "Good morning.").await;
    let path = format!("/v1/circles/{circle}/messages/{message}");
    let before = warm(&author, &path).await;
    author.patch("/v1/me", json!({"name": "Owain"})).await.expect(200);
    let id = |text: &str| text.parse::<Uuid>().unwrap();
    forget(&system, Key::message(id(&circle), id(&message)).name()).await;
    let known = [("if-none-match", before.header("etag"))];
    let after = author.send(Method::GET, &path, &known, None).await.expect(200);
    assert_eq!(after.text("/author/name"), "Owain");
    assert_ne!(after.header("etag"), before.header("etag"));
    let edit = Some(json!({"body": "Good evening."}).to_string().into_bytes());
    author.send(Method::PATCH, &path, &[("if-match", before.header("etag"))], edit.clone()).await.expect(412);
    author.send(Method::PATCH, &path, &[("if-match", after.header("etag"))], edit).await.expect(200);
}
