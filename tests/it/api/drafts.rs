//! Drafts: saved while typing, kept apart where two tabs differ, and bounded in number and bytes.

use optimist_tests::{Answer, Client};
use reqwest::Method;
use serde_json::{Value, json};

use super::{on_system, problem};

pub const ENTRIES: &str = "/v1/journal/entries";

pub fn new_draft() -> String {
    format!("/v1/journal/drafts/{}", uuid::Uuid::now_v7())
}

pub async fn put(client: &Client, path: &str, body: Value) -> Answer {
    client.send(Method::PUT, path, &[], Some(body.to_string().into_bytes())).await
}

/// Saves a text over the `base` version; returns the next version.
pub async fn save(client: &Client, path: &str, body: &str, base: Value) -> Value {
    let answer = put(client, path, json!({"body": body, "base_version": base})).await.expect(200);
    assert_eq!(answer.body["promise"], "redis");
    assert!(answer.body["saved_at"].is_string());
    answer.body["version"].clone()
}

pub fn texts<'a>(answer: &'a Answer, field: &str) -> Vec<&'a str> {
    answer.body["items"].as_array().unwrap().iter().map(|item| item[field].as_str().unwrap()).collect()
}

#[test]
fn a_draft_is_read_as_it_was_saved_last() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let path = new_draft();
        problem(ada.get(&path).await, 404);
        let first = save(&ada, &path, "Dear", Value::Null).await;
        let content = json!({
            "title": "Monday ", "body": "Dear diary,\n ", "tags": ["Sleep", "sleep", "rain"], "mood": 4,
            "base_version": first,
        });
        let second = put(&ada, &path, content).await.expect(200).body["version"].clone();
        assert_ne!(first, second);
        let draft = ada.get(&path).await.expect(200);
        assert_eq!(draft.header("cache-control"), "private, no-cache");
        assert_eq!(draft.body["version"], second);
        assert_eq!(draft.body["title"], "Monday ", "in the midst of it");
        assert_eq!(draft.body["body"], "Dear diary,\n ");
        assert_eq!(draft.body["tags"], json!(["Sleep", "sleep", "rain"]), "as they were typed");
        assert_eq!(draft.body["mood"], 4);
        let other = new_draft();
        save(&ada, &other, "Another", Value::Null).await;
        let listed = ada.get("/v1/journal/drafts").await.expect(200);
        assert_eq!(texts(&listed, "body"), ["Another", "Dear diary,\n "], "the newest first");
        ada.delete(&path).await.expect(204);
        problem(ada.get(&path).await, 404);
        problem(ada.delete(&path).await, 404);
        assert_eq!(texts(&ada.get("/v1/journal/drafts").await.expect(200), "body"), ["Another"]);
        // A discarded draft stays discarded; a late text is kept as a sibling.
        let late = put(&ada, &path, json!({"body": "Late", "base_version": second})).await.expect(409);
        assert_eq!((&late.body["current"], &late.body["sibling"]["body"]), (&Value::Null, &json!("Late")));
    });
}

#[test]
fn two_tabs_lose_no_edit() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let path = new_draft();
        let base = save(&ada, &path, "Both saw this.", Value::Null).await;
        let here = save(&ada, &path, "One went on here.", base.clone()).await;
        let body = json!({"body": "The other went on there.", "tags": ["kept"], "base_version": base});
        let refused = put(&ada, &path, body).await.expect(409);
        assert_eq!(refused.header("content-type"), "application/problem+json");
        assert_eq!(refused.body["code"], "conflict");
        assert_eq!(refused.body["current"]["version"], here);
        assert_eq!(refused.body["current"]["body"], "One went on here.");
        // Sending the same text again returns the same sibling.
        let body = json!({"body": "The other went on there.", "tags": ["kept"], "base_version": base});
        let again = put(&ada, &path, body).await.expect(409);
        assert_eq!(again.body["sibling"], refused.body["sibling"]);
        let sibling = &refused.body["sibling"];
        assert_eq!(sibling["body"], "The other went on there.");
        let id = path.rsplit('/').next().unwrap();
        assert_eq!(sibling["sibling_of"], id);
        // A sibling is a draft like any other.
        let sibling_path = format!("/v1/journal/drafts/{}", sibling["id"].as_str().unwrap());
        assert_eq!(ada.get(&sibling_path).await.expect(200).body["tags"], json!(["kept"]));
        save(&ada, &sibling_path, "And further.", sibling["version"].clone()).await;
        assert_eq!(ada.get(&path).await.expect(200).body["body"], "One went on here.");
        // Creating a draft that exists is a conflict too.
        let created = put(&ada, &path, json!({"body": "New?", "base_version": null})).await.expect(409);
        assert_eq!(created.body["current"]["body"], "One went on here.");
        let listed = ada.get("/v1/journal/drafts").await.expect(200);
        assert_eq!(texts(&listed, "body"), ["New?", "And further.", "One went on here."]);
    });
}

