//! What somebody decides or writes later: reports and exports.

use optimist_tests::{Client, Origin, System};
use serde_json::{Value, json};

use super::Teller;

/// A message is reported, passed on, and decided about.
pub async fn reports(teller: &mut Teller, system: &System) {
    let root = system.register("Gus").await;
    assert!(Origin::command(&system.environment(), &["admin", "grant", &root.email]).0);
    let (eve, finn) = (system.register("Eve").await, system.register("Finn").await);
    let circle = eve.create_circle("public").await;
    finn.join(&circle, &eve).await;
    let said = finn.say(&circle, "Buy this.").await;
    let (path, queue) =
        (format!("/v1/circles/{circle}/messages/{said}/report"), format!("/v1/circles/{circle}/reports"));
    for reason in ["boring", "spam", "other"] {
        teller.post(&eve, &path, json!({"reason": reason, "text": "Again."})).await;
    }
    teller.post(&finn, &path, json!({"reason": "spam"})).await;
    for reader in [&finn, &eve] {
        teller.get(reader, &queue).await;
        teller.post(reader, &format!("{queue}/{said}/decide"), json!({"decision": "escalate"})).await;
    }
    teller.get(&root, "/v1/admin/reports").await;
    let decide = format!("/v1/admin/circles/{circle}/reports/{said}/decide");
    for decision in ["dismiss", "remove"] {
        teller.post(&root, &decide, json!({"decision": decision})).await;
    }
    teller.get(&eve, &format!("{queue}?state=decided")).await;
}

/// Somebody asks for all they have; nobody writes it yet.
pub async fn export(teller: &mut Teller, system: &System, di: &Client) {
    system.sql("update jobs set started_at = now() + interval '1 hour' where name = 'exports.build'");
    let asked = teller.post(di, "/v1/me/export", Value::Null).await;
    teller.post(di, "/v1/me/export", Value::Null).await;
    let path = format!("/v1/me/exports/{}", asked.text("/id"));
    teller.get(di, &path).await;
    for key in ["short", &"A".repeat(43)] {
        teller.get(di, &format!("{path}/archive?key={key}")).await;
    }
}
