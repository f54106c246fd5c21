//! Sessions: ending and refreshing them.

use futures_util::future::join_all;
use optimist_tests::{Client, System};
use serde_json::json;

use super::{is_in_crowd, on_own_system, on_system, problem};

/// Loads the session into Redis, so that a later refusal is not a miss.
pub async fn warm(client: &Client) {
    client.get("/v1/auth/session").await.expect(200);
    client.get("/v1/auth/session").await.expect(200);
}

#[test]
fn a_session_that_is_logged_out_is_over() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let other = ada.log_in().await;
        warm(&ada).await;
        ada.post("/v1/auth/logout", json!({})).await.expect(204);
        problem(ada.get("/v1/auth/session").await, 401);
        problem(ada.get("/v1/me").await, 401);
        refresh(system, &ada.refresh_token).await.expect(401);
        other.get("/v1/me").await.expect(200);
    });
}

#[test]
fn one_sees_and_revokes_ones_own_sessions_only() {
    on_system(|system| async move {
        let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
        let phone = ada.log_in().await;
        warm(&phone).await;
        let sessions = ada.get("/v1/me/sessions").await.expect(200);
        let items = sessions.body["items"].as_array().unwrap();
        assert_eq!(items.len(), 2);
        assert!(items.iter().all(|item| (item["id"] == ada.session.as_str()) == (item["current"] == true)));
        let path = format!("/v1/me/sessions/{}", phone.session);
        problem(bo.delete(&path).await, 404);
        phone.get("/v1/me").await.expect(200);
        ada.delete(&path).await.expect(204);
        problem(phone.get("/v1/me").await, 401);
        ada.get("/v1/me").await.expect(200);
    });
}

#[test]
fn a_revoked_session_is_refused_while_a_thousand_requests_are_in_flight() {
    on_own_system(async |system| {
        let ada = system.register("Ada").await;
        let phone = ada.log_in().await;
        warm(&phone).await;
        let revoked = async {
            // In the middle of the other requests.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            ada.delete(&format!("/v1/me/sessions/{}", phone.session)).await.expect(204);
            let refused = join_all((0..20).map(|_| phone.get("/v1/auth/session"))).await;
            assert!(refused.iter().all(|answer| is_in_crowd(answer.status, &[401, 429])), "{refused:?}");
        };
        let crowd = join_all((0..1_000).map(|_| phone.get("/v1/auth/session")));
        let (crowd, ()) = futures_util::join!(crowd, revoked);
        // 429: the limit on invalid tokens from one address.
        assert!(crowd.iter().all(|answer| is_in_crowd(answer.status, &[200, 401, 429])));
        system.forget_address_limits().await;
        // No request in flight has restored it.
        problem(phone.get("/v1/auth/session").await, 401);
    });
}

#[test]
fn who_leaves_or_is_removed_reads_nothing_more() {
    on_system(|system| async move {
        let (owner, member, other) =
            (system.register("Ada").await, system.register("Bo").await, system.register("Cy").await);
        let circle = owner.create_circle("private").await;
        let path = format!("/v1/circles/{circle}/messages");
        for person in [&member, &other] {
            person.join(&circle, &owner).await;
            person.until_hit(&path).await;
        }
        let removed = async {
            owner.delete(&format!("/v1/circles/{circle}/members/{}", member.user)).await.expect(204);
            assert!(is_in_crowd(member.get(&path).await.status, &[404]));
        };
        let crowd = join_all((0..1_000).map(|_| member.get(&path)));
        let (crowd, ()) = futures_util::join!(crowd, removed);
        assert!(crowd.iter().all(|answer| is_in_crowd(answer.status, &[200, 404])));
        problem(member.get(&path).await, 404);
        other.delete(&format!("/v1/circles/{circle}/members/me")).await.expect(204);
        problem(other.get(&path).await, 404);
    });
}

async fn refresh(system: &System, token: &str) -> optimist_tests::Answer {
    system.forget_address_limits().await;
    system.client().post("/v1/auth/refresh", json!({"refresh_token": token})).await
}

#[test]
fn refreshing_again_and_at_once_never_logs_out() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        // All at once, like an app whose tabs wake up together.
        let answers = join_all((0..20).map(|_| refresh(system, &ada.refresh_token))).await;
        let first = answers[0].clone().expect(200);
        for answer in &answers {
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.body["session"]["token"], first.body["session"]["token"], "one successor");
            assert_eq!(answer.body["refresh_token"], first.body["refresh_token"]);
            assert!(answer.body.get("user").is_none());
        }
        // Refreshing does not end the session before it at once.
        ada.get("/v1/me").await.expect(200);
        // In a chain of refreshes every answer was lost once and asked for again.
        let mut token = first.text("/refresh_token");
        for _ in 0..10 {
            refresh(system, &token).await.expect(200);
            let next = refresh(system, &token).await.expect(200);
            let mut client = ada.clone();
            client.adopt(&next);
            client.get("/v1/me").await.expect(200);
            // Still in time: a request that was in flight when the successor was first used.
            refresh(system, &token).await.expect(200);
            token = next.text("/refresh_token");
        }
    });
}

#[test]
fn a_late_replay_revokes_the_family() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let mut thief = ada.clone();
        thief.adopt(&refresh(system, &ada.refresh_token).await.expect(200));
        warm(&thief).await;
        let elsewhere = ada.log_in().await;
        let successor = &thief.session;
        system.sql(&format!(
            "update sessions set first_used_at = now() - interval '61 seconds' where id = '{successor}'"
        ));
        problem(refresh(system, &ada.refresh_token).await, 401);
        problem(thief.get("/v1/me").await, 401);
        problem(ada.get("/v1/me").await, 401);
        problem(refresh(system, &thief.refresh_token).await, 401);
        elsewhere.get("/v1/me").await.expect(200);
    });
}

#[test]
fn a_flush_ends_no_session_that_was_active_lately() {
    on_system(|system| async move {
        let (active, idle) = (system.register("Ada").await, system.register("Bo").await);
        for client in [&active, &idle] {
            warm(client).await;
        }
        let mut redis = system.redis.connect().await;
        let _: () = redis::cmd("DEL")
            .arg(format!("session:{{{}}}:{}", active.user, active.session))
            .arg(format!("session:{{{}}}:{}", idle.user, idle.session))
            .query_async(&mut redis)
            .await
            .unwrap();
        system.sql(&format!(
            "update sessions set idle_until = now() - interval '1 second' where id = '{}'",
            idle.session
        ));
        active.get("/v1/me").await.expect(200);
        problem(idle.get("/v1/me").await, 401);
    });
}
