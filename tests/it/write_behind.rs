//! Write-behind entries are applied to Postgres exactly once: whichever process dies at any step, whatever the stream
//! holds.

use std::time::{Duration, Instant};

use optimist_shared::ids::Partition;
use optimist_shared::keys::Key;
use optimist_tests::crowd::Oracle;
use optimist_tests::{Answer, Client, Crowd, Kind, Options, System, until};
use reqwest::Method;
use serde_json::json;

/// A person, and their message.
struct Scene {
    ada: Client,
    circle: String,
    path: String,
}

impl Scene {
    async fn new(system: &System) -> Scene {
        let ada = system.register("Ada").await;
        let circle = ada.create_circle("private").await;
        let message = ada.say(&circle, "Good morning.").await;
        let path = format!("/v1/circles/{circle}/messages/{message}");
        Scene { ada, circle, path }
    }

    async fn send(&self, method: Method, kind: &str) -> Answer {
        self.ada.send(method, &format!("{}/reactions/{kind}", self.path), &[], None).await
    }

    fn partition(&self) -> Partition {
        Partition::of(self.circle.parse().unwrap())
    }

    /// Deletes the circle's keys in Redis as if they had expired; pending entries stay.
    async fn forget(&self, system: &System) {
        let mut redis = system.redis.connect().await;
        let pattern = format!("circle:*:{}:*", self.circle);
        let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut redis).await.unwrap();
        let _: i64 = redis::cmd("DEL").arg(keys).query_async(&mut redis).await.unwrap();
    }

    /// Appends entries to the partition's stream that no client would send.
    async fn append(&self, system: &System, entries: &[String]) {
        let mut redis = system.redis.connect().await;
        let key = Key::Writes.of_partition(self.partition());
        for chunk in entries.chunks(1_000) {
            let mut pipeline = redis::pipe();
            for entry in chunk {
                pipeline.cmd("XADD").arg(&key).arg("*").arg("reaction").arg(entry).ignore();
            }
            pipeline.query_async::<()>(&mut redis).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_killed_at_any_step_of_a_flush_applies_everything_once() {
    const STEPS: [&str; 6] =
        ["flush.read", "flush.applied", "flush.committed", "open.flushed", "open.counted", "open.opened"];
    let options = Options { origins: 2, appendfsync: "always", ..Options::default() };
    let mut system = System::with(options).await;
    let crowd = Crowd::new(&system, 6, 3, 20).await;
    let other_edge = system.edge_before(Kind::Embedded, &system.origins[1].api);
    let edges = [system.edge.url.clone(), other_edge.url.clone()];
    // An origin opens a partition when asked: during opening steps only the first is asked.
    let work = |is_opening: bool| {
        let edges = if is_opening { edges[..1].to_vec() } else { edges.to_vec() };
        let crowd = crowd.clone();
        tokio::spawn(async move { crowd.react(&edges, 60, false).await })
    };
    let mut oracle = Oracle::default();
    for step in STEPS {
        let is_opening = step.starts_with("open");
        oracle.acknowledged.extend(work(false).await.unwrap().acknowledged);
        system.origins[0].arm(step, "abort", 0, 1).await;
        if is_opening {
            // A new epoch, with entries that have survived.
            system.redis.kill();
            system.redis.launch();
        }
        let deadline = optimist_tests::patience();
        let mut working = work(is_opening);
        while system.origins[0].is_running() {
            assert!(Instant::now() < deadline, "nobody came to {step}");
            tokio::time::sleep(Duration::from_millis(20)).await;
            if working.is_finished() {
                oracle.acknowledged.extend(working.await.unwrap().acknowledged);
                working = work(is_opening);
            }
        }
        system.replace_origin(0);
        oracle.acknowledged.extend(working.await.unwrap().acknowledged);
    }
    crowd.wait_for_flush(&system).await;
    let (stored, expected) = (Crowd::stored(&system), oracle.on());
    assert!(stored == expected, "{:?}", stored.symmetric_difference(&expected).collect::<Vec<_>>());
    crowd.check_counts(&system, &expected).await;
}

/// Redis does not have the message's state yet: one of them installs it, and the others do not wait for a lease that nobody needs.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_reactions_to_a_message_may_come_at_once() {
    const PEOPLE: usize = 12;
    let system = System::start().await;
    let scene = Scene::new(&system).await;
    let mut people = Vec::new();
    for _ in 0..PEOPLE {
        let person = system.register("Bo").await;
        person.join(&scene.circle, &scene.ada).await;
        people.push(person);
    }
    let heart = format!("{}/reactions/heart", scene.path);
    let first = people.iter().map(|person| person.send(Method::PUT, &heart, &[], None));
    let began = Instant::now();
    for answer in futures_util::future::join_all(first).await {
        answer.expect(202);
    }
    // A lease lasts two and a half.
    assert!(began.elapsed() < Duration::from_millis(2_400), "{:?}", began.elapsed());
    let read = scene.ada.get(&scene.path).await.expect(200);
    assert_eq!(read.body["reactions"], json!({"heart": PEOPLE}));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_is_not_told_that_redis_is_a_cluster_finds_out() {
    const REACTIONS: usize = 5;
    let system = System::with(Options { redis_cluster: true, ..Options::default() }).await;
    let scene = Scene::new(&system).await;
    for reaction in 0..REACTIONS {
        let method = if reaction % 2 == 0 { Method::PUT } else { Method::DELETE };
        let answer = scene.send(method, "heart").await.expect(202);
        assert_eq!(
            (&answer.body["promise"], answer.body["reacted"].as_bool()),
            (&json!("redis"), Some(reaction % 2 == 0))
        );
    }
    until("they are flushed", async || system.sql("select count(*) from reactions where is_on") == "1").await;
    let mut redis = system.redis.connect().await;
    let charged = format!("rate_limit:reactions:{{{}}}", scene.ada.user);
    let charged: usize = redis::cmd("ZCARD").arg(charged).query_async(&mut redis).await.unwrap();
    assert_eq!(charged, REACTIONS);
    let errors: String = redis::cmd("INFO").arg("errorstats").query_async(&mut redis).await.unwrap();
    assert!(errors.contains("errorstat_CROSSSLOT:count=1\r"), "the edge asks once: {errors}");
}

/// Postgres has changed since each copy was read, and nobody told this Redis of it; but the copy is of an epoch that is over.
#[tokio::test(flavor = "multi_thread")]
async fn copies_of_another_epoch_admit_no_reaction() {
    let system = System::start().await;
    let scene = Scene::new(&system).await;
    let (ada, circle) = (&scene.ada, &scene.circle);
    let heart = format!("{}/reactions/heart", scene.path);
    scene.send(Method::PUT, "heart").await.expect(202);
    let mut redis = system.redis.connect().await;
    let mut members = Vec::new();
    for name in ["Bo", "Cy", "Di"] {
        let member = system.register(name).await;
        member.join(circle, ada).await;
        member.get(&scene.path).await.expect(200);
        // Its reaction is made in Redis: all copies are there.
        assert_eq!(member.send(Method::PUT, &heart, &[], None).await.expect(202).body["promise"], "redis");
        members.push(member);
    }
    let [bo, cy, di] = &members[..] else { panic!("three") };
    let gone = format!("delete from memberships where user_id = '{}'", bo.user);
    let over = format!("update sessions set revoked_at = now() where id = '{}'", cy.session);
    let archived = format!("update circles set archived_at = now() where id = '{circle}'");
    for (member, change, copy, status) in [
        (bo, gone, format!("membership:{{{}}}:{circle}", bo.user), 404),
        (cy, over, format!("session:{{{}}}:{}", cy.user, cy.session), 401),
        (di, archived, format!("circle:{{{}}}:{circle}:access", scene.partition()), 409),
    ] {
        system.sql(&change);
        let mut other_epoch = redis::cmd("SETRANGE");
        let length: i64 = other_epoch.arg(&copy).arg(1).arg("f").query_async(&mut redis).await.unwrap();
        assert!(length > 62, "{copy} was there");
        let answer = member.send(Method::DELETE, &heart, &[], None).await;
        assert_eq!(answer.status, status, "{copy}: {}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_and_still_in_the_stream_counts_once() {
    let system = System::start().await;
    let scene = Scene::new(&system).await;
    system.origins[0].arm("flush.committed", "pause", 20_000, 1).await;
    scene.send(Method::PUT, "heart").await.expect(202);
    until("it is in Postgres", async || system.sql("select count(*) from reactions where is_on") == "1")
        .await;
    scene.forget(&system).await;
    let read = scene.ada.get(&scene.path).await.expect(200);
    assert_eq!(read.body["reactions"], json!({"heart": 1}));
    system.origins[0].release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_cannot_be_applied_is_set_aside_and_the_rest_goes_on() {
    let system = System::start().await;
    let scene = Scene::new(&system).await;
    scene.send(Method::PUT, "heart").await.expect(202);
    // One entry cannot be parsed, and Postgres refuses another.
    system.sql("alter table reactions add constraint no_hugs check (kind <> 2)");
    scene.append(&system, &["garbage".to_owned()]).await;
    scene.send(Method::PUT, "hug").await.expect(202);
    scene.send(Method::PUT, "thanks").await.expect(202);
    let kinds = "select coalesce(string_agg(kind::text, ',' order by kind), '') from reactions where is_on";
    until("the others are flushed", async || system.sql(kinds) == "1,6").await;
    let aside = system.sql("select reason from writes_set_aside order by reason");
    assert_eq!(aside.lines().collect::<Vec<_>>(), ["it is not understood", "postgres refuses it"]);
    let metrics = reqwest::get(format!("{}/metrics", system.origins[0].internal)).await.unwrap();
    assert!(metrics.text().await.unwrap().contains("optimist_writes_set_aside_total 2"));
    assert!(system.origins[0].log().contains("a write was set aside"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_defect_of_ours_sets_no_entry_aside() {
    let system = System::start().await;
    let scene = Scene::new(&system).await;
    scene.send(Method::PUT, "heart").await.expect(202);
    let applied = "select coalesce(string_agg(kind::text, ',' order by kind), '') from reactions where is_on";
    until("one is flushed", async || system.sql(applied) == "1").await;
    // As if a release were deployed before its migration.
    system.sql("alter table reactions rename column reacted_at to made_at");
    scene.send(Method::PUT, "hug").await.expect(202);
    let failures = || system.origins[0].log().matches("reacted_at").count();
    until("a flush has failed", async || failures() > 0).await;
    // It is tried again each half second, not at once and again.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(failures() < 40, "{} failures in two seconds", failures());
    system.sql("alter table reactions rename column made_at to reacted_at");
    until("the entry is applied", async || system.sql(applied) == "1,2").await;
    assert_eq!(system.sql("select count(*) from writes_set_aside"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_are_refused_cost_no_other_its_place_whoever_flushes() {
    const EACH: usize = 30;
    let system = System::with(Options { origins: 2, ..Options::default() }).await;
    let scene = Scene::new(&system).await;
    scene.send(Method::PUT, "heart").await.expect(202);
    system.sql("alter table reactions add constraint no_hugs check (kind <> 2)");
    let (ada, circle) = (&scene.ada.user, &scene.circle);
    let mut entries = Vec::new();
    let messages = system.sql(&format!(
        "insert into messages (id, circle_id, number, author_id, body)
         select id_at(next_place(null, 1) + n), '{circle}', 100 + n, '{ada}', 'Hello.' from generate_series(1, {EACH}) n returning id"
    ));
    for message in messages.lines() {
        entries.extend([2, 1].map(|kind| format!("{ada} {circle} {message} {kind} 1")));
    }
    scene.append(&system, &entries).await;
    until("all are dealt with", async || {
        let dealt = "select (select count(*) from reactions) + (select count(*) from writes_set_aside)";
        system.sql(dealt) == (2 * EACH + 1).to_string()
    })
    .await;
    assert_eq!(system.sql("select count(*) from reactions where is_on and kind = 1"), (EACH + 1).to_string());
    let refused = "select count(*) from writes_set_aside where entry like '% 2 1'";
    assert_eq!(system.sql(refused), EACH.to_string());
    // Each is counted by the origin that set it aside.
    let mut counted = 0;
    for origin in &system.origins {
        let metrics =
            reqwest::get(format!("{}/metrics", origin.internal)).await.unwrap().text().await.unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix("optimist_writes_set_aside_total "));
        counted += line.map_or(0, |number| number.parse().unwrap());
    }
    assert_eq!(counted, EACH);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_missed_its_beats_does_not_turn_the_region_off() {
    let system = System::with(Options { origins: 2, ..Options::default() }).await;
    let other_edge = system.edge_before(Kind::Embedded, &system.origins[1].api);
    let scene = Scene::new(&system).await;
    let draft = uuid::Uuid::now_v7();
    let body = json!({"body": "Dear", "base_version": null}).to_string().into_bytes();
    let drafts = format!("/v1/journal/drafts/{draft}");
    scene.ada.send(Method::PUT, &drafts, &[], Some(body)).await.expect(200);
    let states = "select state || ' ' || epoch from regions where name = 'test'";
    let before = system.sql(states);
    let passes = system.origins[1].passes("relay.row").await;
    system.origins[1].arm("relay.row", "pause", 4_000, 1).await;
    system.origins[1].wait_for_passes("relay.row", passes + 1).await;
    // Its own vouching has lapsed by now; the first origin's has not.
    tokio::time::sleep(Duration::from_millis(3_200)).await;
    let at_other = scene.ada.at(&other_edge.url);
    let answer = at_other.send(Method::PUT, &format!("{}/reactions/heart", scene.path), &[], None).await;
    assert_eq!(answer.expect(202).body["promise"], "redis");
    assert_eq!(system.sql(states), before);
    // The same holds for the final save of a draft.
    let passes = system.origins[1].passes("relay.row").await;
    system.origins[1].arm("relay.row", "pause", 4_000, 1).await;
    system.origins[1].wait_for_passes("relay.row", passes + 1).await;
    tokio::time::sleep(Duration::from_millis(3_200)).await;
    at_other.post("/v1/journal/entries", json!({"draft_id": draft, "body": "Dear."})).await.expect(201);
    at_other.get(&drafts).await.expect(404);
    assert_eq!(system.sql(states), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn ones_own_reactions_are_known_wherever_they_are() {
    let system = System::start().await;
    let scene = Scene::new(&system).await;
    let message = scene.path.rsplit('/').next().unwrap().to_owned();
    let mine = async || {
        let path = format!("/v1/circles/{}/reactions/mine?messages={message}", scene.circle);
        scene.ada.get(&path).await.expect(200).body["items"][0]["kinds"].clone()
    };
    scene.send(Method::PUT, "heart").await.expect(202);
    scene.send(Method::PUT, "laugh").await.expect(202);
    until("they are flushed", async || system.sql("select count(*) from reactions where is_on") == "2").await;
    // Two more intents wait in the stream.
    system.origins[0].arm("flush.read", "pause", 60_000, 1).await;
    let passes = system.origins[0].passes("flush.read").await;
    scene.send(Method::PUT, "hug").await.expect(202);
    scene.send(Method::DELETE, "heart").await.expect(202);
    until("the flusher is held", async || system.origins[0].passes("flush.read").await > passes).await;
    let expected = json!(["hug", "laugh"]);
    assert_eq!(mine().await, expected, "in the message's state");
    scene.forget(&system).await;
    assert_eq!(mine().await, expected, "in Postgres and the stream");
    system.origins[0].arm("flush.read", "pause", 0, 0).await;
    system.origins[0].release().await;
    let on = "select count(*) || ' ' || bool_or(kind = 1) from reactions where is_on";
    until("they are flushed", async || system.sql(on) == "2 false").await;
    assert_eq!(mine().await, expected, "in Postgres");
    system.origin_to_redis.cut();
    assert_eq!(mine().await, expected, "without Redis");
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_streams_bound_a_reaction_waits_for_postgres() {
    let system = System::start().await;
    let scene = Scene::new(&system).await;
    scene.send(Method::PUT, "heart").await.expect(202);
    // Hold the flusher; entries about nothing fill the stream.
    system.origins[0].arm("flush.read", "pause", 60_000, 1).await;
    let nothing = uuid::Uuid::new_v4();
    scene.append(&system, &vec![format!("{nothing} {} {nothing} 1 1", scene.circle); 10_000]).await;
    until("the flusher is held", async || system.origins[0].passes("flush.read").await >= 1).await;
    let answer = scene.send(Method::PUT, "hug").await.expect(202);
    assert_eq!(answer.body["promise"], "postgres");
    assert_eq!(answer.body["counts"], json!({"heart": 1, "hug": 1}));
    assert_eq!(system.sql("select count(*) from reactions where is_on"), "2");
    system.origins[0].release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_through_is_newer_than_what_a_stream_still_holds() {
    let mut system = System::start().await;
    let scene = Scene::new(&system).await;
    scene.send(Method::PUT, "heart").await.expect(202);
    until("it is flushed", async || system.sql("select count(*) from reactions where is_on") == "1").await;
    // Another reaction stays unflushed, and then the origin loses Redis.
    system.origins[0].arm("flush.read", "pause", 60_000, 1).await;
    scene.send(Method::PUT, "hug").await.expect(202);
    until("the flusher is held", async || system.origins[0].passes("flush.read").await >= 2).await;
    system.origin_to_redis.cut();
    until("nobody vouches any more", async || {
        system.forget_limits_of(&scene.ada).await;
        let answer = scene.send(Method::PUT, "laugh").await;
        answer.status == 202 && answer.body["promise"] == "postgres"
    })
    .await;
    let answer = scene.send(Method::DELETE, "hug").await.expect(202);
    assert_eq!(answer.body["promise"], "postgres");
    system.origin_to_redis.send_to(&format!("127.0.0.1:{}", system.redis.port));
    system.origins[0].release().await;
    until("Redis takes reactions again", async || {
        system.forget_limits_of(&scene.ada).await;
        scene.send(Method::PUT, "thanks").await.body["promise"] == "redis"
    })
    .await;
    let read = scene.ada.get(&scene.path).await.expect(200);
    assert_eq!(read.body["reactions"], json!({"heart": 1, "laugh": 1, "thanks": 1}));
    let kinds = "select string_agg(kind::text, ',' order by kind) from reactions where is_on";
    until("all is flushed", async || system.sql(kinds) == "1,5,6").await;
    // The origin is killed: it keeps no state in memory that matters.
    system.origins[0].kill();
    system.replace_origin(0);
    let read = scene.ada.get(&scene.path).await.expect(200);
    assert_eq!(read.body["reactions"], json!({"heart": 1, "laugh": 1, "thanks": 1}));
}

#[tokio::test(flavor = "multi_thread")]
async fn flushed_reactions_survive_an_emptied_redis() {
    let system = System::start().await;
    let scene = Scene::new(&system).await;
    scene.send(Method::PUT, "heart").await.expect(202);
    until("it is flushed", async || system.sql("select count(*) from reactions where is_on") == "1").await;
    let mut redis = system.redis.connect().await;
    let _: () = redis::cmd("FLUSHALL").query_async(&mut redis).await.unwrap();
    until("it is seen again", async || {
        let read = scene.ada.get(&scene.path).await;
        read.status == 200 && read.body["reactions"] == json!({"heart": 1})
    })
    .await;
    let answer = scene.send(Method::PUT, "hug").await.expect(202);
    assert_eq!(answer.body["counts"], json!({"heart": 1, "hug": 1}));
    until("both are in Postgres", async || system.sql("select sum(count) from reaction_counts") == "2").await;
}

/// Between the snapshot and its installation, entries are flushed and trimmed, or the message is deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_installation_brings_nothing_old_back() {
    let system = System::with(Options { origins: 2, ..Options::default() }).await;
    let other_edge = system.edge_before(Kind::Embedded, &system.origins[1].api);
    let scene = Scene::new(&system).await;
    let bo = system.register("Bo").await;
    bo.join(&scene.circle, &scene.ada).await;
    let heart = format!("{}/reactions/heart", scene.path);
    scene.send(Method::PUT, "heart").await.expect(202);
    until("it is flushed", async || system.sql("select count(*) from reactions where is_on") == "1").await;
    // The first origin reads the state anew, and installs it late.
    scene.forget(&system).await;
    let passes = system.origins[0].passes("install.read").await;
    system.origins[0].arm("install.read", "pause", 4_000, 1).await;
    let late = tokio::spawn({
        let (bo, heart) = (bo.clone(), heart.clone());
        async move { bo.send(Method::PUT, &heart, &[], None).await }
    });
    system.origins[0].wait_for_passes("install.read", passes + 1).await;
    // Meanwhile at the other origin, once the first's lease has lapsed: taken back, flushed, trimmed, forgotten.
    let at_other = scene.ada.at(&other_edge.url);
    at_other.delete(&heart).await.expect(202);
    until("it is taken back", async || system.sql("select count(*) from reactions where is_on") == "0").await;
    scene.forget(&system).await;
    assert_eq!(late.await.unwrap().expect(202).body["counts"], json!({"heart": 1}), "Bo's alone");
    until("it is flushed", async || system.sql("select sum(count) from reaction_counts") == "1").await;
    // The same, with the message deleted meanwhile.
    scene.forget(&system).await;
    let passes = system.origins[0].passes("install.read").await;
    system.origins[0].arm("install.read", "pause", 1_500, 1).await;
    let late = tokio::spawn(async move { bo.send(Method::PUT, &heart, &[], None).await });
    system.origins[0].wait_for_passes("install.read", passes + 1).await;
    at_other.delete(&scene.path).await.expect(204);
    late.await.unwrap().expect(404);
}
