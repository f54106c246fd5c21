//! Administration: for whom the command line has named, and nobody else.

use optimist_tests::Origin;

use super::{on_system, problem};

#[test]
fn administrators_alone_see_jobs_and_policies() {
    on_system(|system| async move {
        let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
        for path in ["/v1/admin/jobs", "/v1/admin/policies"] {
            problem(system.client().get(path).await, 401);
            problem(ada.get(path).await, 403);
        }
        let environment = system.environment();
        let (succeeded, output) =
            Origin::command(&environment, &["admin", "grant", &ada.email.to_uppercase()]);
        assert!(succeeded, "{output}");
        assert!(!Origin::command(&environment, &["admin", "grant", "nobody@example.org"]).0);
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
        problem(bo.get("/v1/admin/jobs").await, 403);
        assert!(Origin::command(&environment, &["admin", "revoke", &ada.email]).0);
        problem(ada.get("/v1/admin/jobs").await, 403);
    });
}
