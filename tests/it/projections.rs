//! Projections are written once: whichever origin dies meanwhile, however many members are notified, and whatever
//! fails.

use std::time::{Duration, Instant};

use optimist_tests::proxy::Mode;
use optimist_tests::{Options, System, until};
use serde_json::Value;

/// The number of users whose unread count differs from their rows.
const COUNTS_ARE_RIGHT: &str =
    "select count(*) from users left join notification_counts c on c.user_id = users.id
    where coalesce(c.unread, 0)
        <> (select count(*) from notifications n
            where n.user_id = users.id and n.read_at is null and n.place > c.read_through)
      or coalesce(c.held, 0) <> (select count(*) from notifications n where n.user_id = users.id)";

#[tokio::test(flavor = "multi_thread")]
async fn origins_that_die_over_it_tell_everyone_once() {
    const MESSAGES: usize = 40;
    let mut system = System::with(Options { origins: 2, ..Options::default() }).await;
    let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
    let circle = ada.create_circle("private").await;
    bo.join(&circle, &ada).await;
    for number in 0..MESSAGES {
        if number % 10 == 0 {
            system.forget_limits_of(&ada).await;
            system.origins[1].arm("projections.done", "abort", 0, 1).await;
        }
        ada.say(&circle, &format!("{number}")).await;
        if number % 10 == 9 {
            let deadline = optimist_tests::patience();
            // Either origin may take a turn: sooner or later the second does.
            while system.origins[1].is_running() {
                assert!(Instant::now() < deadline, "the second origin is never at it");
                system.forget_limits_of(&ada).await;
                ada.patch("/v1/me", serde_json::json!({"bio": "Again."})).await.expect(200);
            }
            system.replace_origin(1);
            system.to_origin.send_to(optimist_tests::system::address(&system.origins[0].api));
        }
    }
    let told =
        format!("select count(*) from notifications where user_id = '{}' and kind = 'message'", bo.user);
    until("everything is told", async || system.sql(&told) == MESSAGES.to_string()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(system.sql(&told), MESSAGES.to_string(), "once");
    let unread = bo.get("/v1/notifications/unread-count").await.expect(200);
    assert_eq!(unread.body["unread"], MESSAGES);
    assert_eq!(system.sql(COUNTS_ARE_RIGHT), "0");
    assert_eq!(system.sql("select sum(posts) from activity"), MESSAGES.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_defect_of_ours_skips_no_consequence() {
    let system = System::start().await;
    let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
    let circle = ada.create_circle("private").await;
    bo.join(&circle, &ada).await;
    // As if a release were deployed before its migration.
    system.sql("alter table notifications rename column actor_id to made_by");
    for number in 0..3 {
        ada.say(&circle, &format!("{number}")).await;
    }
    let failures = || system.origins[0].log().matches("actor_id").count();
    until("a pass has failed", async || failures() > 0).await;
    // The next pass waits: it would only fail again.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(failures() < 10, "{} failures in two seconds", failures());
    system.sql("alter table notifications rename column made_by to actor_id");
    until("all is told", async || system.sql("select count(*) from notifications") == "3").await;
    assert_eq!(system.sql("select sum(posts) from activity"), "3");
    assert_eq!(system.sql(COUNTS_ARE_RIGHT), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_postgres_refuses_to_follow_is_reported_and_the_rest_goes_on() {
    let system = System::start().await;
    let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
    let circle = ada.create_circle("private").await;
    bo.join(&circle, &ada).await;
    system.sql("alter table activity add constraint refused check (posts < 2)");
    for text in ["One", "Two", "Three"] {
        ada.say(&circle, text).await;
    }
    bo.say(&circle, "Mine").await;
    until("what can be told is told", async || {
        let unread = ada.get("/v1/notifications/unread-count").await.expect(200);
        unread.body["unread"] == 1
    })
    .await;
    assert!(system.origins[0].log().contains("nothing follows from an event"));
    let list = bo.get("/v1/notifications").await.expect(200);
    assert_eq!(
        list.body["items"].as_array().map(Vec::len),
        Some(1),
        "the first, before those that are refused"
    );
    assert_eq!(list.body["items"][0]["read"], Value::Bool(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_refused_costs_no_other_its_consequences_whoever_is_at_it() {
    const EACH: usize = 60;
    let system = System::with(Options { origins: 2, ..Options::default() }).await;
    let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
    let circle = ada.create_circle("private").await;
    bo.join(&circle, &ada).await;
    // Ada's messages notify nobody, because Postgres refuses; Bo's notify Ada.
    system.sql(&format!(
        "alter table notifications add constraint refused check (kind <> 'message' or actor_id <> '{}')",
        ada.user
    ));
    let mut sql = String::new();
    for number in 0..EACH {
        for (place, author) in [(1, &ada.user), (2, &bo.user)] {
            let (message, number) = (uuid::Uuid::now_v7(), 2 * number + place);
            sql.push_str(&format!(
                "insert into messages (id, circle_id, number, author_id, body)
                 values ('{message}', '{circle}', {number}, '{author}', 'Hello.');
                 insert into outbox (region, actor, request_id, keys, kind, payload)
                 values ('test', '{author}', 'test', '{{}}', 'message.posted',
                         '{{\"circle\": \"{circle}\", \"message\": \"{message}\"}}');"
            ));
        }
    }
    system.sql(&sql);
    let skipped = || {
        let logs = String::from_utf8_lossy(&system.logs()).into_owned();
        logs.matches("nothing follows from an event").count()
    };
    until("all are dealt with", async || {
        system.sql("select count(*) from notifications where kind = 'message'") == EACH.to_string()
            && skipped() == EACH
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(skipped(), EACH, "those that are refused, each once");
    assert_eq!(system.sql(COUNTS_ARE_RIGHT), "0");
}

/// Work that exceeds one transaction's time is split over several.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_at_once_is_done_in_parts() {
    const MESSAGES: usize = 60;
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let circle = ada.create_circle("private").await;
    // More than twenty posts in one transaction fail like a statement that times out.
    system.sql(
        "create function hurry() returns trigger language plpgsql as $$
         declare posts int := coalesce(nullif(current_setting('test.posts', true), ''), '0')::int + 1;
         begin
             perform set_config('test.posts', posts::text, true);
             if posts > 20 then raise exception 'too slow' using errcode = '57014'; end if;
             return new;
         end $$;
         create trigger hurry before insert on activity for each row execute function hurry()",
    );
    let rows: String = (0..MESSAGES)
        .map(|_| {
            format!(
                "insert into outbox (region, actor, request_id, keys, kind, payload)
                 values ('test', '{}', 'test', '{{}}', 'message.posted', '{{\"circle\": \"{circle}\"}}');",
                ada.user
            )
        })
        .collect();
    system.sql(&format!("begin; {rows} commit"));
    until("all are counted", async || system.sql("select sum(posts) from activity") == MESSAGES.to_string())
        .await;
}

/// Kinds that alternate are handled event by event: a transaction ends before its time is over, and keeps what it has done.
#[tokio::test(flavor = "multi_thread")]
async fn many_trips_are_no_work_done_in_vain() {
    const EVENTS: usize = 60;
    let system = System::with(Options { paths: true, ..Options::default() }).await;
    let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
    let circle = ada.create_circle("private").await;
    bo.join(&circle, &ada).await;
    let of_kind = |kind: &str| {
        format!(
            "insert into outbox (region, actor, request_id, keys, kind, payload)
             values ('test', '{}', 'test', '{{}}', '{kind}', '{{\"circle\": \"{circle}\", \"user\": \"{}\", \"role\": \"moderator\"}}');",
            ada.user, bo.user
        )
    };
    let rows = (of_kind("message.posted") + &of_kind("member.role")).repeat(EVENTS / 2);
    for proxy in &system.paths.as_ref().expect("paths").origin_to_postgres {
        proxy.set(Mode::Delayed(Duration::from_millis(5)));
    }
    system.sql(&format!("begin; {rows} commit"));
    let all = (EVENTS / 2).to_string();
    until("all are counted", async || system.sql("select sum(posts) from activity") == all).await;
    let logs = String::from_utf8_lossy(&system.logs()).into_owned();
    assert!(!logs.contains("a transaction's time is over"), "work is done again and again");
}
