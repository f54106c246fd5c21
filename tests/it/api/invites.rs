//! Ways in and out of a circle: invitations and bans, who sees and ends them, and their quotas.

use optimist_tests::{Client, System};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Cast, on_system, problem};

async fn invite(host: &Client, cast: &Cast, body: Value) -> Value {
    host.post(&cast.path("/invites"), body).await.expect(201).body
}

async fn join(client: &Client, cast: &Cast, invite: &Value) -> optimist_tests::Answer {
    client.post(&cast.path("/members/me"), json!({"invite": invite["invite"]})).await
}

fn items(list: &Value) -> &Vec<Value> {
    list["items"].as_array().unwrap()
}

#[test]
fn an_invitation_is_good_while_its_maker_may_invite() {
    on_system(|system| async move {
        let ends: [(&str, Value); 3] =
            [("?ban=true", Value::Null), ("", Value::Null), ("", json!({"role": "member"}))];
        for (query, role) in ends {
            let cast = Cast::new(system, "private").await;
            let made = invite(&cast.moderator, &cast, json!({})).await;
            let maker = cast.path(&format!("/members/{}{query}", cast.moderator.user));
            if role.is_null() {
                cast.owner.delete(&maker).await.expect(204);
            } else {
                cast.owner.patch(&maker, role.clone()).await.expect(200);
            }
            let guest = if role.is_null() { &cast.moderator } else { &cast.stranger };
            problem(join(guest, &cast, &made).await, 404);
            problem(join(&cast.stranger, &cast, &made).await, 404);
            let listed = cast.owner.get(&cast.path("/invites")).await.expect(200).body;
            assert_eq!(listed["items"], json!([]), "{query} {role}");
        }
    });
}

#[test]
fn an_invitation_for_several_is_used_up_by_as_many() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let made = invite(&cast.moderator, &cast, json!({"uses": 2, "days": 30})).await;
        let days = format!(
            "select round(extract(epoch from expires_at - now()) / 86400) from invites where id = {}",
            made["id"]
        );
        assert_eq!(system.sql(&days.replace('"', "'")), "30");
        let first = system.register("First").await;
        join(&first, &cast, &made).await.expect(201);
        let listed = cast.owner.get(&cast.path("/invites")).await.expect(200).body;
        assert_eq!((&listed["items"][0]["uses"], &listed["items"][0]["used"]), (&json!(2), &json!(1)));
        // Whoever is in already uses none.
        join(&cast.member, &cast, &made).await.expect(200);
        // Of those who come at once, one is the last.
        let others = [system.register("Second").await, system.register("Third").await];
        let (one, other) = tokio::join!(join(&others[0], &cast, &made), join(&others[1], &cast, &made));
        let mut outcomes = [one.status, other.status];
        outcomes.sort_unstable();
        assert_eq!(outcomes, [201, 404]);
        problem(join(&cast.stranger, &cast, &made).await, 404);
        assert_eq!(cast.owner.get(&cast.path("/invites")).await.expect(200).body["items"], json!([]));
    });
}

#[test]
fn an_invitation_is_for_as_many_and_as_long_as_is_sensible() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let refused = [
            (json!({"uses": 0}), "uses"),
            (json!({"uses": 101}), "uses"),
            (json!({"days": 31}), "days"),
            (json!({"days": 1.5}), "days"),
            (json!({"uses": 2, "user": cast.stranger.user}), "uses"),
        ];
        for (body, field) in refused {
            let refused = problem(cast.owner.post(&cast.path("/invites"), body.clone()).await, 422);
            assert_eq!(refused["errors"][0]["field"], field, "{body}");
        }
        invite(&cast.owner, &cast, json!({"uses": 1, "user": cast.stranger.user})).await;
    });
}

