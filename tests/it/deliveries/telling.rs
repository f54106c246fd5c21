//! Who is told of a message: everyone in a small circle, whom it names in a large one; not more than so much; and no circle's size
//! delays another's.

use super::*;
use optimist_tests::until;

/// As many further members.
fn crowd(system: &System, circle: &str, count: usize) {
    system.sql(&format!(
        "insert into users (id, email, password_hash, name, home_region)
         select gen_random_uuid(), '{circle}' || n || '@example.org', '', 'Crowd', 'test' from generate_series(1, {count}) n;
         insert into memberships (circle_id, user_id, role)
         select '{circle}', id, 'member' from users where email like '{circle}%';
         update circles set member_count = (
             select count(*) from memberships where circle_id = id and role <> 'banned') where id = '{circle}'"
    ));
}

async fn kinds(client: &Client) -> Vec<(String, i64)> {
    let list = client.get("/v1/notifications?limit=100").await.expect(200);
    let items = list.body["items"].as_array().unwrap().iter();
    items.map(|item| (item["kind"].as_str().unwrap().to_owned(), item["others"].as_i64().unwrap())).collect()
}

async fn unread(client: &Client) -> u64 {
    client.get("/v1/notifications/unread-count").await.expect(200).body["unread"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_circle_is_told_where_a_message_names_one() {
    let system = System::start().await;
    let pair = Pair::new(&system).await;
    let cy = system.register("Cy").await;
    crowd(&system, &pair.circle, 198);
    pair.say().await;
    until("all 200 are told", async || system.sql("select count(*) from notifications") == "199").await;
    crowd_one_more(&system, &pair.circle);
    pair.say().await;
    // Named in upper case, twice, by an id that is none, and someone who is no member.
    let text = format!(
        "Hello <@{}>, <@{0}>, <@{}>, <@{}>, <@nobody>.",
        pair.bo.user.to_uppercase(),
        cy.user,
        uuid::Uuid::now_v7()
    );
    let named = pair.ada.say(&pair.circle, &text).await;
    until("who is named is told", async || unread(&pair.bo).await == 2).await;
    let list = pair.bo.get("/v1/notifications").await.expect(200);
    assert_eq!(
        (&list.body["items"][0]["kind"], &list.body["items"][0]["message_id"]),
        (&json!("mention"), &json!(named))
    );
    assert_eq!(system.sql("select count(*) from notifications"), "200", "nobody else");
    assert_eq!(unread(&cy).await, 0);
    // In a small circle who is named is told of that, and the others of a message.
    let small = pair.ada.create_circle("private").await;
    pair.bo.join(&small, &pair.ada).await;
    cy.join(&small, &pair.ada).await;
    pair.ada.say(&small, &format!("<@{}>", cy.user)).await;
    until("both are told", async || unread(&pair.bo).await == 3 && unread(&cy).await == 1).await;
    assert_eq!((kinds(&pair.bo).await[0].0.as_str(), kinds(&cy).await[0].0.as_str()), ("message", "mention"));
}

fn crowd_one_more(system: &System, circle: &str) {
    system.sql(&format!(
        "with one as (
             insert into users (id, email, password_hash, name, home_region)
             values (gen_random_uuid(), 'one@example.org', '', 'One', 'test') returning id),
         member as (insert into memberships (circle_id, user_id, role) select '{circle}', id, 'member' from one)
         update circles set member_count = 201 where id = '{circle}'"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_sixty_in_ten_minutes_one_notification_counts_the_rest() {
    let system = System::with(hurried()).await;
    let pair = Pair::new(&system).await;
    let receiver = Receiver::start("127.0.0.2").await;
    webhook(&pair.bo, &receiver, "ok/hook").await;
    for _ in 0..75 {
        system.forget_limits_of(&pair.ada).await;
        pair.say().await;
    }
    let more = async || {
        kinds(&pair.bo)
            .await
            .iter()
            .filter(|(kind, _)| kind == "more")
            .map(|(_, others)| *others)
            .sum::<i64>()
    };
    until("the rest is counted", async || more().await == 14i64).await;
    assert_eq!(unread(&pair.bo).await, 61);
    // What is read is not sent any more.
    let told =
        || receiver.received("/ok/hook").iter().filter(|one| one.json()["data"]["kind"] == "message").count();
    until("those told are delivered", async || told() == 60).await;
    // Once read, the next begins another.
    pair.bo.post("/v1/notifications/read", Value::Null).await.expect(200);
    system.forget_limits_of(&pair.ada).await;
    pair.say().await;
    until("another begins", async || unread(&pair.bo).await == 1).await;
    assert_eq!(kinds(&pair.bo).await.iter().filter(|(kind, _)| kind == "more").count(), 2);
    // When the ten minutes are over, one is told again; but of no more than 500 a day.
    let later = |daily: i32| {
        system.sql(&format!(
            "update notification_counts set burst_at = now() - interval '11 minutes', daily = {daily} where user_id = '{}'",
            pair.bo.user
        ))
    };
    later(499);
    for expected in [2, 2] {
        system.forget_limits_of(&pair.ada).await;
        pair.say().await;
        until("the five hundredth", async || unread(&pair.bo).await == expected).await;
    }
    until("it is counted", async || {
        system.sql("select max(actors) from notifications where kind = 'more' and read_at is null and place > (select read_through from notification_counts c where c.user_id = notifications.user_id)") == "2"
    })
    .await;
    until("the five hundredth is delivered", async || told() == 61).await;
    assert_eq!(system.sql("select max(burst) from notification_counts"), "1");
}

/// A message of a circle with so many members is deleted, while another circle goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_event_delays_no_other_circle() {
    let system = System::start().await;
    let pair = Pair::new(&system).await;
    let large = pair.ada.create_circle("public").await;
    crowd(&system, &large, 20_000);
    let message = pair.ada.say(&large, "Everyone.").await;
    // As if all had been told, in a smaller circle.
    system.sql(&format!(
        "insert into notifications (user_id, month, id, kind, circle_id, message_id, place, created_at, updated_at)
         select user_id, id_month('{message}'), '{message}', 'message', '{large}', '{message}', 1, now(), now()
         from memberships where circle_id = '{large}' and user_id <> '{0}';
         insert into notification_counts (user_id, unread, held, last_place)
         select user_id, 1, 1, 1 from notifications where id = '{message}'",
        pair.ada.user
    ));
    // Each part takes a tenth of a second: two seconds together.
    system.sql(
        "create function dawdle() returns trigger language plpgsql as $$ begin perform pg_sleep(0.1); return null; end $$;
         create trigger dawdle after delete on notifications for each statement execute function dawdle()",
    );
    pair.ada.delete(&format!("/v1/circles/{large}/messages/{message}")).await.expect(204);
    let left = || system.sql(&format!("select count(*) from notifications where id = '{message}'"));
    until("it is begun", async || left() != "20000").await;
    pair.say().await;
    until("the small circle is told", async || unread(&pair.bo).await == 1).await;
    let when_told: usize = left().parse().unwrap();
    assert!(when_told > 5_000, "only {when_told} were left: the small circle has waited");
    until("all is removed", async || left() == "0").await;
    until("nothing is left aside", async || system.sql("select count(*) from events_set_aside") == "0").await;
    assert_eq!(system.sql("select sum(unread) from notification_counts c join users u on u.id = c.user_id where u.name = 'Crowd'"), "0");
}
