//! Who is told of comments, and whom messages name.

use std::time::{Duration, Instant};

use optimist_tests::Client;
use serde_json::{Value, json};

use super::{Cast, on_system};

/// Waits until a person's notifications, newest first, are these: kind, who, how many more, and what it is about.
async fn until_told(client: &Client, wanted: &[(&str, &str, u64, &str)]) {
    let deadline = optimist_tests::patience();
    loop {
        let list = client.get("/v1/notifications?limit=100").await.expect(200);
        let told = list.body["items"].as_array().unwrap().clone();
        let text =
            |item: &Value, at: &str| item.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let shown: Vec<_> = told
            .iter()
            .map(|item| {
                (
                    text(item, "/kind"),
                    text(item, "/actor/name"),
                    item["others"].as_u64().unwrap(),
                    text(item, "/message_id"),
                )
            })
            .collect();
        let is_so = shown
            .iter()
            .map(|(kind, who, others, about)| (kind.as_str(), who.as_str(), *others, about.as_str()));
        if is_so.eq(wanted.iter().copied()) {
            return;
        }
        assert!(Instant::now() < deadline, "told {shown:#?}, not {wanted:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Everyone has read what there was.
async fn forget_all(cast: &Cast) {
    let others = [&cast.owner, &cast.moderator];
    until_told(&cast.owner, &[("message", "Meg", 0, &cast.message)]).await;
    until_told(&cast.moderator, &[("message", "Meg", 0, &cast.message), ("role", "Owen", 0, "")]).await;
    for client in others {
        client.post("/v1/notifications/read", Value::Null).await.expect(200);
    }
}

async fn comment(client: &Client, thread: &str, body: &str) -> String {
    client.post(thread, json!({"body": body})).await.expect(201).text("/id")
}

#[test]
fn those_who_follow_a_thread_are_told_of_its_comments_once_until_they_read() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        forget_all(&cast).await;
        let before_owner = ("message", "Meg", 0, cast.message.as_str());
        let thread = cast.path(&format!("/messages/{}/comments", cast.message));
        let about = cast.message.as_str();
        // Its author is told, and nobody else: not even in a small circle, and not who comments.
        let first = comment(&cast.owner, &thread, "One.").await;
        until_told(&cast.member, &[("comment", "Owen", 0, about)]).await;
        let second = comment(&cast.moderator, &thread, "Two.").await;
        until_told(&cast.member, &[("comment", "Mo", 1, about)]).await;
        until_told(&cast.owner, &[("comment", "Mo", 0, about), before_owner]).await;
        let unread = cast.member.get("/v1/notifications/unread-count").await.expect(200);
        assert_eq!(unread.body["unread"], 1);
        // What is deleted is nobody's news; with the last one the notification goes.
        cast.moderator.delete(&cast.path(&format!("/messages/{second}"))).await.expect(204);
        until_told(&cast.member, &[("comment", "Mo", 0, about)]).await;
        until_told(&cast.owner, &[before_owner]).await;
        cast.owner.delete(&cast.path(&format!("/messages/{first}"))).await.expect(204);
        until_told(&cast.member, &[]).await;
        // After reading it is another one.
        comment(&cast.moderator, &thread, "Three.").await;
        until_told(&cast.member, &[("comment", "Mo", 0, about)]).await;
        cast.member.post("/v1/notifications/read", Value::Null).await.expect(200);
        comment(&cast.moderator, &thread, "Four.").await;
        until_told(&cast.member, &[("comment", "Mo", 0, about), ("comment", "Mo", 0, about)]).await;
        // Who leaves is told nothing more, whatever they followed.
        cast.owner.delete(&cast.path(&format!("/members/{}", cast.member.user))).await.expect(204);
        until_told(&cast.member, &[]).await;
        comment(&cast.moderator, &thread, "Five.").await;
        until_told(&cast.owner, &[("comment", "Mo", 2, about), before_owner]).await;
        until_told(&cast.member, &[]).await;
        let wrong = "select count(*) from notification_counts c where (unread, held) <> (
            select count(*) filter (where read_at is null and place > read_through), count(*)
            from notifications n where n.user_id = c.user_id) and user_id in ('{0}', '{1}', '{2}')";
        let wrong = wrong
            .replace("{0}", &cast.owner.user)
            .replace("{1}", &cast.member.user)
            .replace("{2}", &cast.moderator.user);
        assert_eq!(system.sql(&wrong), "0");
    });
}

