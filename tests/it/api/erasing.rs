//! Erasing one's account: what holds from the answer on.

use optimist_tests::client::PASSWORD;
use optimist_tests::live::{Transport, subscribe};
use optimist_tests::system::address;
use optimist_tests::{Answer, Client};
use reqwest::Method;
use serde_json::{Value, json};

use super::presence::{say, state_of};
use super::sessions::warm;
use super::trail::administrator;
use super::{Cast, on_own_system, on_system, problem};

pub async fn erase(client: &Client, body: Value) -> Answer {
    client.send(Method::DELETE, "/v1/me", &[], Some(body.to_string().into_bytes())).await
}

#[test]
fn an_account_is_erased_by_its_password_alone() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        for (body, status, field) in [
            (json!({"password": "not the right one", "messages": "keep"}), 422, "password"),
            (json!({"password": PASSWORD, "messages": "some"}), 422, "messages"),
            (json!({"password": PASSWORD}), 422, "messages"),
            (json!({"messages": "keep"}), 422, "password"),
            (json!({"password": PASSWORD, "messages": "keep", "now": true}), 422, "now"),
        ] {
            let refused = problem(erase(&ada, body).await, status);
            assert!(refused["errors"][0].to_string().contains(field), "{refused}");
        }
        let good = json!({"password": PASSWORD, "messages": "keep"});
        problem(erase(&system.client(), good.clone()).await, 401);
        ada.get("/v1/me").await.expect(200);
        let done = erase(&ada, good.clone()).await.expect(202);
        assert_eq!(done.body, Value::Null);
        problem(erase(&ada, good).await, 401);
    });
}

#[test]
fn from_the_answer_on_nobody_finds_an_erased_account() {
    on_own_system(async |system| {
        let root = administrator(system).await;
        let cast = Cast::new(system, "private").await;
        let (meg, phone) = (&cast.member, cast.member.log_in().await);
        for client in [meg, &phone, &cast.owner] {
            warm(client).await;
        }
        say(meg, "online", "phone").await.expect(200);
        let profile = format!("/v1/users/{}", meg.user);
        let (members, messages) = (cast.path("/members"), cast.path("/messages"));
        for path in [&profile, &members, &messages] {
            cast.owner.until_hit(path).await;
        }
        let name = meg.get("/v1/me").await.expect(200).text("/name");
        assert!(cast.owner.get(&messages).await.expect(200).body.to_string().contains(&name));
        let gateway = address(&system.origins[0].gateway).to_owned();
        let mut listener = subscribe(&gateway, Transport::Events, &phone, "").await;
        listener.expect("ready").await;
        erase(meg, json!({"password": PASSWORD, "messages": "keep"})).await.expect(202);
        for client in [meg, &phone] {
            problem(client.get("/v1/auth/session").await, 401);
            problem(client.get("/v1/me").await, 401);
            problem(client.post(&messages, json!({"body": "Still here."})).await, 401);
            problem(say(client, "busy", "phone").await, 401);
        }
        problem(cast.owner.get(&profile).await, 404);
        assert_eq!(state_of(&meg.user, &cast.owner).await, "offline");
        for path in [&members, &messages] {
            let list = cast.owner.get(path).await.expect(200).body.to_string();
            assert!(!list.contains(&name), "{list}");
            assert!(list.contains("Deleted account"), "{list}");
        }
        let ended = async { while listener.next().await.is_some() {} };
        tokio::time::timeout(std::time::Duration::from_secs(20), ended).await.expect("the connection ends");
        system.forget_address_limits().await;
        let login = json!({"email": meg.email, "password": PASSWORD});
        let refused = problem(system.client().post("/v1/auth/login", login).await, 401);
        assert_eq!(refused["code"], "bad-credentials");
        let refresh = json!({"refresh_token": phone.refresh_token});
        problem(system.client().post("/v1/auth/refresh", refresh).await, 401);
        // Nobody acts on it any more.
        let suspend = format!("/v1/admin/users/{}/suspend", meg.user);
        problem(root.post(&suspend, json!({"reason": "Too late."})).await, 404);
        problem(root.post(&format!("/v1/admin/users/{}/restore", meg.user), Value::Null).await, 404);
        let invites = cast.path("/invites");
        let refused = problem(cast.owner.post(&invites, json!({"user": meg.user})).await, 422);
        assert_eq!(refused["errors"][0]["reason"], "does not exist");
        // What its journal was sealed with is destroyed, and its address is free.
        assert_eq!(
            system.sql(&format!("select count(*) from journal_keys where user_id = '{}'", meg.user)),
            "0"
        );
        system.forget_address_limits().await;
        let again = json!({"email": meg.email, "password": PASSWORD, "name": "Meg again"});
        let other = system.client().post("/v1/auth/register", again).await.expect(201);
        assert_ne!(other.text("/user/id"), meg.user);
    });
}

#[test]
fn nobody_lets_an_erased_account_in() {
    on_system(|system| async move {
        let cast = Cast::new(system, "public").await;
        cast.owner.patch(&cast.path(""), json!({"join_policy": "on_request"})).await.expect(200);
        let requests = cast.path("/join-requests");
        cast.stranger.post(&requests, json!({"text": "I bake."})).await.expect(201);
        erase(&cast.stranger, json!({"password": PASSWORD, "messages": "keep"})).await.expect(202);
        let list = cast.moderator.get(&requests).await.expect(200);
        assert_eq!(list.body["items"], json!([]));
        let approve = format!("{requests}/{}/approve", cast.stranger.user);
        problem(cast.moderator.post(&approve, json!({})).await, 404);
        problem(
            cast.owner.delete(&cast.path(&format!("/members/{}?ban=true", cast.stranger.user))).await,
            404,
        );
    });
}
