//! Reports of messages: who may make them, who sees them, who decides, and who is told what.

use optimist_tests::{Answer, Client, Origin, System, until};
use serde_json::{Value, json};

use super::trail::administrator;
use super::{Cast, on_system, problem};

async fn report(client: &Client, cast: &Cast, message: &str, reason: &str, text: &str) -> Answer {
    let path = cast.path(&format!("/messages/{message}/report"));
    client.post(&path, json!({"reason": reason, "text": text})).await
}

async fn decide(client: &Client, cast: &Cast, message: &str, decision: &str) -> Answer {
    client.post(&cast.path(&format!("/reports/{message}/decide")), json!({"decision": decision})).await
}

async fn cases(client: &Client, path: &str) -> Vec<Value> {
    client.get(path).await.expect(200).body["items"].as_array().unwrap().clone()
}

/// Somebody more in the circle.
async fn newcomer(system: &System, cast: &Cast, name: &str) -> Client {
    let person = system.register(name).await;
    person.join(&cast.circle, &cast.owner).await;
    person
}

/// What somebody is told about reports: kinds and messages, the latest first.
async fn told(client: &Client) -> Vec<(String, Value)> {
    let page = client.get("/v1/notifications").await.expect(200);
    let kinds = ["report", "upheld", "dismissed", "removed"];
    let items = page.body["items"].as_array().unwrap().iter();
    let ours = items.filter(|item| kinds.contains(&item["kind"].as_str().unwrap()));
    ours.map(|item| {
        assert!(item["actor"].is_null(), "it says who: {item}");
        (item["kind"].as_str().unwrap().to_owned(), item["message_id"].clone())
    })
    .collect()
}

async fn until_told(client: &Client, wanted: &[(&str, Value)]) {
    let wanted: Vec<(String, Value)> =
        wanted.iter().map(|(kind, message)| ((*kind).to_owned(), message.clone())).collect();
    until(&format!("told of {wanted:?}"), async || told(client).await == wanted).await;
}

#[test]
fn whoever_reads_a_message_reports_it_once_and_nobody_sees_who() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let Cast { owner, moderator, member, message, .. } = &cast;
        let rita = newcomer(system, &cast, "CanaryRita").await;
        for outsider in [&cast.former, &cast.banned, &cast.stranger] {
            problem(report(outsider, &cast, message, "spam", "").await, 404);
            problem(outsider.get(&cast.path("/reports")).await, 404);
        }
        let refused = problem(report(member, &cast, message, "spam", "").await, 409);
        assert_eq!(refused["errors"][0]["field"], "message");
        let nowhere = uuid::Uuid::now_v7().to_string();
        problem(report(&rita, &cast, &nowhere, "spam", "").await, 404);
        let refused = problem(report(&rita, &cast, message, "boring", "").await, 422);
        assert_eq!(refused["errors"][0]["field"], "reason");

        let made = report(&rita, &cast, message, "spam", "Third one today.").await.expect(201).body;
        assert_eq!((&made["reason"], &made["text"]), (&json!("spam"), &json!("Third one today.")));
        assert_eq!(report(&rita, &cast, message, "violence", "Again.").await.expect(200).body, made);
        until_told(owner, &[("report", json!(message))]).await;
        until_told(moderator, &[("report", json!(message))]).await;
        report(moderator, &cast, message, "harassment", "").await.expect(201);
        // An edit hides nothing.
        member
            .patch(&cast.path(&format!("/messages/{message}")), json!({"body": "Innocent."}))
            .await
            .expect(200);

        problem(member.get(&cast.path("/reports")).await, 403);
        let page = owner.get(&cast.path("/reports")).await.expect(200);
        let text = page.body.to_string();
        assert!(
            !text.contains("Rita") && !text.contains(&rita.user) && !text.contains(&moderator.user),
            "{text}"
        );
        let case = &page.body["items"][0];
        assert_eq!(
            (&case["id"], &case["state"], &case["reports"]),
            (&json!(message), &json!("open"), &json!(2))
        );
        assert_eq!((&case["reasons"]["spam"], &case["reasons"]["harassment"]), (&json!(1), &json!(1)));
        assert_eq!(case["texts"].as_array().unwrap().len(), 1);
        assert_eq!(case["texts"][0]["text"], "Third one today.");
        assert_eq!(case["message"]["body"], "Good morning.");
        assert_eq!(case["message"]["author"]["id"], member.user.as_str());
        assert!(cases(owner, &cast.path("/reports?state=decided")).await.is_empty());
        for query in ["state=closed", "limit=0", "cursor=x", "order=new"] {
            problem(owner.get(&cast.path(&format!("/reports?{query}"))).await, 400);
        }
        assert!(told(member).await.is_empty(), "whoever is reported knows it");
        assert_eq!(told(owner).await.len(), 1, "one case is told once");
    });
}

