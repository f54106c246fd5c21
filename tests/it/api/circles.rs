//! Circles and their members: the rights of each role, and the hiding of private circles from strangers.

use optimist_tests::Client;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Cast, on_system, problem};

#[test]
fn a_private_circle_exists_for_its_members_alone() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let nowhere = "/v1/circles/0190a0a0-0000-7000-8000-00000000dead";
        for rest in ["", "/members", "/messages", &format!("/messages/{}", cast.message)] {
            for (who, client) in cast.everyone() {
                // Twice: first a miss, then a hit where the key is cached.
                for _ in 0..2 {
                    let answer = client.get(&cast.path(rest)).await;
                    if matches!(who, "owner" | "moderator" | "member") {
                        answer.expect(200);
                    } else {
                        let hidden = problem(answer, 404);
                        let absent = problem(client.get(&format!("{nowhere}{rest}")).await, 404);
                        assert_eq!(without_id(hidden), without_id(absent), "{who} can tell");
                    }
                }
            }
        }
        problem(system.client().get(&cast.path("")).await, 401);
    });
}

fn without_id(mut problem: Value) -> Value {
    problem.as_object_mut().unwrap().remove("request_id");
    problem
}

#[test]
fn a_public_circle_is_read_by_anyone_signed_in_but_the_banned() {
    on_system(|system| async move {
        let cast = Cast::new(system, "public").await;
        for (who, client) in cast.everyone() {
            for _ in 0..2 {
                let answer = client.get(&cast.path("")).await;
                match who {
                    "banned" => drop(problem(answer, 404)),
                    "former" | "stranger" => assert_eq!(answer.expect(200).body["role"], Value::Null),
                    role => assert_eq!(answer.expect(200).text("/role"), role),
                }
            }
        }
        problem(cast.stranger.post(&cast.path("/messages"), json!({"body": "Hello?"})).await, 403);
        // The cached list is up to a quarter of an hour old; a page with a cursor is read from Postgres.
        let cursor = "YzoyNTM0MDIzMDA3OTk5OTk5OTk6ZmZmZmZmZmYtZmZmZi1mZmZmLWZmZmYtZmZmZmZmZmZmZmZm";
        let page = cast.stranger.get(&format!("/v1/circles?limit=100&cursor={cursor}")).await.expect(200);
        assert!(page.body["items"].as_array().unwrap().iter().any(|item| item["id"] == cast.circle.as_str()));
    });
}

#[test]
fn each_role_may_do_its_own_and_no_more() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        // Expected status for owner, moderator, member; for the other three the circle does not exist.
        let rules: [(Method, String, Value, [u16; 3]); 6] = [
            (Method::PATCH, "".into(), json!({"description": "New."}), [200, 200, 403]),
            (Method::POST, "/invites".into(), json!({}), [201, 201, 403]),
            (Method::POST, "/messages".into(), json!({"body": "Hello."}), [201, 201, 201]),
            (
                Method::PATCH,
                format!("/members/{}", cast.member.user),
                json!({"role": "member"}),
                [200, 200, 403],
            ),
            (Method::PATCH, format!("/messages/{}", cast.message), json!({"body": "Mine?"}), [403, 403, 200]),
            (Method::DELETE, format!("/members/{}", cast.stranger.user), Value::Null, [204, 204, 403]),
        ];
        for (method, rest, body, allowed) in rules {
            for (index, (who, client)) in cast.everyone().into_iter().enumerate() {
                let body = (!body.is_null()).then(|| body.to_string().into_bytes());
                let answer = client.send(method.clone(), &cast.path(&rest), &[], body).await;
                let expected = allowed.get(index).copied().unwrap_or(404);
                assert_eq!(answer.status, expected, "{method} {rest} by the {who}: {answer:#?}");
            }
        }
        problem(cast.moderator.delete(&cast.path("")).await, 403);
        problem(cast.stranger.delete(&cast.path("")).await, 404);
        problem(cast.moderator.delete(&cast.path(&format!("/members/{}", cast.owner.user))).await, 403);
    });
}

#[test]
fn an_invitation_works_once() {
    on_system(|system| async move {
        let owner = system.register("Ada").await;
        let (bo, cy) = (system.register("Bo").await, system.register("Cy").await);
        let circle = owner.create_circle("private").await;
        let invite = owner.post(&format!("/v1/circles/{circle}/invites"), json!({})).await.expect(201);
        assert!(invite.body["expires_at"].is_string());
        let join = |client: &Client, invite: Option<String>| {
            let (client, circle) = (client.clone(), circle.clone());
            async move {
                client.post(&format!("/v1/circles/{circle}/members/me"), json!({"invite": invite})).await
            }
        };
        problem(join(&bo, None).await, 404);
        problem(join(&bo, Some("QQ".repeat(21) + "A")).await, 404);
        let token = invite.text("/invite");
        assert_eq!(join(&bo, Some(token.clone())).await.expect(201).body["role"], "member");
        // Repeated as after a lost answer: Bo is a member already.
        assert_eq!(join(&bo, Some(token.clone())).await.expect(200).body["member_count"], 2);
        problem(join(&cy, Some(token)).await, 404);
    });
}

