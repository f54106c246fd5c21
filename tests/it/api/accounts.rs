//! Accounts: registering, one's own account, other people's.

use optimist_tests::client::PASSWORD;
use reqwest::Method;
use serde_json::json;

use super::{on_system, problem};

#[test]
fn registering_opens_a_session() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let me = ada.get("/v1/me").await.expect(200);
        assert_eq!(me.text("/email"), ada.email);
        assert_eq!(me.text("/name"), "Ada");
        assert_eq!(me.text("/time_zone"), "UTC");
        assert_eq!(me.body["email_verified"], false);
        let session = ada.get("/v1/auth/session").await.expect(200);
        assert_eq!(session.text("/user_id"), ada.user);
        assert_eq!(session.text("/session_id"), ada.session);
        let left = session.body["expires_in"].as_u64().unwrap();
        assert!((1_790..=1_800).contains(&left), "{left}");
    });
}

#[test]
fn an_email_is_taken_once_in_any_case() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let body = json!({"email": ada.email.to_uppercase(), "password": PASSWORD, "name": "Another"});
        system.forget_address_limits().await;
        let taken = problem(system.client().post("/v1/auth/register", body).await, 409);
        assert_eq!(taken["errors"][0]["field"], "email");
    });
}

#[test]
fn a_wrong_password_and_an_unknown_email_look_the_same() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let login = |email: &str| json!({"email": email, "password": "not the right one"});
        let wrong = problem(system.client().post("/v1/auth/login", login(&ada.email)).await, 401);
        let unknown = problem(system.client().post("/v1/auth/login", login("nobody@example.org")).await, 401);
        for field in ["type", "title", "code", "detail", "errors"] {
            assert_eq!(wrong[field], unknown[field]);
        }
        assert_eq!(wrong["code"], "bad-credentials");
    });
}

#[test]
fn only_its_owner_sees_and_changes_an_account() {
    on_system(|system| async move {
        let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
        let change = json!({"name": "Ada L.", "bio": "Counts.", "time_zone": "Europe/London"});
        let changed = ada.patch("/v1/me", change).await.expect(200);
        assert_eq!(changed.text("/time_zone"), "Europe/London");
        let seen = bo.get(&format!("/v1/users/{}", ada.user)).await.expect(200);
        let fields: Vec<&String> = seen.body.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["bio", "created_at", "id", "name"], "public fields only");
        assert_eq!(seen.text("/name"), "Ada L.");
        assert_eq!(bo.get("/v1/me").await.expect(200).text("/id"), bo.user);
        problem(bo.get("/v1/users/0190a0a0-0000-7000-8000-00000000dead").await, 404);
        problem(system.client().get(&format!("/v1/users/{}", ada.user)).await, 401);
    });
}

#[test]
fn a_change_of_an_old_version_is_refused() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let tag = ada.get("/v1/me").await.expect(200).header("etag").to_owned();
        let change = |bio: &str| Some(json!({"bio": bio}).to_string().into_bytes());
        let headers = [("if-match", tag.as_str())];
        ada.send(Method::PATCH, "/v1/me", &headers, change("one")).await.expect(200);
        let refused = ada.send(Method::PATCH, "/v1/me", &headers, change("two")).await;
        assert_eq!(problem(refused, 412)["code"], "version-mismatch");
        assert_eq!(ada.get("/v1/me").await.expect(200).text("/bio"), "one");
        ada.send(Method::PATCH, "/v1/me", &[("if-match", "*")], change("three")).await.expect(200);
    });
}

#[test]
fn what_a_browser_keeps_of_one_account_is_not_good_for_the_next() {
    on_system(|system| async move {
        let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
        let tag = ada.get("/v1/me").await.expect(200).header("etag").to_owned();
        let kept = [("if-none-match", tag.as_str())];
        ada.send(Method::GET, "/v1/me", &kept, None).await.expect(304);
        for _ in 0..2 {
            let answer = bo.send(Method::GET, "/v1/me", &kept, None).await.expect(200);
            assert_eq!(answer.text("/id"), bo.user, "from Postgres, and then from Redis");
        }
    });
}