#[test]
fn a_decision_is_told_to_both_sides_and_a_new_report_opens_the_case_anew() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let Cast { owner, moderator, member, message, .. } = &cast;
        let rita = newcomer(system, &cast, "Rita").await;
        problem(decide(owner, &cast, message, "dismiss").await, 404);
        report(&rita, &cast, message, "spam", "").await.expect(201);
        problem(decide(&rita, &cast, message, "dismiss").await, 403);
        problem(decide(&cast.stranger, &cast, message, "dismiss").await, 404);
        problem(decide(owner, &cast, message, "burn").await, 422);

        let decided = decide(moderator, &cast, message, "dismiss").await.expect(200).body;
        assert_eq!((&decided["state"], &decided["message"]["body"]), (&json!("dismissed"), &json!("")));
        assert_eq!(decided["decided_by"]["id"], moderator.user.as_str());
        decide(owner, &cast, message, "dismiss").await.expect(200);
        assert_eq!(problem(decide(owner, &cast, message, "remove").await, 409)["code"], "conflict");
        until_told(&rita, &[("dismissed", json!(message))]).await;
        assert!(cases(owner, &cast.path("/reports")).await.is_empty());
        assert_eq!(cases(owner, &cast.path("/reports?state=decided")).await.len(), 1);
        // Rita has said it; somebody else may find the same.
        report(&rita, &cast, message, "spam", "").await.expect(200);
        assert!(cases(owner, &cast.path("/reports")).await.is_empty());

        let roy = newcomer(system, &cast, "Roy").await;
        report(&roy, &cast, message, "sexual", "Look.").await.expect(201);
        let case = cases(owner, &cast.path("/reports")).await.remove(0);
        assert_eq!((&case["reports"], &case["reasons"]["spam"]), (&json!(1), &json!(0)));
        let removed = decide(owner, &cast, message, "remove").await.expect(200).body;
        assert_eq!(removed["state"], "removed");
        problem(rita.get(&cast.path(&format!("/messages/{message}"))).await, 404);
        until_told(&roy, &[("upheld", Value::Null)]).await;
        until_told(member, &[("removed", Value::Null)]).await;
        problem(report(owner, &cast, message, "spam", "").await, 404);
        until_told(&rita, &[("dismissed", json!(message))]).await;
    });
}

#[test]
fn a_deletion_decides_too() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let Cast { owner, moderator, member, message, .. } = &cast;
        let rita = newcomer(system, &cast, "Rita").await;
        report(&rita, &cast, message, "spam", "").await.expect(201);
        member.delete(&cast.path(&format!("/messages/{message}"))).await.expect(204);
        until_told(&rita, &[("upheld", Value::Null)]).await;
        let case = cases(owner, &cast.path("/reports?state=decided")).await.remove(0);
        assert_eq!((&case["state"], &case["decided_by"]), (&json!("removed"), &Value::Null));
        let other = member.say(&cast.circle, "Buy this.").await;
        report(&rita, &cast, &other, "spam", "").await.expect(201);
        moderator.delete(&cast.path(&format!("/messages/{other}"))).await.expect(204);
        until_told(member, &[("removed", Value::Null)]).await;
        assert_eq!(told(&rita).await.len(), 2);
    });
}

