//! Suspending accounts, and restoring them: by administrators, and by the clock.

use futures_util::future::join_all;
use optimist_tests::client::PASSWORD;
use optimist_tests::live::{Transport, subscribe};
use optimist_tests::system::address;
use optimist_tests::{Answer, Client, System};
use serde_json::{Value, json};

use super::presence::{say, state_of};
use super::sessions::warm;
use super::trail::administrator;
use super::{Cast, on_system, problem};

const LATER: &str = "2099-01-01T00:00:00Z";

fn path(client: &Client, rest: &str) -> String {
    format!("/v1/admin/users/{}/{rest}", client.user)
}

async fn suspend(root: &Client, client: &Client, until: Option<&str>) -> Answer {
    root.post(&path(client, "suspend"), json!({"reason": "Sends advertisements.", "until": until})).await
}

async fn log_in(system: &System, client: &Client, password: &str) -> Answer {
    system.forget_address_limits().await;
    system.client().post("/v1/auth/login", json!({"email": client.email, "password": password})).await
}

#[test]
fn administrators_alone_suspend_and_restore() {
    on_system(|system| async move {
        let root = administrator(system).await;
        let cast = Cast::new(system, "private").await;
        for (name, client) in cast.everyone() {
            let refused = problem(suspend(client, &cast.member, None).await, 403);
            assert_eq!(refused["code"], "forbidden", "{name}");
            problem(client.post(&path(&cast.member, "restore"), Value::Null).await, 403);
        }
        problem(suspend(&system.client(), &cast.member, None).await, 401);
        cast.member.get("/v1/me").await.expect(200);
        // Neither themselves nor each other.
        let other = administrator(system).await;
        for admin in [&root, &other] {
            problem(suspend(&root, admin, None).await, 409);
            admin.get("/v1/admin/jobs").await.expect(200);
        }
        for (body, field) in [
            (json!({"until": LATER}), "reason"),
            (json!({"reason": ""}), "reason"),
            (json!({"reason": "x".repeat(501)}), "reason"),
            (json!({"reason": "Spam.", "until": "2001-01-01T00:00:00Z"}), "until"),
            (json!({"reason": "Spam.", "until": "tomorrow"}), "until"),
        ] {
            let refused = problem(root.post(&path(&cast.member, "suspend"), body).await, 422);
            assert!(refused["errors"][0].to_string().contains(field), "{refused}");
        }
        let mut nobody = root.clone();
        nobody.user = uuid::Uuid::now_v7().to_string();
        problem(suspend(&root, &nobody, None).await, 404);
        problem(root.post(&path(&nobody, "restore"), Value::Null).await, 404);
        // Whoever is suspended suspends nobody: the role does not outlast the account.
        suspend(&root, &cast.stranger, None).await.expect(200);
        problem(suspend(&cast.stranger, &cast.member, None).await, 401);
        // What is not suspended is restored as well.
        root.post(&path(&cast.member, "restore"), Value::Null).await.expect(204);
    });
}