#[test]
fn the_owner_hands_over_before_leaving() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let me = cast.path("/members/me");
        problem(cast.owner.delete(&me).await, 409);
        let heir = cast.path(&format!("/members/{}", cast.member.user));
        let refused = problem(cast.owner.patch(&heir, json!({"role": "owner"})).await, 422);
        assert_eq!(refused["errors"][0]["field"], "role");
        let ownership = cast.path("/ownership");
        let offer = async |client: &Client, user: &str| {
            let body = json!({"user": user}).to_string().into_bytes();
            client.send(Method::PUT, &ownership, &[], Some(body)).await
        };
        let accept = cast.path("/ownership/accept");
        problem(cast.member.post(&accept, json!({})).await, 404);
        problem(offer(&cast.moderator, &cast.member.user).await, 403);
        problem(offer(&cast.owner, &cast.owner.user).await, 409);
        for outside in [&cast.stranger, &cast.former, &cast.banned] {
            problem(offer(&cast.owner, &outside.user).await, 404);
        }
        // One offer takes another's place; whom it is not about knows of none.
        offer(&cast.owner, &cast.moderator.user).await.expect(200);
        let offered = offer(&cast.owner, &cast.member.user).await.expect(200).body;
        assert_eq!(offered["user"], json!({"id": cast.member.user, "name": "Meg"}));
        problem(cast.moderator.get(&ownership).await, 404);
        problem(cast.moderator.post(&accept, json!({})).await, 404);
        problem(cast.moderator.delete(&ownership).await, 404);
        assert_eq!(cast.member.get(&ownership).await.expect(200).body, offered);
        // It is declined, made again, and lapses.
        cast.member.delete(&ownership).await.expect(204);
        problem(cast.owner.get(&ownership).await, 404);
        offer(&cast.owner, &cast.member.user).await.expect(200);
        let lapse = "update ownership_offers set offered_at = offered_at - interval '7 days' where circle_id";
        system.sql(&format!("{lapse} = '{}'", cast.circle));
        problem(cast.member.post(&accept, json!({})).await, 404);
        offer(&cast.owner, &cast.member.user).await.expect(200);
        assert_eq!(cast.member.get(&cast.path("")).await.expect(200).text("/role"), "member");
        let told = async || cast.member.get("/v1/notifications").await.expect(200).body["items"][0].clone();
        let until_offered = async |is_offered: bool| {
            for _ in 0..400 {
                let told = told().await;
                if (told["kind"] == "offer") == is_offered {
                    return told;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            panic!("an offer is told: {}", !is_offered)
        };
        assert_eq!(until_offered(true).await["circle"]["id"], cast.circle.as_str());
        // What is taken back is withdrawn.
        cast.owner.delete(&ownership).await.expect(204);
        until_offered(false).await;
        offer(&cast.owner, &cast.member.user).await.expect(200);
        until_offered(true).await;
        assert_eq!(cast.member.post(&accept, json!({})).await.expect(200).text("/role"), "owner");
        problem(cast.member.post(&accept, json!({})).await, 404);
        let circle = cast.member.get(&cast.path("")).await.expect(200);
        assert_eq!(
            (circle.text("/role"), circle.text("/owner_id")),
            ("owner".to_owned(), cast.member.user.clone())
        );
        assert_eq!(cast.owner.get(&cast.path("")).await.expect(200).text("/role"), "moderator");
        cast.owner.delete(&me).await.expect(204);
        problem(cast.owner.get(&cast.path("")).await, 404);
        let left = cast.member.get(&cast.path("/members")).await.expect(200);
        let names: Vec<&str> = left.body["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["user"]["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["Mo", "Meg"]);
        assert_eq!(cast.member.get(&cast.path("")).await.expect(200).body["member_count"], 2);
    });
}

