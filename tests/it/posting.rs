//! Posts that share a transaction: each is answered as if it were alone, and is stored once, wherever the origin dies.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use optimist_tests::{Answer, Client, System};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const POSTS: usize = 8;

/// Posts a message; the caller awaits the answer later.
fn post(client: &Client, circle: &str, key: &str, body: &str) -> JoinHandle<reqwest::Result<Answer>> {
    let (client, path, key) = (client.clone(), format!("/v1/circles/{circle}/messages"), key.to_owned());
    let body = json!({ "body": body }).to_string().into_bytes();
    tokio::spawn(async move {
        client.try_send(Method::POST, &path, &[("idempotency-key", &key)], Some(body)).await
    })
}

async fn answer(posted: JoinHandle<reqwest::Result<Answer>>) -> Answer {
    posted.await.unwrap().expect("an answer")
}

/// Holds a first post in its transaction, so that all posts that `begin` sends to the circle wait for the next one;
/// releases it once `count` of them wait. Returns the first answer, and the result of `begin`.
async fn batched<T>(
    system: &System,
    first: (&Client, &str),
    count: u64,
    begin: impl FnOnce() -> T,
) -> (Answer, T) {
    let origin = &system.origins[0];
    let first = origin.hold("tx.begun", async || post(first.0, first.1, "first", "First.")).await;
    let waiting = origin.passes("post.waiting").await;
    let begun = begin();
    origin.wait_for_passes("post.waiting", waiting + count).await;
    origin.release().await;
    (answer(first).await, begun)
}

/// How often a statement was sent.
async fn sent(system: &System, statement: &str) -> u64 {
    system.origins[0].statements().await.get(statement).copied().unwrap_or_default()
}