#[test]
fn from_the_acknowledgement_on_nothing_admits_whoever_is_suspended() {
    on_system(|system| async move {
        let root = administrator(system).await;
        let cast = Cast::new(system, "private").await;
        let (meg, phone) = (&cast.member, cast.member.log_in().await);
        for client in [meg, &phone, &cast.owner] {
            warm(client).await;
        }
        say(meg, "online", "phone").await.expect(200);
        let profile = format!("/v1/users/{}", meg.user);
        cast.owner.until_hit(&profile).await;
        let gateway = address(&system.origins[0].gateway).to_owned();
        let mut listeners = Vec::new();
        for transport in [Transport::Events, Transport::Socket] {
            let mut listener = subscribe(&gateway, transport, &phone, "").await;
            listener.expect("ready").await;
            listeners.push(listener);
        }
        let suspended = async {
            let done = suspend(&root, meg, Some(LATER)).await.expect(200);
            let until = "2099-01-01T00:00:00.000Z";
            let expected = json!({"user_id": meg.user, "reason": "Sends advertisements.", "until": until});
            assert_eq!(done.body, expected);
            for client in [meg, &phone] {
                problem(client.get("/v1/auth/session").await, 401);
                problem(client.get("/v1/me").await, 401);
                problem(client.post(&cast.path("/messages"), json!({"body": "Still here."})).await, 401);
                problem(say(client, "busy", "phone").await, 401);
            }
            problem(cast.owner.get(&profile).await, 404);
            assert_eq!(state_of(&meg.user, &cast.owner).await, "offline");
        };
        let crowd = join_all((0..300).map(|_| phone.get("/v1/auth/session")));
        let (_, ()) = futures_util::join!(crowd, suspended);
        for listener in &mut listeners {
            let ended = async { while listener.next().await.is_some() {} };
            let ended = tokio::time::timeout(std::time::Duration::from_secs(20), ended).await;
            ended.expect("the connection ends");
        }
        // Only those who know the password learn of it.
        assert_eq!(problem(log_in(system, meg, "not the right one").await, 401)["code"], "bad-credentials");
        let refused = problem(log_in(system, meg, PASSWORD).await, 403);
        assert_eq!(refused["code"], "suspended");
        let detail = "The account is suspended until 2099-01-01T00:00:00Z. The reason: Sends advertisements.";
        assert_eq!(refused["detail"], detail);
        let refresh = json!({"refresh_token": phone.refresh_token});
        problem(system.client().post("/v1/auth/refresh", refresh).await, 401);
        // Reason and end are replaced, and the same again changes nothing.
        for _ in 0..2 {
            root.post(&path(meg, "suspend"), json!({"reason": "Asked for it."})).await.expect(200);
        }
        let detail = "The account is suspended until an administrator restores it. The reason: Asked for it.";
        assert_eq!(problem(log_in(system, meg, PASSWORD).await, 403)["detail"], detail);
        let recorded = format!(
            "select string_agg(kind, ' ' order by xid, seq) from outbox
             where kind like 'admin.%' and payload ->> 'user' = '{}' and actor = '{}'",
            meg.user, root.user
        );
        assert_eq!(system.sql(&recorded), "admin.suspended admin.suspended");

        root.post(&path(meg, "restore"), Value::Null).await.expect(204);
        assert_eq!(system.sql(&recorded), "admin.suspended admin.suspended admin.restored");
        cast.owner.get(&profile).await.expect(200);
        // The sessions are over for good.
        problem(meg.get("/v1/me").await, 401);
        let again = meg.log_in().await;
        again.get("/v1/me").await.expect(200);
        again.get(&cast.path("/messages")).await.expect(200);
    });
}

#[test]
fn a_suspension_with_an_end_ends_by_itself() {
    on_system(|system| async move {
        let root = administrator(system).await;
        let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
        for client in [&ada, &bo] {
            suspend(&root, client, Some(LATER)).await.expect(200);
            problem(log_in(system, client, PASSWORD).await, 403);
        }
        let soon =
            format!("update users set suspended_until = now() where id in ('{}', '{}')", ada.user, bo.user);
        system.sql(&soon);
        // A log-in does not wait for the job; others see the account once that has run.
        log_in(system, &ada, PASSWORD).await.expect(200);
        root.get(&format!("/v1/users/{}", ada.user)).await.expect(200);
        problem(root.get(&format!("/v1/users/{}", bo.user)).await, 404);
        let run = ["jobs", "run", "suspensions.end"];
        let environment = system.environment();
        let run = move || optimist_tests::Origin::command(&environment, &run);
        let (succeeded, output) = tokio::task::spawn_blocking(run).await.unwrap();
        assert!(succeeded, "{output}");
        root.get(&format!("/v1/users/{}", bo.user)).await.expect(200);
        log_in(system, &bo, PASSWORD).await.expect(200);
        let left = format!(
            "select status, suspended_until is null, suspension_reason is null from users where id in ('{}', '{}')",
            ada.user, bo.user
        );
        assert_eq!(system.sql(&left), "active|t|t\nactive|t|t");
        // One that has no end, or has not ended, the job leaves.
        suspend(&root, &ada, None).await.expect(200);
        suspend(&root, &bo, Some(LATER)).await.expect(200);
        let environment = system.environment();
        let run = move || optimist_tests::Origin::command(&environment, &["jobs", "run", "suspensions.end"]);
        assert!(tokio::task::spawn_blocking(run).await.unwrap().0);
        for client in [&ada, &bo] {
            problem(log_in(system, client, PASSWORD).await, 403);
        }
    });
}