#[test]
fn whom_a_comment_names_is_told_so_and_not_twice() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        forget_all(&cast).await;
        let thread = cast.path(&format!("/messages/{}/comments", cast.message));
        let body = format!("<@{}> and <@{}>, <@{}>", cast.member.user, cast.stranger.user, cast.banned.user);
        let named = comment(&cast.owner, &thread, &body).await;
        until_told(&cast.member, &[("mention", "Owen", 0, &named)]).await;
        for outsider in [&cast.stranger, &cast.banned, &cast.former] {
            until_told(outsider, &[]).await;
        }
        comment(&cast.owner, &thread, "And so on.").await;
        until_told(&cast.member, &[("comment", "Owen", 0, &cast.message), ("mention", "Owen", 0, &named)])
            .await;
        // The comment that named somebody is not among those that are counted.
        cast.owner.delete(&cast.path(&format!("/messages/{named}"))).await.expect(204);
        until_told(&cast.member, &[("comment", "Owen", 0, &cast.message)]).await;
        // Preferences decide, by kind.
        let preferences = "/v1/me/notification-preferences";
        let mut wanted = cast.member.get(preferences).await.expect(200).body;
        wanted["kinds"]["message"]["in_app"] = false.into();
        let body = Some(wanted.to_string().into_bytes());
        cast.member.send(reqwest::Method::PUT, preferences, &[], body).await.expect(200);
        cast.member.post("/v1/notifications/read", Value::Null).await.expect(200);
        comment(&cast.owner, &thread, "Not for everyone.").await;
        let last = comment(&cast.owner, &thread, &format!("<@{}>!", cast.member.user)).await;
        until_told(&cast.member, &[("mention", "Owen", 0, &last), ("comment", "Owen", 0, &cast.message)])
            .await;
    });
}

#[test]
fn a_message_tells_the_first_twenty_whom_it_names() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        forget_all(&cast).await;
        // Members by row: it would take long to register them.
        let ids: Vec<String> = (0..22).map(|_| uuid::Uuid::now_v7().to_string()).collect();
        for id in &ids {
            system.sql(&format!(
                "insert into users (id, email, password_hash, name, home_region) values ('{id}', '{id}@example.org', '', 'M', 'eu');
                 insert into memberships (circle_id, user_id, role) values ('{}', '{id}', 'member');
                 update circles set member_count = member_count + 1 where id = '{0}'",
                cast.circle
            ));
        }
        let mut named: Vec<&String> = ids.iter().collect();
        named.insert(3, &cast.stranger.user);
        named.insert(1, &cast.owner.user);
        let body: Vec<String> = named.iter().map(|id| format!("<@{id}> <@{id}>")).collect();
        let said = cast.owner.say(&cast.circle, &body.join(" ")).await;
        let told = |kind: &str| {
            system.sql(&format!("select count(*) from notifications where id = '{said}' and kind = '{kind}'"))
        };
        let deadline = optimist_tests::patience();
        while told("mention") != "20" {
            assert!(Instant::now() < deadline, "{} were told", told("mention"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // Two of those who were named, and the two who were not: in a small circle everyone is told of a message.
        assert_eq!(told("message"), "4");
        let first = ids[..20].iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(", ");
        let sql = format!(
            "select count(*) from notifications where id = '{said}' and kind = 'mention' and user_id in ({first})"
        );
        assert_eq!(system.sql(&sql), "20");
    });
}

#[test]
fn an_edit_tells_those_whom_it_names_anew_and_takes_it_back() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        forget_all(&cast).await;
        let said = cast.owner.say(&cast.circle, &format!("<@{}>", cast.member.user)).await;
        let named = ("mention", "Owen", 0, said.as_str());
        let (plain, before) =
            (("message", "Owen", 0, said.as_str()), ("message", "Meg", 0, cast.message.as_str()));
        let role = ("role", "Owen", 0, "");
        until_told(&cast.member, &[named]).await;
        until_told(&cast.moderator, &[plain, before, role]).await;
        let path = cast.path(&format!("/messages/{said}"));
        let edit = async |people: &[&Client]| {
            let body: String = people.iter().map(|one| format!("<@{}> ", one.user.to_uppercase())).collect();
            cast.owner.patch(&path, json!({"body": format!("{body}.")})).await.expect(200);
        };
        // Only who was not named before, and only members; not oneself.
        edit(&[&cast.member, &cast.moderator, &cast.owner, &cast.stranger, &cast.banned, &cast.former]).await;
        until_told(&cast.moderator, &[named, plain, before, role]).await;
        until_told(&cast.member, &[named]).await;
        for outsider in [&cast.stranger, &cast.banned, &cast.former] {
            until_told(outsider, &[]).await;
        }
        edit(&[&cast.member]).await;
        until_told(&cast.moderator, &[plain, before, role]).await;
        edit(&[&cast.moderator]).await;
        until_told(&cast.moderator, &[named, plain, before, role]).await;
        until_told(&cast.member, &[named]).await;
        cast.owner.delete(&path).await.expect(204);
        until_told(&cast.moderator, &[before, role]).await;
        until_told(&cast.member, &[]).await;
        let unread = cast.moderator.get("/v1/notifications/unread-count").await.expect(200);
        assert_eq!(unread.body["unread"], 0);
    });
}