#[test]
fn moderators_list_and_revoke_invitations() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let key = [("idempotency-key", "once")];
        let open = cast.owner.send(Method::POST, &cast.path("/invites"), &key, None).await.expect(201).body;
        let named = invite(&cast.moderator, &cast, json!({"user": cast.stranger.user})).await;
        for client in [&cast.owner, &cast.moderator] {
            let listed = client.get(&cast.path("/invites")).await.expect(200).body;
            let [newest, older] = &items(&listed)[..] else { panic!("{listed:#}") };
            assert_eq!((&newest["id"], &older["id"]), (&named["id"], &open["id"]));
            assert_eq!(
                (&newest["created_by"]["name"], &newest["user"]["name"]),
                (&json!("Mo"), &json!("Sam"))
            );
            assert_eq!((&older["created_by"]["name"], &older["user"]), (&json!("Owen"), &Value::Null));
            assert_eq!(older["expires_at"], open["expires_at"]);
            assert!(
                !listed.to_string().contains(open["invite"].as_str().unwrap()),
                "the secret is not shown"
            );
        }
        let first = cast.owner.get(&cast.path("/invites?limit=1")).await.expect(200).body;
        let next = cast.path(&format!("/invites?limit=1&cursor={}", first["next"].as_str().unwrap()));
        let second = cast.owner.get(&next).await.expect(200).body;
        assert_eq!((&items(&second)[0]["id"], &second["next"]), (&open["id"], &Value::Null));
        problem(cast.owner.get(&cast.path("/invites?cursor=YzowOjA")).await, 400);

        let of = |invite: &Value| cast.path(&format!("/invites/{}", invite["id"].as_str().unwrap()));
        problem(cast.owner.delete(&cast.path(&format!("/invites/{}", cast.message))).await, 404);
        let elsewhere = cast.stranger.create_circle("private").await;
        let other = format!("/v1/circles/{elsewhere}/invites/{}", open["id"].as_str().unwrap());
        problem(cast.stranger.delete(&other).await, 404);
        assert_eq!(items(&cast.owner.get(&cast.path("/invites")).await.body).len(), 2);
        // Any moderator revokes anyone's, and may do it again.
        for _ in 0..2 {
            cast.moderator.delete(&of(&open)).await.expect(204);
        }
        problem(join(&cast.former, &cast, &open).await, 404);
        let again = cast.owner.send(Method::POST, &cast.path("/invites"), &key, None).await.expect(201).body;
        assert_eq!(again, open, "a repetition is answered as before, and makes nothing good again");
        problem(join(&cast.former, &cast, &open).await, 404);
        join(&cast.stranger, &cast, &named).await.expect(201);
        assert_eq!(cast.owner.get(&cast.path("/invites")).await.expect(200).body["items"], json!([]));
        cast.owner.delete(&of(&named)).await.expect(204);
        cast.stranger.get(&cast.path("")).await.expect(200);
    });
}

/// The invitation that someone was told of, once they were.
async fn told(system: &System, client: &Client) -> Value {
    for _ in 0..200 {
        let list = client.get("/v1/notifications").await.expect(200).body;
        if let Some(told) = items(&list).iter().find(|item| item["kind"] == "invite") {
            return told.clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{} was told of no invitation: {}", client.user, system.sql("select * from projections"));
}

/// Returns once somebody is told of no invitation any more.
async fn untold(client: &Client) {
    for _ in 0..200 {
        let list = client.get("/v1/notifications").await.expect(200).body;
        if items(&list).iter().all(|item| item["kind"] != "invite") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{} is still told of an invitation", client.user);
}

#[test]
fn a_notification_shows_an_invitation_and_a_circle_only_while_they_are_the_readers_to_know() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let made = invite(&cast.moderator, &cast, json!({"user": cast.stranger.user})).await;
        let item = told(system, &cast.stranger).await;
        assert_eq!((&item["invite"], &item["circle"]["name"]), (&made["invite"], &json!("A circle")));
        let unknown =
            |item: &Value| assert_eq!((&item["invite"], &item["circle"]), (&Value::Null, &Value::Null));

        // The maker may not invite any more, and then again.
        let maker = cast.path(&format!("/members/{}", cast.moderator.user));
        cast.owner.patch(&maker, json!({"role": "member"})).await.expect(200);
        unknown(&told(system, &cast.stranger).await);
        cast.owner.patch(&maker, json!({"role": "moderator"})).await.expect(200);
        assert_eq!(told(system, &cast.stranger).await["invite"], made["invite"]);

        let banned = cast.path(&format!("/members/{}?ban=true", cast.stranger.user));
        cast.owner.delete(&banned).await.expect(204);
        cast.owner.patch(&cast.path(""), json!({"name": "A later name"})).await.expect(200);
        // A ban ends it, and takes the notification back.
        untold(&cast.stranger).await;
        cast.owner.delete(&cast.path(&format!("/bans/{}", cast.stranger.user))).await.expect(204);
        let again = invite(&cast.moderator, &cast, json!({"user": cast.stranger.user})).await;
        assert_eq!(told(system, &cast.stranger).await["circle"]["name"], "A later name");

        // Used, then left: a former member knows the circle no more.
        join(&cast.stranger, &cast, &again).await.expect(201);
        let item = told(system, &cast.stranger).await;
        assert_eq!((&item["invite"], &item["circle"]["name"]), (&Value::Null, &json!("A later name")));
        cast.stranger.delete(&cast.path("/members/me")).await.expect(204);
        unknown(&told(system, &cast.stranger).await);
        // A public circle is everyone's to know, except the banned's.
        cast.owner.patch(&cast.path(""), json!({"visibility": "public"})).await.expect(200);
        assert_eq!(told(system, &cast.stranger).await["circle"]["name"], "A later name");
        cast.owner.delete(&banned).await.expect(204);
        untold(&cast.stranger).await;
    });
}