/// The numbers of a circle's messages in the order of the outbox.
fn numbers_told(system: &System, circle: &str) -> String {
    system.sql(&format!(
        "select string_agg(payload ->> 'number', ' ' order by xid, seq) from outbox
         where kind = 'message.posted' and topics = array['{circle}']::uuid[]"
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_finds_what_the_release_before_recorded() {
    let system = System::start().await;
    let owner = system.register("Owen").await;
    let circle = owner.create_circle("private").await;
    let posted = answer(post(&owner, &circle, "once", "Good morning.")).await.expect(201);
    // The hash of that release: user, session, circle and message of the path, and the body.
    let body = json!({"body": "Good morning."}).to_string();
    system.sql(&format!(
        "update idempotency set hash_version = 1, request_hash = encode(sha256(
             decode(repeat('00', 32), 'hex') || uuid_send('{circle}') || decode(repeat('00', 16), 'hex')
             || convert_to('{body}', 'UTF8')), 'hex')"
    ));
    let again = answer(post(&owner, &circle, "once", "Good morning.")).await.expect(201);
    assert_eq!(again.body, posted.body);
    let other = answer(post(&owner, &circle, "once", "Good evening.")).await.expect(422);
    assert_eq!(other.body["code"], "idempotency-key-reused");
    assert_eq!(system.sql("select count(*), max(hash_version) from messages, idempotency"), "1|1");
}

/// The message whose thread one of them is for is deleted while they wait.
#[tokio::test(flavor = "multi_thread")]
async fn comments_and_messages_share_a_batch() {
    let system = System::start().await;
    let owner = system.register("Owen").await;
    let (circle, other) = (owner.create_circle("private").await, owner.create_circle("private").await);
    let parents = [owner.say(&circle, "One.").await, owner.say(&other, "Two.").await];
    let comment = |circle: &str, parent: &str, body: &str| {
        let (client, path) = (owner.clone(), format!("/v1/circles/{circle}/messages/{parent}/comments"));
        let body = json!({ "body": body }).to_string().into_bytes();
        tokio::spawn(async move { client.try_send(Method::POST, &path, &[], Some(body)).await })
    };
    let (_, posted) = batched(&system, (&owner, &circle), 5, || {
        [
            post(&owner, &circle, "new", "New."),
            comment(&circle, &parents[0], "First."),
            comment(&other, &parents[1], "Elsewhere."),
            comment(&circle, &parents[0], "Second."),
            post(&owner, &other, "new-too", "New."),
        ]
    })
    .await;
    for posted in posted {
        answer(posted).await.expect(201);
    }
    let counts =
        "select string_agg(body || ' ' || comments, ', ' order by body) from messages where comments > 0";
    assert_eq!(system.sql(counts), "One. 2, Two. 1");
    assert_eq!(system.sql("select bool_and(followers = '{}' and cardinality(thread_months) = 1) from messages where comments > 0"), "t");
    let of_two = "select string_agg(array_to_string(keys, ' '), ' ') like '%:comments%' from outbox where payload ? 'parent'";
    assert_eq!(system.sql(of_two), "t", "relays of other regions drop the thread too");

    system.forget_limits_of(&owner).await;
    let batches = sent(&system, "messages::post_all").await;
    let origin = &system.origins[0];
    let first = origin.hold("tx.begun", async || post(&owner, &circle, "before", "Before.")).await;
    let waiting = origin.passes("post.waiting").await;
    let posted = [comment(&circle, &parents[0], "Late."), post(&owner, &circle, "beside", "Beside it.")];
    origin.wait_for_passes("post.waiting", waiting + 2).await;
    system.sql(&format!("update messages set deleted_at = now() where id = '{}'", parents[0]));
    origin.release().await;
    answer(first).await.expect(201);
    let [late, beside] = posted;
    answer(late).await.expect(404);
    answer(beside).await.expect(201);
    assert!(sent(&system, "messages::post_all").await <= batches + 2, "each is decided over alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_each_is_answered_as_if_it_were_alone() {
    let system = System::start().await;
    let (owner, member, former) =
        (system.register("Owen").await, system.register("Meg").await, system.register("Fay").await);
    let (banned, stranger) = (system.register("Bob").await, system.register("Sam").await);
    let leaver = system.register("Lou").await;
    let circle = owner.create_circle("private").await;
    for person in [&member, &former, &banned, &leaver] {
        person.join(&circle, &owner).await;
    }
    former.delete(&format!("/v1/circles/{circle}/members/me")).await.expect(204);
    owner.delete(&format!("/v1/circles/{circle}/members/{}?ban=true", banned.user)).await.expect(204);
    let before = post(&member, &circle, "before", "Before.");
    let before = answer(before).await.expect(201);
    let batches = sent(&system, "messages::post_all").await;
    // Those outside are refused before they reach a batch.
    for (person, status) in [(&former, 404), (&banned, 404), (&stranger, 404)] {
        answer(post(person, &circle, "outside", "Let me.")).await.expect(status);
    }
    assert_eq!(sent(&system, "messages::post_all").await, batches);
    let origin = &system.origins[0];
    let first = origin.hold("tx.begun", async || post(&owner, &circle, "first", "First.")).await;
    let waiting = origin.passes("post.waiting").await;
    let posted = {
        [
            post(&member, &circle, "new", "New."),
            post(&member, &circle, "twice", "Twice."),
            post(&member, &circle, "twice", "Twice."),
            // The same key is independent for another person.
            post(&owner, &circle, "twice", "Twice."),
            post(&member, &circle, "before", "Before."),
            post(&member, &circle, "before", "Before, otherwise."),
            post(&leaver, &circle, "leaver", "Let me."),
        ]
    };
    origin.wait_for_passes("post.waiting", waiting + 7).await;
    // Gone when the batch begins, although the edge and the origin have just seen them in.
    system.sql(&format!("delete from memberships where user_id = '{}'", leaver.user));
    origin.release().await;
    let first = answer(first).await.expect(201);
    let answers = join_all(posted.into_iter().map(answer)).await;
    let [new, twice, again, of_owner, repeated, reused, ..] = &answers[..] else { panic!() };
    assert_eq!(
        sent(&system, "messages::post_all").await,
        batches + 2,
        "the first, and one for all that waited"
    );
    for answer in [new, twice, again, of_owner, repeated] {
        answer.clone().expect(201);
    }
    assert_eq!(twice.body, again.body);
    assert_eq!(repeated.body, before.body);
    assert_eq!(reused.clone().expect(422).body["code"], "idempotency-key-reused");
    answers[6].clone().expect(404);
    let made = [&before, &first, new, twice, of_owner];
    let listed = owner.get(&format!("/v1/circles/{circle}/messages")).await.expect(200);
    let mut shown: Vec<&Value> =
        listed.body["items"].as_array().unwrap().iter().map(|item| &item["id"]).collect();
    shown.sort_by_key(|id| id.as_str());
    let mut expected: Vec<&Value> = made.iter().map(|answer| &answer.body["id"]).collect();
    expected.sort_by_key(|id| id.as_str());
    assert_eq!(shown, expected, "each once, and nothing of those who may not");
    assert_eq!(numbers_told(&system, &circle), "1 2 3 4 5", "told once, in order");
    let authors = system.sql(
        "select count(*) from outbox join messages on messages.id = (payload ->> 'message')::uuid
         where kind = 'message.posted' and (actor <> author_id or session is null)",
    );
    assert_eq!(authors, "0", "each by its author's session");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_circle_takes_nothing_from_a_batch() {
    let system = System::start().await;
    let owner = system.register("Owen").await;
    let (open, archived) = (owner.create_circle("public").await, owner.create_circle("public").await);
    owner.delete(&format!("/v1/circles/{archived}")).await.expect(204);
    // Whether or not they share a lane: posts to the open circle succeed, posts to the archived one are refused.
    let posted: Vec<_> = (0..POSTS)
        .map(|index| {
            let circle = if index % 2 == 0 { &open } else { &archived };
            post(&owner, circle, &format!("key-{index}"), "Hello.")
        })
        .collect();
    for (index, answer) in join_all(posted.into_iter().map(answer)).await.into_iter().enumerate() {
        answer.expect(if index % 2 == 0 { 201 } else { 409 });
    }
    assert_eq!(system.sql(&format!("select count(*) from messages where circle_id = '{archived}'")), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_waits_for_somebody_holds_up_no_other_circle() {
    let system = System::start().await;
    let owners = join_all((0..POSTS).map(|number| {
        let system = &system;
        async move {
            let owner = system.register(&format!("Owner{number}")).await;
            let circle = owner.create_circle("private").await;
            (owner, circle)
        }
    }))
    .await;
    let ((first, held), others) = owners.split_first().unwrap();
    let origin = &system.origins[0];
    let waits = origin.hold("tx.begun", async || post(first, held, "first", "First.")).await;
    // One waits for the held batch, since it is to the same circle.
    let second = post(first, held, "second", "Second.");
    let posted: Vec<_> =
        others.iter().map(|(owner, circle)| post(owner, circle, "other", "Hello.")).collect();
    for answer in join_all(posted.into_iter().map(answer)).await {
        answer.expect(201);
    }
    assert!(!waits.is_finished() && !second.is_finished());
    origin.release().await;
    answer(waits).await.expect(201);
    answer(second).await.expect(201);
    assert_eq!(numbers_told(&system, held), "1 2");
}

/// A post whose client has gone before its turn creates nothing; its repetition creates one message.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_takes_nobody_elses_message_along() {
    let system = System::start().await;
    let owner = system.register("Owen").await;
    let circle = owner.create_circle("private").await;
    let (first, [kept, gone]) = batched(&system, (&owner, &circle), 2, || {
        [post(&owner, &circle, "kept", "Kept."), post(&owner, &circle, "gone", "Gone.")]
    })
    .await;
    gone.abort();
    first.expect(201);
    answer(kept).await.expect(201);
    answer(post(&owner, &circle, "gone", "Gone.")).await.expect(201);
    assert_eq!(numbers_told(&system, &circle), "1 2 3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_made_once_wherever_the_origin_dies() {
    let mut system = System::start().await;
    let owner = system.register("Owen").await;
    let circle = owner.create_circle("private").await;
    let steps = ["tx.begun", "tx.statements", "tx.outbox", "tx.fenced", "tx.committed", "tx.released"];
    for step in steps {
        system.forget_limits_of(&owner).await;
        system.origins[0].arm(step, "abort", 0, 1).await;
        let all = || (0..POSTS).map(|index| post(&owner, &circle, &format!("{step}-{index}"), "Hello."));
        // Some are in the batch that dies, some wait behind it.
        join_all(all()).await;
        // Its connections end a moment before the process does.
        let deadline = optimist_tests::patience();
        while system.origins[0].is_running() {
            assert!(Instant::now() < deadline, "nobody came to {step}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        system.replace_origin(0);
        let mut pending: Vec<usize> = (0..POSTS).collect();
        for _ in 0..100 {
            let tried =
                pending.iter().map(|index| post(&owner, &circle, &format!("{step}-{index}"), "Hello."));
            let answers = join_all(tried.collect::<Vec<_>>().into_iter().map(answer)).await;
            let mut answers = answers.iter();
            pending.retain(|_| answers.next().is_some_and(|answer| answer.status != 201));
            if pending.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(pending.is_empty(), "after {step}");
    }
    let all: Vec<String> = (1..=steps.len() * POSTS).map(|number| number.to_string()).collect();
    assert_eq!(numbers_told(&system, &circle), all.join(" "), "each once, told once");
    let listed = owner.get(&format!("/v1/circles/{circle}/messages")).await.expect(200);
    assert_eq!(listed.body["items"][0]["number"], all.len());
}