#[test]
fn an_archived_circle_is_read_by_members_and_changed_by_nobody() {
    on_system(|system| async move {
        let cast = Cast::new(system, "public").await;
        cast.stranger.get(&cast.path("")).await.expect(200);
        cast.owner.delete(&cast.path("")).await.expect(204);
        cast.owner.delete(&cast.path("")).await.expect(204);
        assert!(cast.member.get(&cast.path("")).await.expect(200).body["archived_at"].is_string());
        cast.member.get(&cast.path("/messages")).await.expect(200);
        problem(cast.stranger.get(&cast.path("")).await, 404);
        problem(cast.member.post(&cast.path("/messages"), json!({"body": "Hello?"})).await, 409);
        problem(cast.owner.patch(&cast.path(""), json!({"name": "Again"})).await, 409);
        problem(cast.stranger.post(&cast.path("/members/me"), json!({})).await, 404);
        cast.member.delete(&cast.path("/members/me")).await.expect(204);
    });
}

#[test]
fn a_circle_that_becomes_private_is_hidden_at_once() {
    on_system(|system| async move {
        let cast = Cast::new(system, "public").await;
        cast.stranger.get(&cast.path("")).await.expect(200);
        cast.owner.patch(&cast.path(""), json!({"visibility": "private"})).await.expect(200);
        problem(cast.stranger.get(&cast.path("")).await, 404);
        cast.owner.patch(&cast.path(""), json!({"visibility": "public"})).await.expect(200);
        cast.stranger.get(&cast.path("")).await.expect(200);
        // A ban also forbids reading, and no removal lifts it.
        let banned = cast.path(&format!("/members/{}", cast.banned.user));
        problem(cast.banned.post(&cast.path("/members/me"), json!({})).await, 404);
        cast.owner.delete(&banned).await.expect(204);
        problem(cast.banned.get(&cast.path("")).await, 404);
        cast.owner.delete(&cast.path(&format!("/bans/{}", cast.banned.user))).await.expect(204);
        cast.banned.get(&cast.path("")).await.expect(200);
    });
}

#[test]
fn the_owner_alone_changes_who_may_read_a_circle() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        for body in [json!({"visibility": "public"}), json!({"name": "Open", "visibility": "public"})] {
            let refused = problem(cast.moderator.patch(&cast.path(""), body).await, 403);
            assert_eq!(refused["errors"][0]["field"], "visibility");
        }
        problem(cast.stranger.get(&cast.path("/messages")).await, 404);
        assert_eq!(cast.owner.get(&cast.path("")).await.expect(200).body["name"], "A circle");
        // A form that sends what is so already is no change.
        let same = json!({"rules": "Be kind.", "visibility": "private"});
        cast.moderator.patch(&cast.path(""), same).await.expect(200);
        cast.owner.patch(&cast.path(""), json!({"visibility": "public"})).await.expect(200);
        cast.stranger.get(&cast.path("/messages")).await.expect(200);
        problem(cast.moderator.patch(&cast.path(""), json!({"visibility": "private"})).await, 403);
    });
}

#[test]
fn the_owner_restores_an_archived_circle() {
    on_system(|system| async move {
        let cast = Cast::new(system, "public").await;
        let restore = cast.path("/restore");
        let invite = cast.owner.post(&cast.path("/invites"), json!({})).await.expect(201).body;
        cast.owner.delete(&cast.path("")).await.expect(204);
        problem(cast.stranger.post(&cast.path("/members/me"), invite.clone()).await, 422);
        let join = json!({"invite": invite["invite"]});
        problem(cast.stranger.post(&cast.path("/members/me"), join.clone()).await, 404);
        for (who, client) in cast.everyone() {
            match who {
                "owner" => continue,
                "moderator" | "member" => drop(problem(client.post(&restore, json!({})).await, 403)),
                _ => drop(problem(client.post(&restore, json!({})).await, 404)),
            }
        }
        for _ in 0..2 {
            let restored = cast.owner.post(&restore, json!({})).await.expect(200);
            assert_eq!(
                (restored.text("/role"), &restored.body["archived_at"]),
                ("owner".into(), &Value::Null)
            );
            let read = cast.member.get(&cast.path("")).await.expect(200);
            assert_eq!((&read.body["version"], &read.body["archived_at"]), (&Value::Null, &Value::Null));
        }
        cast.stranger.get(&cast.path("/messages")).await.expect(200);
        cast.member.say(&cast.circle, "Back again.").await;
        cast.stranger.post(&cast.path("/members/me"), join).await.expect(201);
    });
}

/// Five joins an hour are for five circles.
#[test]
fn joining_a_circle_that_one_is_in_costs_nothing() {
    on_system(|system| async move {
        let cast = Cast::new(system, "public").await;
        let me = cast.path("/members/me");
        for round in 0..7 {
            cast.member.post(&me, json!({})).await.expect(200);
            let key = format!("key-{}", round / 2);
            let again = cast.member.send(Method::POST, &me, &[("idempotency-key", &key)], None).await;
            assert_eq!(again.expect(200).body["role"], "member");
        }
        let limits = cast.member.get("/v1/me/limits").await.expect(200).body;
        let joins = items(&limits).iter().find(|limit| limit["name"] == "circle-joins").unwrap();
        // The one by which the member came in.
        assert_eq!(joins["remaining"], 4);
    });
}