#[test]
fn moderators_list_bans_and_lift_them() {
    on_system(|system| async move {
        let cast = Cast::new(system, "public").await;
        let named = |user: &str| cast.path(&format!("/bans/{user}"));
        cast.moderator
            .delete(&cast.path(&format!("/members/{}?ban=true", cast.former.user)))
            .await
            .expect(204);
        let listed = cast.moderator.get(&cast.path("/bans")).await.expect(200).body;
        let names: Vec<&str> =
            items(&listed).iter().map(|ban| ban["user"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["Fay", "Bob"], "the latest first");
        let first = cast.owner.get(&cast.path("/bans?limit=1")).await.expect(200).body;
        let next = cast.path(&format!("/bans?limit=1&cursor={}", first["next"].as_str().unwrap()));
        let second = cast.owner.get(&next).await.expect(200).body;
        assert_eq!((&items(&second)[0], &second["next"]), (&items(&listed)[1], &Value::Null));

        for (who, client) in cast.everyone() {
            let status = match who {
                "owner" | "moderator" => continue,
                "former" | "banned" => 404,
                _ => 403,
            };
            problem(client.get(&cast.path("/bans")).await, status);
            problem(client.delete(&named(&cast.banned.user)).await, status);
        }
        // Neither a removal nor the lifting of no ban changes anything.
        cast.moderator.delete(&cast.path(&format!("/members/{}", cast.banned.user))).await.expect(204);
        cast.moderator.delete(&named(&cast.member.user)).await.expect(204);
        problem(cast.banned.get(&cast.path("")).await, 404);
        assert_eq!(cast.member.get(&cast.path("")).await.expect(200).body["role"], "member");
        problem(
            cast.owner.delete(&cast.path(&format!("/members/{}?ban=false", cast.banned.user))).await,
            400,
        );
        for _ in 0..2 {
            cast.moderator.delete(&named(&cast.banned.user)).await.expect(204);
        }
        let members = cast.owner.get(&cast.path("")).await.expect(200).body["member_count"].clone();
        cast.banned.get(&cast.path("")).await.expect(200);
        cast.banned.post(&cast.path("/members/me"), json!({})).await.expect(201);
        let circle = cast.owner.get(&cast.path("")).await.expect(200).body;
        assert_eq!(circle["member_count"].as_i64(), members.as_i64().map(|count| count + 1));
    });
}

#[test]
fn quotas_refuse_and_are_named() {
    on_system(|system| async move {
        let cast = Cast::new(system, "public").await;
        let (circle, owner, stranger) = (&cast.circle, &cast.owner.user, &cast.stranger.user);
        let full = |answer: optimist_tests::Answer, quota: &str| {
            let refused = problem(answer, 422);
            assert_eq!(
                (&refused["limit"], &refused["code"]),
                (&json!(quota), &json!("quota-exceeded")),
                "{refused:#}"
            );
        };
        // Nobody needed the four invitations into a public circle.
        system.sql(&format!(
            "insert into invites (id, circle_id, token_hash, token_key, created_by, expires_at)
             select gen_random_uuid(), '{circle}', gen_random_uuid()::text, 't1', '{owner}', now() + interval '7 days'
             from generate_series(1, 195)"
        ));
        let last = invite(&cast.owner, &cast, json!({})).await;
        full(cast.moderator.post(&cast.path("/invites"), json!({})).await, "invites");
        cast.owner
            .delete(&cast.path(&format!("/invites/{}", last["id"].as_str().unwrap())))
            .await
            .expect(204);
        invite(&cast.moderator, &cast, json!({})).await;

        let made = |count: usize| {
            system.sql(&format!(
                "with made as (
                     insert into circles (id, name, visibility, owner_id)
                     select gen_random_uuid(), 'One of many', 'private', '{owner}' from generate_series(1, {count})
                     returning id)
                 insert into memberships (circle_id, user_id, role) select id, '{stranger}', 'member' from made"
            ))
        };
        made(498);
        cast.stranger.post(&cast.path("/members/me"), json!({})).await.expect(201);
        cast.stranger.create_circle("private").await;
        full(
            cast.stranger.post("/v1/circles", json!({"name": "One more", "visibility": "private"})).await,
            "circles",
        );
        let other = cast.member.create_circle("public").await;
        let path = format!("/v1/circles/{other}/members/me");
        full(cast.stranger.post(&path, json!({})).await, "circles");
        cast.stranger.delete(&cast.path("/members/me")).await.expect(204);
        cast.stranger.post(&path, json!({})).await.expect(201);

        system.sql(&format!(
            "with made as (
                 insert into users (id, email, password_hash, name, home_region)
                 select gen_random_uuid(), gen_random_uuid()::text || '@example.org', '', 'Nobody', 'test'
                 from generate_series(1, 4999) returning id)
             insert into memberships (circle_id, user_id, role) select '{circle}', id, 'banned' from made"
        ));
        let banned = cast.path(&format!("/members/{}?ban=true", cast.former.user));
        full(cast.moderator.delete(&banned).await, "bans");
        cast.moderator.delete(&cast.path(&format!("/bans/{}", cast.banned.user))).await.expect(204);
        cast.moderator.delete(&banned).await.expect(204);
    });
}
