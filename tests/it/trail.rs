//! The audit trail is written once, whichever origin dies over it, and holds a row of each kind of event that it is for.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use optimist_shared::keys::Key;
use optimist_tests::client::PASSWORD;
use optimist_tests::system::address;
use optimist_tests::{Client, Mailbox, Options, Origin, System};
use serde_json::{Value, json};

/// What the trail is for.
const KEPT: [&str; 31] = [
    "user.registered",
    "user.updated",
    "user.preferences",
    "session.opened",
    "session.revoked",
    "session.reused",
    "password.changed",
    "email.asked",
    "email.verified",
    "email.changed",
    "account.erased",
    "circle.created",
    "circle.updated",
    "circle.archived",
    "circle.restored",
    "join.declined",
    "ownership.offered",
    "ownership.withdrawn",
    "member.joined",
    "member.left",
    "member.role",
    "member.removed",
    "ban.lifted",
    "invite.created",
    "invite.revoked",
    "report.decided",
    "export.asked",
    "admin.suspended",
    "admin.restored",
    "admin.role-changed",
    "admin.copy-dropped",
];
/// What else happens meanwhile.
const LEFT_OUT: [&str; 7] = [
    "block.added",
    "circle.read",
    "session.refreshed",
    "message.posted",
    "auth.logout",
    "names.changed",
    "report.made",
];

/// Rows of the outbox that are to be in the trail, and are not, or not as they are.
const MISSING: &str = "select string_agg(o.kind, ' ') from outbox o left join audit a on (a.xid, a.seq) = (o.xid, o.seq)
where o.kind = any(string_to_array('{kinds}', ' '))
  and (a.at is distinct from o.created_at or a.kind is distinct from o.kind or a.actor is distinct from o.actor
       or a.payload is distinct from o.payload
       or a.user_id is distinct from (o.payload ->> 'user')::uuid or a.circle_id is distinct from (o.payload ->> 'circle')::uuid)";

/// Makes the other origin die over its next turn of following events, and waits for that.
async fn die(system: &mut System, ada: &Client) {
    system.origins[1].arm("projections.done", "abort", 0, 1).await;
    let deadline = optimist_tests::patience();
    while system.origins[1].is_running() {
        assert!(Instant::now() < deadline, "the second origin is never at it");
        system.forget_limits_of(ada).await;
        ada.patch("/v1/me", json!({"bio": "Again."})).await.expect(200);
    }
    system.replace_origin(1);
    system.to_origin.send_to(address(&system.origins[0].api));
}

/// The same person with the session that succeeds theirs.
async fn refreshed(system: &System, client: &Client) -> Client {
    system.forget_address_limits().await;
    let body = json!({"refresh_token": client.refresh_token});
    let answer = system.client().post("/v1/auth/refresh", body).await.expect(200);
    let mut successor = client.clone();
    successor.adopt(&answer);
    successor
}