#[test]
fn nobody_decides_about_themselves_or_those_above_them() {
    on_system(|system| async move {
        let root = administrator(system).await;
        let cast = Cast::new(system, "private").await;
        let Cast { owner, moderator, member, message, .. } = &cast;
        let by_moderator = moderator.say(&cast.circle, "Be quiet.").await;
        let by_owner = owner.say(&cast.circle, "Be quiet, all of you.").await;
        for message in [&by_moderator, &by_owner] {
            report(member, &cast, message, "harassment", "Rude.").await.expect(201);
        }
        report(owner, &cast, message, "self_harm", "I worry.").await.expect(201);
        for (client, message) in [(moderator, &by_moderator), (moderator, &by_owner), (owner, &by_owner)] {
            problem(decide(client, &cast, message, "dismiss").await, 403);
        }
        for (_, client) in cast.everyone() {
            problem(client.get("/v1/admin/reports").await, 403);
            let path = format!("/v1/admin/circles/{}/reports/{by_owner}/decide", cast.circle);
            problem(client.post(&path, json!({"decision": "dismiss"})).await, 403);
        }
        let queue = |cases: Vec<Value>| -> Vec<String> {
            let ours = cases.into_iter().filter(|case| case["circle_id"] == cast.circle.as_str());
            ours.map(|case| case["id"].as_str().unwrap().to_owned()).collect()
        };
        let escalated = queue(cases(&root, "/v1/admin/reports?limit=100").await);
        assert_eq!(escalated, [by_owner.clone(), by_moderator.clone(), message.clone()]);
        decide(owner, &cast, &by_moderator, "dismiss").await.expect(200);
        let path = format!("/v1/admin/circles/{}/reports/{by_owner}/decide", cast.circle);
        root.post(&path, json!({"decision": "remove"})).await.expect(200);
        problem(member.get(&cast.path(&format!("/messages/{by_owner}"))).await, 404);
        until_told(member, &[("upheld", Value::Null), ("dismissed", json!(by_moderator))]).await;
        // What moderators pass on.
        let other = member.say(&cast.circle, "Hm.").await;
        report(owner, &cast, &other, "other", "").await.expect(201);
        assert_eq!(decide(moderator, &cast, &other, "escalate").await.expect(200).body["state"], "escalated");
        decide(moderator, &cast, &other, "escalate").await.expect(200);
        assert_eq!(queue(cases(&root, "/v1/admin/reports?limit=100").await), [other, message.clone()]);
    });
}

#[test]
fn whoever_has_blocked_the_author_decides_by_what_others_say() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let Cast { owner, moderator, member, message, .. } = &cast;
        report(moderator, &cast, message, "spam", "Advertises.").await.expect(201);
        owner
            .send(reqwest::Method::PUT, &format!("/v1/me/blocks/{}", member.user), &[], None)
            .await
            .expect(204);
        let case = cases(owner, &cast.path("/reports")).await.remove(0);
        assert_eq!(case["message"], json!({"id": message, "number": 1, "hidden": true}));
        assert_eq!(case["texts"][0]["text"], "Advertises.");
        owner
            .send(reqwest::Method::PUT, &format!("/v1/me/blocks/{}", moderator.user), &[], None)
            .await
            .expect(204);
        assert_eq!(cases(owner, &cast.path("/reports")).await[0]["texts"], json!([]));
        decide(owner, &cast, message, "remove").await.expect(200);
    });
}

