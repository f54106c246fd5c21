//! One account's amount of anything, and its locks, cost nobody else anything: what belongs to a person is bounded, and what
//! fails for one is left out for the others.

use optimist_tests::system::TOLD_CIRCLES;
use optimist_tests::{Client, System, until};
use reqwest::Method;
use serde_json::{Value, json};

/// A circle of Ada's that Bo is in.
async fn pair(system: &System) -> (Client, Client, String) {
    let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
    let circle = ada.create_circle("private").await;
    bo.join(&circle, &ada).await;
    (ada, bo, circle)
}

/// Messages of an author, as many as their limits allow in days.
fn post_many(system: &System, author: &Client, circle: &str, count: usize) {
    system.sql(&format!(
        "with posted as (
             insert into messages (id, circle_id, number, author_id, body)
             select id_at(next_place(last_id, 1) + n), id, last_number + n, '{0}', 'Hello.' from circles, generate_series(1, {count}) n
             where id = '{circle}' returning id)
         insert into outbox (region, actor, request_id, keys, kind, payload)
         select 'test', '{0}', 'test', '{{}}', 'message.posted', jsonb_build_object('circle', '{circle}', 'message', id)
         from posted;
         update circles set last_number = last_number + {count} where id = '{circle}';
         {TOLD_CIRCLES}",
        author.user
    ));
}

fn number(system: &System, sql: &str) -> u64 {
    system.sql(sql).parse().unwrap()
}

/// As the API shows it.
async fn unread(client: &Client) -> u64 {
    client.get("/v1/notifications/unread-count").await.expect(200).body["unread"].as_u64().unwrap()
}

/// Waits until this many of the person's notifications are unread, without using up their limits.
async fn told(system: &System, client: &Client, wanted: u64) {
    let sql = format!(
        "select coalesce((select unread from notification_counts where user_id = '{}'), 0)",
        client.user
    );
    until("all are told", async || number(system, &sql) == wanted).await;
    assert_eq!(unread(client).await, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_keeps_more_than_a_thousand_notifications() {
    let system = System::start().await;
    let (ada, bo, circle) = pair(&system).await;
    // Of days: nobody is told of so many at once.
    system.sql(
        "create or replace function may_tell(burst integer, burst_at timestamptz, daily integer, daily_at timestamptz, wanted integer,
             moment timestamptz)
         returns integer language sql immutable parallel safe return wanted",
    );
    let first = ada.say(&circle, "The first.").await;
    told(&system, &bo, 1).await;
    let held = format!("select count(*) from notifications where user_id = '{}'", bo.user);
    let place = format!("select last_place from notification_counts where user_id = '{}'", bo.user);
    for batch in 1..=28 {
        post_many(&system, &ada, &circle, 50);
        until("all are told", async || number(&system, &place) == 50 * batch + 1).await;
    }
    assert_eq!((number(&system, &held), unread(&bo).await), (1000, 1000));
    let is_gone = format!("select count(*) from notifications where message_id = '{first}'");
    assert_eq!(system.sql(&is_gone), "0", "the oldest go");
    let answer = bo.post("/v1/notifications/read", Value::Null).await.expect(200);
    assert_eq!(answer.body, json!({"unread": 0}));
    assert!(bo.get("/v1/notifications").await.expect(200).body["items"][0]["read"].as_bool().unwrap());
    post_many(&system, &ada, &circle, 10);
    told(&system, &bo, 10).await;
    assert_eq!(number(&system, &held), 1000, "read ones go first");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_a_role_are_one_notification_until_it_is_read() {
    let system = System::start().await;
    let (ada, bo, circle) = pair(&system).await;
    let member = format!("/v1/circles/{circle}/members/{}", bo.user);
    let toggle = async |times: usize| {
        for time in 0..times {
            let role = if time % 2 == 0 { "moderator" } else { "member" };
            ada.patch(&member, json!({"role": role})).await.expect(200);
        }
    };
    toggle(9).await;
    let told = "select (select (xid, seq) from projections)
        >= (select (xid, seq) from outbox where kind = 'member.role' order by xid desc, seq desc limit 1)";
    let roles = async || {
        until("the changes are told", async || system.sql(told) == "t").await;
        let list = bo.get("/v1/notifications").await.expect(200);
        let items = list.body["items"].as_array().unwrap();
        items.iter().map(|item| item["role"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((roles().await, unread(&bo).await), (vec!["moderator".to_owned()], 1));
    bo.post("/v1/notifications/read", Value::Null).await.expect(200);
    ada.patch(&member, json!({"role": "member"})).await.expect(200);
    toggle(4).await;
    assert_eq!((roles().await, unread(&bo).await), (vec!["member".to_owned(), "moderator".to_owned()], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_message_leaves_no_notification() {
    let system = System::start().await;
    let (ada, bo, circle) = pair(&system).await;
    let cy = system.register("Cy").await;
    cy.join(&circle, &ada).await;
    let message = ada.say(&circle, "Never mind.").await;
    let kept = ada.say(&circle, "This stays.").await;
    let path = format!("/v1/circles/{circle}/messages/{message}");
    for client in [&bo, &cy] {
        client.send(Method::PUT, &format!("{path}/reactions/hug"), &[], None).await.expect(202);
    }
    for (client, wanted) in [(&ada, 1), (&bo, 2), (&cy, 2)] {
        told(&system, client, wanted).await;
    }
    // One of them has read it.
    bo.post("/v1/notifications/read", Value::Null).await.expect(200);
    ada.delete(&path).await.expect(204);
    for (client, wanted) in [(&ada, 0), (&bo, 0), (&cy, 1)] {
        told(&system, client, wanted).await;
    }
    for client in [&bo, &cy] {
        let list = client.get("/v1/notifications").await.expect(200);
        let items = list.body["items"].as_array().unwrap();
        assert_eq!((items.len(), &items[0]["message_id"]), (1, &json!(kept)));
    }
    assert_eq!(system.sql("select count(*) from notifications where kind = 'reaction'"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_slow_for_one_person_stops_no_other() {
    let system = System::start().await;
    let (ada, bo, circle) = pair(&system).await;
    let (cy, dee, other) = pair(&system).await;
    let (mine, theirs) = (bo.say(&circle, "Mine.").await, dee.say(&other, "Theirs.").await);
    told(&system, &ada, 1).await;
    told(&system, &cy, 1).await;
    // Whatever is about Bo fails like a statement that times out.
    system.sql(&format!(
        "create function hurry() returns trigger language plpgsql as $$
         begin raise exception 'too slow' using errcode = '57014'; end $$;
         create trigger hurry before insert on notification_counts for each row
         when (new.user_id = '{}') execute function hurry()",
        bo.user
    ));
    // First what fails, then what does not.
    for (client, circle, message) in [(&ada, &circle, &mine), (&cy, &other, &theirs)] {
        client.say(circle, "Hello.").await;
        let path = format!("/v1/circles/{circle}/messages/{message}/reactions/hug");
        client.send(Method::PUT, &path, &[], None).await.expect(202);
    }
    told(&system, &dee, 2).await;
    assert_eq!(unread(&bo).await, 0);
    until("the event is set aside", async || system.sql("select count(*) from events_set_aside") == "1")
        .await;
    system.sql("drop trigger hurry on notification_counts");
    system.sql(
        "update events_set_aside set tried_at = now() - interval '1 day'; update jobs set started_at = null",
    );
    told(&system, &bo, 2).await;
    assert_eq!(system.sql("select count(*) from events_set_aside"), "0");
}