#[test]
fn a_save_whose_answer_was_lost_may_be_sent_again() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let path = new_draft();
        let first = save(&ada, &path, "Dear", Value::Null).await;
        assert_eq!(save(&ada, &path, "Dear", Value::Null).await, first);
        let second = save(&ada, &path, "Dear diary", first.clone()).await;
        assert_eq!(save(&ada, &path, "Dear diary", first.clone()).await, second);
        // Another text conflicts, and so do other tags.
        put(&ada, &path, json!({"body": "Dear me", "base_version": first})).await.expect(409);
        let tagged = json!({"body": "Dear diary", "tags": ["rain"], "base_version": first});
        put(&ada, &path, tagged).await.expect(409);
        assert_eq!(
            ada.get("/v1/journal/drafts").await.expect(200).body["items"].as_array().unwrap().len(),
            3
        );
    });
}

#[test]
fn saves_of_one_draft_are_charged_less_often_than_they_come() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let path = new_draft();
        let mut version = Value::Null;
        for number in 0..60 {
            version = save(&ada, &path, &format!("{number}"), version).await;
        }
        let mut drafts = 1;
        // The two-minute window may have ended meanwhile, so that the one draft was charged twice.
        let refused = loop {
            let answer = put(&ada, &new_draft(), json!({"body": "x", "base_version": null})).await;
            if answer.status != 200 {
                break answer;
            }
            drafts += 1;
        };
        assert!((49..=50).contains(&drafts), "{drafts}");
        assert!(refused.header("retry-after").parse::<u32>().unwrap() > 3_400, "{refused:#?}");
        let problem = problem(refused, 429);
        assert_eq!(problem["limit"], "journal-autosaves-3600s", "{problem}");
        // Refused saves do not bypass the limit: each new text creates another draft.
        system.forget_limits_of(&ada).await;
        let mut kept = 0;
        loop {
            let answer = put(&ada, &path, json!({"body": format!("{kept}"), "base_version": null})).await;
            if answer.status != 409 {
                answer.expect(429);
                break;
            }
            kept += 1;
        }
        assert!((49..=50).contains(&kept), "{kept}");
    });
}

#[test]
fn drafts_have_a_quota_of_bytes() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let long = |number: usize| format!("{number:03}{}", "\u{1f331}".repeat(49_990));
        let (mut kept, mut refused) = (Vec::new(), None);
        for number in 0..30 {
            system.forget_limits_of(&ada).await;
            let path = new_draft();
            let answer = put(&ada, &path, json!({"body": long(number), "base_version": null})).await;
            if answer.status != 200 {
                refused = Some((path, answer));
                break;
            }
            kept.push((path, answer.body["version"].clone()));
        }
        let (path, answer) = refused.expect("a refusal");
        let refusal = problem(answer, 422);
        assert_eq!((&refusal["code"], &refusal["limit"]), (&json!("quota-exceeded"), &json!("drafts")));
        assert_eq!(kept.len(), 20, "of 200 KB each in 4 MiB");
        problem(ada.get(&path).await, 404);
        // A refused save charges nothing, and another person has a quota of their own.
        let bo = system.register("Bo").await;
        save(&bo, &path, "Bo's", Value::Null).await;
        // A conflict's text needs room too; a smaller draft has it.
        let (first, version) = kept[0].clone();
        problem(put(&ada, &first, json!({"body": long(99), "base_version": null})).await, 422);
        let version = save(&ada, &first, "Short.", version).await;
        save(&ada, &path, &long(98), Value::Null).await;
        problem(put(&ada, &first, json!({"body": long(97), "base_version": version})).await, 422);
        // So has whoever discards one, or saves it for good.
        ada.delete(&kept[1].0).await.expect(204);
        let version = save(&ada, &first, &long(97), version).await;
        let id = kept[2].0.rsplit('/').next().unwrap();
        problem(put(&ada, &new_draft(), json!({"body": long(1), "base_version": null})).await, 422);
        ada.post(ENTRIES, json!({"draft_id": id, "body": "For good"})).await.expect(201);
        save(&ada, &new_draft(), &long(1), Value::Null).await;
        // Redis has no more of one person than the quota, and little beside the texts.
        let mut redis = system.redis.connect().await;
        let mut bytes = 0;
        for pattern in ["draft:", "draft_sizes:"] {
            let keys: Vec<String> = redis::cmd("KEYS")
                .arg(format!("{pattern}*{}*", ada.user))
                .query_async(&mut redis)
                .await
                .unwrap();
            assert!(!keys.is_empty());
            for key in keys {
                let of_key: usize = redis::cmd("MEMORY")
                    .arg(&["USAGE", &key, "SAMPLES", "0"])
                    .query_async(&mut redis)
                    .await
                    .unwrap();
                bytes += of_key;
            }
        }
        println!("{bytes} bytes of Redis for one person's drafts");
        assert!(bytes < 5 * 1024 * 1024, "{bytes}");
        let _ = version;
    });
}

