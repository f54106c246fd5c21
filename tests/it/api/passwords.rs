//! Passwords: changing them, and ending all other sessions; how they may be spelled.

use optimist_tests::client::PASSWORD;
use optimist_tests::{Answer, Client, System};
use serde_json::json;

use super::sessions::warm;
use super::{on_own_system, on_system, problem};

const OTHER: &str = "another horse battery";

async fn log_in(system: &System, email: &str, password: &str) -> Answer {
    system.forget_address_limits().await;
    system.client().post("/v1/auth/login", json!({"email": email, "password": password})).await
}

async fn change(client: &Client, current: &str, new: &str) -> Answer {
    client.post("/v1/me/password", json!({"current": current, "new": new})).await
}

#[test]
fn a_changed_password_ends_every_other_session() {
    on_system(|system| async move {
        let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
        let phone = ada.log_in().await;
        for client in [&ada, &phone, &bo] {
            warm(client).await;
        }
        problem(change(&system.client(), PASSWORD, OTHER).await, 401);
        let wrong = problem(change(&ada, "not the right one", OTHER).await, 422);
        assert_eq!(wrong["errors"][0]["field"], "current");
        let short = problem(change(&ada, PASSWORD, "short").await, 422);
        assert_eq!(short["errors"][0]["field"], "new");
        phone.get("/v1/me").await.expect(200);
        change(&ada, PASSWORD, OTHER).await.expect(204);
        problem(phone.get("/v1/me").await, 401);
        let refreshed =
            system.client().post("/v1/auth/refresh", json!({"refresh_token": phone.refresh_token})).await;
        problem(refreshed, 401);
        ada.get("/v1/me").await.expect(200);
        bo.get("/v1/me").await.expect(200);
        problem(log_in(system, &ada.email, PASSWORD).await, 401);
        log_in(system, &ada.email, OTHER).await.expect(200);
        log_in(system, &bo.email, PASSWORD).await.expect(200);
        let listed = ada.get("/v1/me/sessions").await.expect(200);
        assert_eq!(listed.body["items"].as_array().unwrap().len(), 2, "{listed:#?}");
    });
}

#[test]
fn a_session_may_guess_its_accounts_password_ten_times_an_hour() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        for _ in 0..10 {
            problem(change(&ada, "not the right one", OTHER).await, 422);
        }
        let refused = problem(change(&ada, PASSWORD, OTHER).await, 429);
        assert_eq!(refused["limit"], "passwords-3600s");
        log_in(system, &ada.email, PASSWORD).await.expect(200);
    });
}

#[test]
fn one_ends_all_of_ones_other_sessions_and_nobody_elses() {
    on_system(|system| async move {
        let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
        let (phone, tablet) = (ada.log_in().await, ada.log_in().await);
        for client in [&ada, &phone, &tablet, &bo] {
            warm(client).await;
        }
        problem(system.client().delete("/v1/me/sessions").await, 401);
        phone.delete("/v1/me/sessions").await.expect(204);
        for ended in [&ada, &tablet] {
            problem(ended.get("/v1/me").await, 401);
        }
        phone.get("/v1/me").await.expect(200);
        bo.get("/v1/me").await.expect(200);
        // There are none, and that is no error.
        phone.delete("/v1/me/sessions").await.expect(204);
        problem(ada.delete("/v1/me/sessions").await, 401);
    });
}

#[test]
fn a_log_in_that_a_change_overtakes_opens_nothing() {
    on_own_system(async |system| {
        let ada = system.register("Ada").await;
        let mut overtaken = None;
        let begin = async || {
            let (client, email) = (system.client(), ada.email.clone());
            overtaken = Some(tokio::spawn(async move {
                client.post("/v1/auth/login", json!({"email": email, "password": PASSWORD})).await
            }));
        };
        // It has verified the password, and not opened the session yet.
        system.origins[0].hold("tx.begun", begin).await;
        change(&ada, PASSWORD, OTHER).await.expect(204);
        system.origins[0].release().await;
        problem(overtaken.unwrap().await.unwrap(), 401);
        let sessions = ada.get("/v1/me/sessions").await.expect(200);
        assert_eq!(sessions.body["items"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn a_password_may_be_spelled_in_either_unicode_form() {
    on_system(|system| async move {
        let (composed, decomposed) = ("pr\u{e9}cis\u{e9}ment", "pre\u{301}cise\u{301}ment");
        for (first, then) in [(composed, decomposed), (decomposed, composed)] {
            system.forget_address_limits().await;
            let email = format!("{}@example.org", uuid::Uuid::now_v7().simple());
            let body = json!({"email": email, "password": first, "name": "Ada"});
            system.client().post("/v1/auth/register", body).await.expect(201);
            for password in [first, then] {
                log_in(system, &email, password).await.expect(200);
            }
            problem(log_in(system, &email, "precisement").await, 401);
        }
    });
}

/// As a release stored it that did not compose passwords.
#[test]
fn a_hash_of_the_decomposed_form_is_replaced_at_the_next_log_in() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let set = |hash: &str| {
            system.sql(&format!("update users set password_hash = '{hash}' where id = '{}'", ada.user))
        };
        let stored = || system.sql(&format!("select password_hash from users where id = '{}'", ada.user));
        set(DECOMPOSED);
        problem(log_in(system, &ada.email, "wrong password").await, 401);
        assert_eq!(stored().trim(), DECOMPOSED);
        log_in(system, &ada.email, "pre\u{301}cise\u{301}ment").await.expect(200);
        assert_ne!(stored().trim(), DECOMPOSED);
        log_in(system, &ada.email, "pr\u{e9}cis\u{e9}ment").await.expect(200);
    });
}

/// The hash of `précisément`, each `é` as two characters.
const DECOMPOSED: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$us7vTlXanK7tuVG2IT0TMg$AVlLZJMUHRJ9gSmGoP7hiMsFuVIl/ZEuOyknLiL4HnM";
