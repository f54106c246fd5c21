//! Administration: only for accounts that the command line has made administrators.

use futures_util::future::join_all;
use optimist_shared::keys::Key;
use optimist_tests::client::PASSWORD;
use optimist_tests::{Origin, System};
use serde_json::json;

use super::sessions::warm;
use super::{on_system, problem};

#[test]
fn administrators_alone_see_jobs_and_policies() {
    on_system(|system| async move {
        let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
        for path in ["/v1/admin/jobs", "/v1/admin/policies", "/v1/admin/consistency"] {
            problem(system.client().get(path).await, 401);
            problem(ada.get(path).await, 403);
        }
        let environment = system.environment();
        let (succeeded, output) =
            Origin::command(&environment, &["admin", "grant", &ada.email.to_uppercase()]);
        assert!(succeeded, "{output}");
        assert!(!Origin::command(&environment, &["admin", "grant", "nobody@example.org"]).0);
        let recorded = format!(
            "select payload ->> 'role' from outbox
             where kind = 'admin.role-changed' and payload ->> 'user' = '{}'",
            ada.user
        );
        assert_eq!(system.sql(&recorded).trim(), "admin");
        let jobs = ada.get("/v1/admin/jobs").await.expect(200);
        let items = jobs.body["items"].as_array().unwrap();
        assert!(
            items.iter().any(|job| job["name"] == "outbox.clean" && job["every_seconds"] == 3600),
            "{jobs:#?}"
        );
        let policies = ada.get("/v1/admin/policies").await.expect(200);
        let routes = policies.body["routes"].as_array().unwrap();
        assert!(
            routes
                .iter()
                .any(|route| route["name"] == "admin.policies" && route["caller"] == "administrator")
        );
        assert!(policies.body["limits"].as_array().unwrap().iter().any(|limit| limit["name"] == "messages"));
        let report = ada.get("/v1/admin/consistency").await.expect(200);
        assert_eq!((&report.body["region"], &report.body["mode"]), (&"test".into(), &"on".into()));
        // A copy is dropped by name; braces are escaped in the URL and decoded again.
        let circle = ada.create_circle("private").await;
        let path = format!("/v1/circles/{circle}");
        ada.until_hit(&path).await;
        let key = Key::circle(circle.parse().unwrap()).name();
        let drop_path = format!("/v1/admin/cache/{}", key.replace('{', "%7B").replace('}', "%7D"));
        problem(system.client().delete(&drop_path).await, 401);
        problem(bo.delete(&drop_path).await, 403);
        assert!(ada.get(&path).await.expect(200).is_hit());
        let dropped = ada.delete(&drop_path).await.expect(200);
        assert_eq!(dropped.body, serde_json::json!({"key": key, "dropped": 1}));
        assert!(!ada.get(&path).await.expect(200).is_hit());
        problem(bo.get("/v1/admin/jobs").await, 403);
        assert!(Origin::command(&environment, &["admin", "revoke", &ada.email]).0);
        problem(ada.get("/v1/admin/jobs").await, 403);
    });
}

/// Runs a command while the test goes on.
async fn command(system: &System, arguments: [&str; 3]) -> (bool, String) {
    let (environment, arguments) = (system.environment(), arguments.map(str::to_owned));
    let run = move || Origin::command(&environment, &arguments.each_ref().map(String::as_str));
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[test]
fn whoever_is_suspended_is_out_from_the_acknowledgement_on() {
    on_system(|system| async move {
        let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
        let phone = ada.log_in().await;
        for client in [&ada, &phone, &bo] {
            warm(client).await;
        }
        let profile = format!("/v1/users/{}", ada.user);
        bo.until_hit(&profile).await;
        let suspended = async {
            let (succeeded, output) = command(system, ["admin", "suspend", &ada.email.to_uppercase()]).await;
            assert!(succeeded, "{output}");
            for client in [&ada, &phone] {
                problem(client.get("/v1/auth/session").await, 401);
                problem(client.get("/v1/me").await, 401);
            }
            problem(bo.get(&profile).await, 404);
        };
        let crowd = join_all((0..300).map(|_| phone.get("/v1/auth/session")));
        let (_, ()) = futures_util::join!(crowd, suspended);
        system.forget_address_limits().await;
        let anyone = system.client();
        let login = json!({"email": ada.email, "password": PASSWORD});
        problem(anyone.post("/v1/auth/login", login.clone()).await, 403);
        for client in [&ada, &phone] {
            problem(client.get("/v1/me").await, 401);
            let token = json!({"refresh_token": client.refresh_token});
            problem(anyone.post("/v1/auth/refresh", token).await, 401);
        }
        bo.get("/v1/me").await.expect(200);
        // Again, which changes nothing; and somebody who is not there.
        assert!(command(system, ["admin", "suspend", &ada.email]).await.0);
        assert!(!command(system, ["admin", "suspend", "nobody@example.org"]).await.0);
        let recorded = format!(
            "select string_agg(kind, ' ' order by seq) from outbox
             where kind like 'admin.%' and payload ->> 'user' = '{}'",
            ada.user
        );
        assert_eq!(system.sql(&recorded).trim(), "admin.suspended");
        assert!(command(system, ["admin", "restore", &ada.email]).await.0);
        assert_eq!(system.sql(&recorded).trim(), "admin.suspended admin.restored");
        bo.get(&profile).await.expect(200);
        // The sessions are over for good.
        problem(ada.get("/v1/me").await, 401);
        ada.log_in().await.get("/v1/me").await.expect(200);
    });
}