async fn confirm(system: &System, mailbox: &Mailbox, address: &str, nth: usize) {
    let token = mailbox.nth(address, nth).await.token().expect("a token");
    system.client().post("/v1/auth/verify", json!({"token": token})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_is_recorded_once_although_origins_die() {
    let mailbox = Mailbox::start().await;
    let settings = mailbox.settings("allow");
    let mut system = System::with(Options { origins: 2, settings, ..Options::default() }).await;
    let (ada, bo, cy) =
        (system.register("Ada").await, system.register("Bo").await, system.register("Cy").await);
    let administer = |system: &System, arguments: &[&str]| {
        let (succeeded, output) = Origin::command(&system.environment(), arguments);
        assert!(succeeded, "{output}");
    };
    let circle = ada.create_circle("private").await;
    let path = format!("/v1/circles/{circle}");
    bo.join(&circle, &ada).await;
    cy.join(&circle, &ada).await;
    ada.patch(&path, json!({"name": "Another"})).await.expect(200);
    let wanted = ada.get("/v1/me/preferences").await.expect(200).body.to_string().into_bytes();
    ada.send(reqwest::Method::PUT, "/v1/me/preferences", &[], Some(wanted)).await.expect(200);
    let member = format!("{path}/members/{}", bo.user);
    ada.patch(&member, json!({"role": "moderator"})).await.expect(200);
    die(&mut system, &ada).await;
    ada.delete(&format!("{member}?ban=true")).await.expect(204);
    ada.delete(&format!("{path}/bans/{}", bo.user)).await.expect(204);
    let offer = json!({"user": cy.user}).to_string().into_bytes();
    let ownership = format!("{path}/ownership");
    ada.send(reqwest::Method::PUT, &ownership, &[], Some(offer)).await.expect(200);
    cy.delete(&ownership).await.expect(204);
    let said = cy.say(&circle, "Buy this.").await;
    ada.post(&format!("{path}/messages/{said}/report"), json!({"reason": "spam"})).await.expect(201);
    ada.post(&format!("{path}/reports/{said}/decide"), json!({"decision": "dismiss"})).await.expect(200);
    cy.post("/v1/me/export", Value::Null).await.expect(202);
    cy.delete(&format!("{path}/members/me")).await.expect(204);
    ada.patch(&path, json!({"visibility": "public", "join_policy": "on_request"})).await.expect(200);
    cy.post(&format!("{path}/join-requests"), json!({})).await.expect(201);
    let decline = format!("{path}/join-requests/{}/decline", cy.user);
    ada.post(&decline, json!({})).await.expect(204);
    let invite = ada.post(&format!("{path}/invites"), json!({})).await.expect(201).text("/id");
    ada.delete(&format!("{path}/invites/{invite}")).await.expect(204);
    ada.say(&circle, "Nobody's business.").await;
    ada.delete(&path).await.expect(204);
    ada.post(&format!("{path}/restore"), json!({})).await.expect(200);
    die(&mut system, &ada).await;
    confirm(&system, &mailbox, &ada.email, 1).await;
    let moved = json!({"email": "moved@example.org", "password": PASSWORD});
    cy.post("/v1/me/email", moved).await.expect(202);
    confirm(&system, &mailbox, "moved@example.org", 1).await;
    let phone = ada.log_in().await;
    ada.delete(&format!("/v1/me/sessions/{}", phone.session)).await.expect(204);
    ada.post("/v1/me/password", json!({"current": PASSWORD, "new": "another horse battery"}))
        .await
        .expect(204);
    let second = refreshed(&system, &cy).await;
    refreshed(&system, &second).await;
    system.sql(&format!(
        "update sessions set first_used_at = now() - interval '61 seconds' where id = '{}'",
        second.session
    ));
    system.client().post("/v1/auth/refresh", json!({"refresh_token": cy.refresh_token})).await.expect(401);
    administer(&system, &["admin", "suspend", &bo.email]);
    administer(&system, &["admin", "restore", &bo.email]);
    let erasure = json!({"password": PASSWORD, "messages": "keep"}).to_string().into_bytes();
    bo.log_in().await.send(reqwest::Method::DELETE, "/v1/me", &[], Some(erasure)).await.expect(202);
    administer(&system, &["admin", "grant", &ada.email]);
    let copy = Key::circle(circle.parse().unwrap()).name().replace('{', "%7B").replace('}', "%7D");
    ada.delete(&format!("/v1/admin/cache/{copy}")).await.expect(200);
    die(&mut system, &ada).await;

    let missing = MISSING.replace("{kinds}", &KEPT.join(" "));
    let deadline = optimist_tests::patience();
    while !system.sql(&missing).is_empty() {
        assert!(Instant::now() < deadline, "not recorded: {}", system.sql(&missing));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let kinds = |table: &str| -> BTreeSet<String> {
        system.sql(&format!("select distinct kind from {table}")).lines().map(str::to_owned).collect()
    };
    assert_eq!(kinds("audit"), KEPT.map(str::to_owned).into(), "each kind, and no other");
    let others: BTreeSet<String> = kinds("outbox").difference(&kinds("audit")).cloned().collect();
    let unknown: Vec<_> = others.iter().filter(|kind| !LEFT_OUT.contains(&kind.as_str())).collect();
    assert!(unknown.is_empty(), "neither kept nor left out: {unknown:?}");
    assert_eq!(
        system.sql("select count(*) - count(distinct (xid, seq)) from audit"),
        "0",
        "each is recorded once"
    );
    assert_eq!(
        system.sql(&format!(
            "select count(*) from outbox where kind = any(string_to_array('{}', ' '))",
            KEPT.join(" ")
        )),
        system.sql("select count(*) from audit")
    );
}