/// Whatever an entry refuses of what can be typed or pasted.
#[test]
fn a_draft_keeps_what_was_typed_and_the_final_save_says_what_is_wrong() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let long = "x".repeat(201);
        for (field, typed) in [
            ("title", json!("Mon\nday")),
            ("title", json!("Mon\u{2028}day\u{202e}")),
            ("title", json!(long)),
            ("body", json!("one\u{0}\u{7} control character")),
            ("body", json!("")),
            ("body", json!(" \n")),
            ("tags", json!(["rain", ""])),
            ("tags", json!(["rain\nsleep"])),
            ("tags", json!([long[..41]])),
            ("tags", json!(vec!["t"; 21])),
        ] {
            let path = new_draft();
            let mut draft = json!({"body": "Dear diary", "base_version": null});
            draft[field] = typed.clone();
            put(&ada, &path, draft).await.expect(200);
            let mut read = ada.get(&path).await.expect(200).body;
            assert_eq!(read[field], typed);
            let listed = ada.get("/v1/journal/drafts").await.expect(200);
            assert_eq!(listed.body["items"][0][field], typed);
            // The same as an entry, which is refused by its field; the draft stays.
            let content = ["title", "body", "tags"].map(|name| (name.to_owned(), read[name].take()));
            let mut entry = Value::Object(content.into_iter().collect());
            entry["draft_id"] = read["id"].take();
            let refused = problem(ada.post(ENTRIES, entry).await, 422);
            assert_eq!(refused["errors"][0]["field"], field, "{refused}");
            assert!(refused["errors"][0]["reason"].as_str().unwrap().starts_with("must "), "{refused}");
            ada.get(&path).await.expect(200);
        }
    });
}

/// Saves an entry of this draft.
async fn save_for_good(client: &Client, draft: &str, mut entry: Value) -> String {
    entry["draft_id"] = json!(draft.rsplit('/').next().unwrap());
    client.post(ENTRIES, entry).await.expect(201).text("/id")
}

async fn drafts_of(client: &Client) -> Vec<String> {
    let listed = client.get("/v1/journal/drafts").await.expect(200);
    texts(&listed, "body").into_iter().map(str::to_owned).collect()
}

#[test]
fn a_late_auto_save_becomes_no_draft_beside_its_entry() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let edit =
            |editor: u128, number: u32| json!({"editor": uuid::Uuid::from_u128(editor), "number": number});
        // An auto-save that was on its way: the last words are missing, one is typed half. Also a draft's first.
        for is_first in [false, true] {
            let path = new_draft();
            let base =
                if is_first { Value::Null } else { save(&ada, &path, "Dear diary", Value::Null).await };
            let final_save = json!({"title": "Monday", "body": "Dear diary, it rained.", "tags": ["Rain"]});
            let entry = save_for_good(&ada, &path, final_save).await;
            let late = json!({
                "title": "Mon", "body": "Dear diary, it ra", "tags": ["rain "], "mood": 2, "base_version": base,
            });
            for _ in 0..2 {
                let answer = put(&ada, &path, late.clone()).await.expect(409);
                assert_eq!(answer.header("content-type"), "application/problem+json");
                assert_eq!(answer.body["entry"], entry.as_str());
                assert_eq!((&answer.body["current"], &answer.body["sibling"]), (&Value::Null, &Value::Null));
            }
            assert_eq!(drafts_of(&ada).await, [""; 0]);
            problem(ada.get(&path).await, 404);
        }
        // Words that the entry lacks are kept, unless they are of an edit that it contains.
        let path = new_draft();
        let first = json!({"body": "I am sad", "edit": edit(1, 1), "base_version": null});
        let base = put(&ada, &path, first).await.expect(200).body["version"].clone();
        let entry = save_for_good(&ada, &path, json!({"body": "I am well", "edit": edit(1, 3)})).await;
        let send = async |text: &str, edit: Value| {
            let late = json!({"body": text, "edit": edit, "base_version": base});
            let answer = put(&ada, &path, late).await.expect(409);
            assert_eq!(answer.body["entry"], entry.as_str());
            answer.body["sibling"]["body"].clone()
        };
        assert_eq!(send("I am sad too", edit(1, 2)).await, Value::Null);
        assert_eq!(send("I am sad too", edit(1, 3)).await, Value::Null);
        assert_eq!(drafts_of(&ada).await, [""; 0]);
        assert_eq!(send("On the phone", edit(2, 2)).await, "On the phone", "another editor");
        assert_eq!(send("And afterwards", edit(1, 4)).await, "And afterwards", "a later edit");
        assert_eq!(send("Unnumbered", Value::Null).await, "Unnumbered");
        assert_eq!(drafts_of(&ada).await, ["Unnumbered", "And afterwards", "On the phone"]);
        // A deleted entry still tells what it had of its editor.
        ada.delete(&format!("{ENTRIES}/{entry}")).await.expect(204);
        assert_eq!(send("I am sad once more", edit(1, 2)).await, Value::Null);
        let refused = json!({"body": "x", "edit": {"editor": "me", "number": 1}, "base_version": null});
        let refused = problem(put(&ada, &path, refused).await, 422);
        assert_eq!(refused["errors"][0]["field"], "edit.editor");
    });
}