#[test]
fn ones_own_circles_are_listed_by_latest_activity() {
    on_system(|system| async move {
        let cast = Cast::new(system, "public").await;
        let mine = async |client: &Client, query: &str| {
            client.get(&format!("/v1/me/circles{query}")).await.expect(200).body
        };
        for (who, client) in cast.everyone() {
            let roles: Vec<Value> =
                items(&mine(client, "").await).iter().map(|item| item["role"].clone()).collect();
            match who {
                "former" | "banned" | "stranger" => assert!(roles.is_empty(), "{who}: {roles:?}"),
                role => assert_eq!(roles, [role]),
            }
        }
        problem(system.client().get("/v1/me/circles").await, 401);

        let quiet = cast.member.create_circle("private").await;
        let listed = mine(&cast.member, "").await;
        assert_eq!(ids(&listed), [&quiet, &cast.circle], "joining is activity");
        let (newest, older) = (&items(&listed)[0], &items(&listed)[1]);
        assert_eq!((&newest["last_number"], &newest["last_message_at"]), (&json!(0), &Value::Null));
        assert_eq!((&newest["visibility"], &newest["role"]), (&json!("private"), &json!("owner")));
        assert_eq!(older["last_number"], 1);
        let posted = cast.member.get(&cast.path(&format!("/messages/{}", cast.message))).await.expect(200);
        assert_eq!(older["last_message_at"], posted.body["created_at"]);

        cast.owner.say(&cast.circle, "Good evening.").await;
        cast.owner.delete(&cast.path("")).await.expect(204);
        let first = mine(&cast.member, "?limit=1").await;
        assert_eq!(ids(&first), [&cast.circle], "so is a message, and it stays listed when it is archived");
        assert!(items(&first)[0]["archived_at"].is_string());
        let next = first["next"].as_str().expect("a second page");
        let second = mine(&cast.member, &format!("?limit=1&cursor={next}")).await;
        assert_eq!((ids(&second), &second["next"]), (vec![quiet.as_str()], &Value::Null));

        problem(cast.member.get("/v1/me/circles?cursor=YzowOjA").await, 400);
        problem(cast.member.get("/v1/me/circles?role=owner").await, 400);
    });
}

fn items(list: &Value) -> &Vec<Value> {
    list["items"].as_array().unwrap()
}

fn ids(list: &Value) -> Vec<&str> {
    items(list).iter().map(|item| item["id"].as_str().unwrap()).collect()
}

#[test]
fn a_public_circle_may_be_joined_by_invitation_alone() {
    on_system(|system| async move {
        let cast = Cast::new(system, "public").await;
        let me = cast.path("/members/me");
        assert_eq!(cast.stranger.get(&cast.path("")).await.expect(200).body["join_policy"], "open");
        let closed = json!({"join_policy": "invite_only"});
        let refused = problem(cast.moderator.patch(&cast.path(""), closed.clone()).await, 403);
        assert_eq!(refused["errors"][0]["field"], "join_policy");
        problem(cast.owner.patch(&cast.path(""), json!({"join_policy": "closed"})).await, 422);
        cast.owner.patch(&cast.path(""), closed).await.expect(200);
        assert_eq!(cast.stranger.get(&cast.path("")).await.expect(200).body["join_policy"], "invite_only");
        let refused = problem(cast.stranger.post(&me, json!({})).await, 403);
        assert_eq!(refused["errors"][0]["field"], "invite");
        let described = system.client().get("/v1/openapi.json").await.expect(200).body;
        let of_joining = &described["paths"]["/v1/circles/{circle}/members/me"]["post"]["responses"];
        assert!(of_joining["403"].is_object(), "the refusal is described");
        let banned = problem(cast.banned.post(&me, json!({})).await, 404);
        assert_eq!(banned["status"], 404, "the banned learn nothing");
        cast.member.post(&me, json!({})).await.expect(200);
        let invite = cast.moderator.post(&cast.path("/invites"), json!({})).await.expect(201).text("/invite");
        cast.stranger.post(&me, json!({"invite": invite})).await.expect(201);
        problem(cast.former.post(&me, json!({"invite": invite})).await, 403);
        cast.owner.patch(&cast.path(""), json!({"join_policy": "open"})).await.expect(200);
        cast.former.post(&me, json!({})).await.expect(201);
    });
}