#[test]
fn an_archived_circle_has_its_moderators_still() {
    on_system(|system| async move {
        let cast = Cast::new(system, "public").await;
        let Cast { owner, moderator, member, message, circle, .. } = &cast;
        let other = member.say(circle, "Buy now.").await;
        report(owner, &cast, message, "spam", "").await.expect(201);
        owner.delete(&cast.path("")).await.expect(204);
        report(owner, &cast, &other, "spam", "").await.expect(201);
        problem(decide(member, &cast, message, "dismiss").await, 403);
        problem(decide(&cast.stranger, &cast, message, "dismiss").await, 404);
        decide(moderator, &cast, message, "dismiss").await.expect(200);
        decide(moderator, &cast, &other, "remove").await.expect(200);
        problem(owner.get(&cast.path(&format!("/messages/{other}"))).await, 404);
        // Nothing else about it changes.
        problem(owner.patch(&cast.path(""), json!({"name": "Open again"})).await, 409);
    });
}

#[test]
fn what_was_decided_long_ago_is_removed_and_what_is_open_stays() {
    on_system(|system| async move {
        let cast = Cast::new(system, "public").await;
        let Cast { owner, member, message, circle, .. } = &cast;
        let (dismissed, open) = (member.say(circle, "Buy.").await, member.say(circle, "Buy now.").await);
        for reported in [message, &dismissed, &open] {
            report(owner, &cast, reported, "spam", "").await.expect(201);
        }
        for decided in [message, &dismissed] {
            decide(owner, &cast, decided, "dismiss").await.expect(200);
        }
        // More than one statement removes, and of the first message alone.
        system.sql(&format!(
            "insert into reports (message_id, reporter_id, round, reason, body)
             select '{message}', gen_random_uuid(), 1, 'other', 'x' from generate_series(1, 1500);
             update report_cases set decided_at = now() - interval '91 days' where message_id = '{message}';
             update report_cases set decided_at = now() - interval '89 days' where message_id = '{dismissed}'"
        ));
        let (succeeded, output) = Origin::command(&system.environment(), &["jobs", "run", "reports.clean"]);
        assert!(succeeded, "{output}");
        for table in ["reports", "report_cases"] {
            let left = system.sql(&format!(
                "select message_id from {table} where message_id in ('{message}', '{dismissed}', '{open}')"
            ));
            let mut left: Vec<&str> = left.lines().collect();
            left.sort_unstable();
            let mut wanted = [dismissed.as_str(), open.as_str()];
            wanted.sort_unstable();
            assert_eq!(left, wanted, "{table}");
        }
        assert_eq!(cases(owner, &cast.path("/reports")).await[0]["message"]["id"], json!(open));
    });
}

#[test]
fn a_hundred_reports_of_a_message_are_enough_and_a_person_has_a_thousand() {
    on_system(|system| async move {
        let cast = Cast::new(system, "public").await;
        let Cast { owner, message, stranger, circle, .. } = &cast;
        report(owner, &cast, message, "spam", "").await.expect(201);
        system.sql(&format!(
            "insert into reports (message_id, reporter_id, round, reason, body)
             select '{message}', gen_random_uuid(), 1, 'other', 'x' from generate_series(1, 99)"
        ));
        // Readers report as members do.
        report(stranger, &cast, message, "violence", "").await.expect(201);
        let case = cases(owner, &cast.path("/reports")).await.remove(0);
        assert_eq!((&case["reports"], &case["reasons"]["violence"]), (&json!(100), &json!(0)));
        system.sql(&format!(
            "with cases as (
                 insert into report_cases (message_id, circle_id, author_id, number, body, state)
                 select gen_random_uuid(), '{circle}', '{0}', 1, '', 'open' from generate_series(1, 1000) returning message_id)
             insert into reports (message_id, reporter_id, round, reason, body)
             select message_id, '{0}', 1, 'spam', '' from cases",
            stranger.user
        ));
        let other = owner.say(circle, "Hello.").await;
        let refused = problem(report(stranger, &cast, &other, "spam", "").await, 422);
        assert_eq!((&refused["code"], &refused["limit"]), (&json!("quota-exceeded"), &json!("reports")));
    });
}
