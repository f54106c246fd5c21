//! Journals: entries, moods, prompts, tags and streaks; only their writer sees them.

use optimist_tests::{Answer, Client};
use reqwest::Method;
use serde_json::{Value, json};

use super::drafts::{ENTRIES, new_draft, put, save, texts};
use super::{on_system, problem};

#[test]
fn an_entry_clears_its_draft_and_keeps_former_versions() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let path = new_draft();
        save(&ada, &path, "Dear diary", Value::Null).await;
        let prompts = ada.get("/v1/journal/prompts").await.expect(200);
        let prompt = prompts.body["items"][0]["id"].clone();
        let body = json!({
            "draft_id": path.rsplit('/').next().unwrap(), "title": "Monday", "body": "Dear diary.",
            "tags": ["Sleep"], "mood": 4, "prompt_id": prompt,
        });
        let key = [("idempotency-key", "entry")];
        let send = || ada.send(Method::POST, ENTRIES, &key, Some(body.to_string().into_bytes()));
        let saved = send().await.expect(201);
        assert_eq!(saved.body["prompt_id"], prompt);
        let entry = saved.header("location").to_owned();
        assert_eq!(send().await.expect(201).body, saved.body, "a repetition changes nothing");
        problem(ada.get(&path).await, 404);
        assert_eq!(ada.get("/v1/journal/drafts").await.expect(200).body["items"], json!([]));

        let read = ada.get(&entry).await.expect(200);
        assert_eq!(read.body, saved.body);
        let tag = read.header("etag").to_owned();
        ada.send(Method::GET, &entry, &[("if-none-match", &tag)], None).await.expect(304);
        let change = json!({"body": "Dear all.", "tags": []}).to_string().into_bytes();
        let matching = [("if-match", tag.as_str())];
        let edit = |change: Vec<u8>| ada.send(Method::PATCH, &entry, &matching, Some(change));
        let edited = edit(change.clone()).await.expect(200);
        assert_eq!(edited.body["title"], "Monday", "what is not named stays");
        assert_eq!((&edited.body["body"], &edited.body["tags"]), (&json!("Dear all."), &json!([])));
        problem(edit(change).await, 412);
        let kept = format!(
            "select count(*), max(version) from journal_entry_versions where entry_id = '{}'",
            read.body["id"].as_str().unwrap()
        );
        assert_eq!(system.sql(&kept), "1|1");
        ada.delete(&entry).await.expect(204);
        problem(ada.get(&entry).await, 404);
        problem(ada.delete(&entry).await, 404);
    });
}

#[test]
fn entries_are_found_by_tag_mood_and_day_page_after_page() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        for day in 1..=8 {
            let tags = if day % 2 == 0 { json!(["even", "all"]) } else { json!(["All"]) };
            let body = json!({
                "body": format!("Day {day}"), "tags": tags, "mood": 1 + day % 3, "entry_date": format!("2026-03-0{day}"),
            });
            ada.post(ENTRIES, body).await.expect(201);
        }
        let days = |answer: Answer| {
            let mut bodies = texts(&answer, "body").join(",");
            bodies.retain(|c| c.is_ascii_digit() || c == ',');
            (bodies, answer.body["next"].clone())
        };
        let found = async |query: &str| days(ada.get(&format!("{ENTRIES}?{query}")).await.expect(200));
        let search = async |body: Value| days(ada.post(&format!("{ENTRIES}/search"), body).await.expect(200));
        assert_eq!(found("").await.0, "8,7,6,5,4,3,2,1");
        assert_eq!(search(json!({})).await, found("").await);
        assert_eq!(search(json!({"tag": "even"})).await.0, "8,6,4,2");
        assert_eq!(search(json!({"tag": "EVEN ", "mood": 1})).await.0, "6");
        assert_eq!(search(json!({"tag": "nothing"})).await.0, "");
        assert_eq!(search(json!({"tag": "all", "from": "2026-03-03", "to": "2026-03-05"})).await.0, "5,4,3");
        assert_eq!(found("mood=1").await.0, "6,3");
        assert_eq!(found("from=2026-03-03&to=2026-03-05").await.0, "5,4,3");
        let (first, next) = search(json!({"tag": "all", "limit": 3})).await;
        let (second, _) = search(json!({"tag": "all", "limit": 3, "cursor": next})).await;
        assert_eq!((first.as_str(), second.as_str()), ("8,7,6", "5,4,3"));
        for (body, field) in [
            (json!({"cursor": "x"}), "cursor"),
            (json!({"limit": 101}), "limit"),
            (json!({"tag": ""}), "tag"),
            (json!({"tag": "x".repeat(41)}), "tag"),
            (json!({"colour": "red"}), "colour"),
        ] {
            let refused = problem(ada.post(&format!("{ENTRIES}/search"), body).await, 422);
            assert_eq!(refused["errors"][0]["field"], field, "{refused}");
        }
        // Logs have URLs: a tag does not belong there.
        let refused = problem(ada.get(&format!("{ENTRIES}?tag=even")).await, 400);
        assert_eq!(refused["errors"][0]["field"], "tag");
        for query in ["mood=6", "from=yesterday", "cursor=x", "colour=red"] {
            problem(ada.get(&format!("{ENTRIES}?{query}")).await, 400);
        }
        let recent = ada.get("/v1/journal/tags/recent").await.expect(200);
        assert_eq!(recent.body["items"], json!(["even", "all"]));
        let streak = ada.get("/v1/journal/streak").await.expect(200);
        assert_eq!((&streak.body["current"], &streak.body["longest"]), (&json!(0), &json!(8)));
        // Deleting a day breaks the run; writing it later restores the run.
        let listed = ada.get(&format!("{ENTRIES}?from=2026-03-04&to=2026-03-04")).await.expect(200);
        let fourth = listed.text("/items/0/id");
        ada.delete(&format!("{ENTRIES}/{fourth}")).await.expect(204);
        let longest = async || ada.get("/v1/journal/streak").await.expect(200).body["longest"].clone();
        assert_eq!(longest().await, 4);
        ada.post(ENTRIES, json!({"body": "Day 4", "entry_date": "2026-03-04"})).await.expect(201);
        assert_eq!(longest().await, 8);
    });
}

#[test]
fn moods_are_logged_and_listed() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let now = chrono::Utc::now();
        for (score, hours) in [(2, 3), (4, 1), (3, 2)] {
            let at = (now - chrono::Duration::hours(hours)).to_rfc3339();
            let body = json!({
                "score": score, "emotions": ["calm"], "note": "Slept well.", "tags": ["sleep"], "logged_at": at,
            });
            let mood = ada.post("/v1/mood", body).await.expect(201);
            assert_eq!(mood.body["emotions"], json!(["calm"]));
        }
        let scores = |answer: &Answer| {
            let items = answer.body["items"].as_array().unwrap().clone();
            items.iter().map(|item| item["score"].as_i64().unwrap()).collect::<Vec<_>>()
        };
        let first = ada.get("/v1/mood?limit=2").await.expect(200);
        assert_eq!(scores(&first), [4, 3], "by the time that they are of");
        assert_eq!(first.body["items"][0]["note"], "Slept well.");
        let next = first.text("/next");
        let second = ada.get(&format!("/v1/mood?limit=2&cursor={next}")).await.expect(200);
        assert_eq!((scores(&second), &second.body["next"]), (vec![2], &Value::Null));
        for (body, field) in [
            (json!({"score": 0}), "score"),
            (json!({"score": 6}), "score"),
            (json!({"score": 3, "logged_at": (now + chrono::Duration::hours(1)).to_rfc3339()}), "logged_at"),
            (json!({"score": 3, "note": "x".repeat(2_001)}), "note"),
        ] {
            let refused = problem(ada.post("/v1/mood", body).await, 422);
            assert_eq!(refused["errors"][0]["field"], field, "{refused}");
        }
    });
}

#[test]
fn a_mood_is_changed_and_deleted_by_its_owner_alone() {
    on_system(|system| async move {
        let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
        let logged = json!({"score": 2, "emotions": ["tired"], "note": "Rain.", "tags": ["sleep"]});
        let logged = ada.post("/v1/mood", logged).await.expect(201);
        let (mood, tag) = (logged.header("location").to_owned(), logged.header("etag").to_owned());
        let read = ada.get(&mood).await.expect(200);
        assert_eq!((&read.body, read.header("etag")), (&logged.body, tag.as_str()));
        ada.send(Method::GET, &mood, &[("if-none-match", &tag)], None).await.expect(304);
        let edit = async |client: &Client, tag: &str, body: Value| {
            client.send(Method::PATCH, &mood, &[("if-match", tag)], Some(body.to_string().into_bytes())).await
        };
        let edited = edit(&ada, &tag, json!({"score": 4, "tags": []})).await.expect(200);
        assert_eq!((&edited.body["score"], &edited.body["tags"]), (&json!(4), &json!([])));
        assert_eq!((&edited.body["note"], &edited.body["emotions"]), (&json!("Rain."), &json!(["tired"])));
        let newest = edited.header("etag").to_owned();
        problem(edit(&ada, &tag, json!({"score": 1})).await, 412);
        let earlier =
            ada.patch(&mood, json!({"logged_at": "2026-03-01T08:00:00Z", "note": ""})).await.expect(200);
        assert!(earlier.body["logged_at"].as_str().unwrap().starts_with("2026-03-01T08:00:00"));
        assert_eq!(ada.get("/v1/mood").await.expect(200).body["items"], json!([earlier.body]));
        let later = (chrono::Utc::now() + chrono::Duration::hours(1)).to_rfc3339();
        for (body, field) in [
            (json!({"score": 6}), "score"),
            (json!({"score": null}), "score"),
            (json!({"logged_at": later}), "logged_at"),
            (json!({"mood": 3}), "mood"),
            (json!({}), "body"),
        ] {
            let refused = problem(ada.patch(&mood, body).await, 422);
            assert_eq!(refused["errors"][0]["field"], field, "{refused}");
        }
        problem(bo.get(&mood).await, 404);
        problem(edit(&bo, "*", json!({"score": 1})).await, 404);
        problem(bo.delete(&mood).await, 404);
        problem(system.client().delete(&mood).await, 401);
        problem(ada.send(Method::DELETE, &mood, &[("if-match", &newest)], None).await, 412);
        let tag = earlier.header("etag");
        ada.send(Method::DELETE, &mood, &[("if-match", tag)], None).await.expect(204);
        for gone in
            [ada.get(&mood).await, ada.delete(&mood).await, edit(&ada, "*", json!({"score": 1})).await]
        {
            problem(gone, 404);
        }
        assert_eq!(ada.get("/v1/mood").await.expect(200).body["items"], json!([]));
    });
}

#[test]
fn prompts_come_by_category() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let all = ada.get("/v1/journal/prompts?limit=100").await.expect(200);
        let count = all.body["items"].as_array().unwrap().len();
        assert!(count >= 12, "{count}");
        assert!(ada.get("/v1/journal/prompts?limit=100").await.expect(200).is_hit());
        let category = all.text("/items/0/category");
        let some = ada.get(&format!("/v1/journal/prompts?category={category}")).await.expect(200);
        assert!(texts(&some, "category").iter().all(|found| *found == category));
        assert!((1..count).contains(&some.body["items"].as_array().unwrap().len()));
        let first = ada.get("/v1/journal/prompts?limit=5").await.expect(200);
        let next = first.text("/next");
        let second = ada.get(&format!("/v1/journal/prompts?limit=5&cursor={next}")).await.expect(200);
        assert_eq!([texts(&first, "id"), texts(&second, "id")].concat(), texts(&all, "id")[..10]);
    });
}

#[test]
fn what_one_writes_is_nobody_elses() {
    on_system(|system| async move {
        let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
        let path = new_draft();
        save(&ada, &path, "Ada's", Value::Null).await;
        let entry = ada.post(ENTRIES, json!({"body": "Ada's", "tags": ["ada"]})).await.expect(201);
        let entry = entry.header("location").to_owned();
        ada.post("/v1/mood", json!({"score": 1})).await.expect(201);
        for other in [&path, &entry] {
            problem(bo.get(other).await, 404);
            problem(bo.delete(other).await, 404);
        }
        problem(bo.patch(&entry, json!({"body": "Bo's"})).await, 404);
        for list in ["/v1/journal/drafts", ENTRIES, "/v1/journal/tags/recent", "/v1/mood"] {
            assert_eq!(bo.get(list).await.expect(200).body["items"], json!([]), "{list}");
        }
        // The same id is a different draft for another person.
        save(&bo, &path, "Bo's", Value::Null).await;
        let id = path.rsplit('/').next().unwrap();
        bo.post(ENTRIES, json!({"draft_id": id, "body": "Bo's"})).await.expect(201);
        assert_eq!(ada.get(&path).await.expect(200).body["body"], "Ada's");
        assert_eq!(ada.get(&entry).await.expect(200).body["body"], "Ada's");
        let nobody = system.client();
        for read in [&path, &entry, "/v1/journal/drafts", ENTRIES, "/v1/mood", "/v1/journal/streak"] {
            problem(nobody.get(read).await, 401);
        }
        problem(put(&nobody, &path, json!({"body": "x", "base_version": null})).await, 401);
        problem(nobody.post(ENTRIES, json!({"body": "x"})).await, 401);
        problem(nobody.post(&format!("{ENTRIES}/search"), json!({})).await, 401);
        let searched = bo.post(&format!("{ENTRIES}/search"), json!({"tag": "ada"})).await.expect(200);
        assert_eq!(searched.body["items"], json!([]));
    });
}

#[test]
fn what_is_not_a_draft_or_an_entry_is_refused_by_field() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let path = new_draft();
        for (body, field) in [
            (json!({"body": "x".repeat(50_001), "base_version": null}), "body"),
            (json!({"body": "x", "title": "x".repeat(2_001), "base_version": null}), "title"),
            (json!({"body": "x", "mood": 6, "base_version": null}), "mood"),
            (json!({"body": "x", "tags": vec!["t"; 51], "base_version": null}), "tags"),
            (json!({"body": "x", "tags": ["t".repeat(101)], "base_version": null}), "tags[0]"),
            (json!({"body": "x", "base_version": "newest"}), "base_version"),
        ] {
            let refused = problem(put(&ada, &path, body).await, 422);
            assert_eq!(refused["errors"][0]["field"], field, "{refused}");
        }
        problem(put(&ada, &path, json!({"body": "x"})).await, 422);
        // A draft may be empty, and may have the full length.
        let long = "\u{1f331}".repeat(50_000);
        let version = save(&ada, &path, &long, Value::Null).await;
        save(&ada, &path, "", version).await;
        let tomorrow = (chrono::Utc::now() + chrono::Duration::days(2)).date_naive();
        for (body, field) in [
            (json!({"body": ""}), "body"),
            (json!({"body": "x", "entry_date": tomorrow}), "entry_date"),
            (json!({"body": "x", "prompt_id": uuid::Uuid::nil()}), "prompt_id"),
        ] {
            let refused = problem(ada.post(ENTRIES, body).await, 422);
            assert_eq!(refused["errors"][0]["field"], field, "{refused}");
        }
    });
}

/// The former versions of an entry, newest first.
fn former_versions(system: &optimist_tests::System, entry: &str) -> String {
    let id = entry.rsplit('/').next().unwrap();
    system.sql(&format!(
        "select coalesce(string_agg(version::text, ',' order by version desc), '') from journal_entry_versions
         where entry_id = '{id}'"
    ))
}

#[test]
fn an_entry_keeps_its_twenty_newest_texts_each_once() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let body = json!({"title": "Monday", "body": "0"});
        let entry = ada.post(ENTRIES, body).await.expect(201).header("location").to_owned();
        for change in [
            json!({"mood": 3}),
            json!({"mood": null}),
            json!({"tags": ["rain"]}),
            json!({"entry_date": "2026-03-01"}),
            json!({"body": "0", "title": "Monday"}),
        ] {
            ada.patch(&entry, change).await.expect(200);
        }
        assert_eq!(former_versions(system, &entry), "", "the text is the same");
        // Two texts in turn, and another title.
        for change in
            [json!({"body": "1"}), json!({"body": "0"}), json!({"body": "1"}), json!({"title": "Tuesday"})]
        {
            ada.patch(&entry, change).await.expect(200);
        }
        assert_eq!(former_versions(system, &entry), "9,8");
        for number in 2..30 {
            ada.patch(&entry, json!({"body": number.to_string()})).await.expect(200);
        }
        let newest: Vec<String> = (18..38).rev().map(|version| version.to_string()).collect();
        assert_eq!(former_versions(system, &entry), newest.join(","));
        assert_eq!(ada.get(&entry).await.expect(200).body["body"], "29");
    });
}

/// All items of a list, page by page, and the bytes of the longest page.
async fn all_pages(client: &Client, list: &str, field: &str) -> (Vec<String>, usize) {
    let (mut found, mut longest, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let page = client.get(&format!("{list}?limit=100{cursor}")).await.expect(200);
        longest = longest.max(page.body.to_string().len());
        found.extend(texts(&page, field).into_iter().map(|text| text.chars().take(3).collect()));
        let Some(next) = page.body["next"].as_str() else { return (found, longest) };
        cursor = format!("&cursor={next}");
    }
}

#[test]
fn a_page_of_long_texts_ends_before_it_is_too_long() {
    const MOST: usize = 256 * 1024;
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let long = |number: usize, length: usize| format!("{number:03}{}", "\u{1f331}".repeat(length));
        for number in 0..5 {
            system.forget_limits_of(&ada).await;
            let body = long(number, 30_000);
            let tag = format!("t{number}");
            ada.post(ENTRIES, json!({"body": body, "tags": [tag]})).await.expect(201);
            save(&ada, &new_draft(), &body, Value::Null).await;
        }
        for number in 0..45 {
            system.forget_limits_of(&ada).await;
            ada.post("/v1/mood", json!({"score": 3, "note": long(number, 1_990)})).await.expect(201);
        }
        let newest = |count: usize| (0..count).rev().map(|number| format!("{number:03}")).collect::<Vec<_>>();
        for (list, field, count) in
            [(ENTRIES, "body", 5), ("/v1/journal/drafts", "body", 5), ("/v1/mood", "note", 45)]
        {
            let (found, longest) = all_pages(&ada, list, field).await;
            assert_eq!(found, newest(count), "{list}");
            assert!(longest < MOST + 16 * 1024, "{list}: {longest}");
        }
        let recent = ada.get("/v1/journal/tags/recent").await.expect(200);
        assert_eq!(recent.body["items"], json!(["t4", "t3"]));
    });
}

#[test]
fn a_tag_is_the_same_however_a_keyboard_spells_it() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
        let search = async |tag: &str| {
            let answer = ada.post(&format!("{ENTRIES}/search"), json!({"tag": tag})).await.expect(200);
            texts(&answer, "body").into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        for (body, tags) in [("1", json!([decomposed])), ("2", json!([composed, "Cafe\u{301}"]))] {
            let saved = ada.post(ENTRIES, json!({"body": body, "tags": tags})).await.expect(201);
            assert_eq!(saved.body["tags"], json!([composed]));
        }
        let mood = ada.post("/v1/mood", json!({"score": 3, "tags": [decomposed], "emotions": [decomposed]}));
        assert_eq!(mood.await.expect(201).body["tags"], json!([composed]));
        for tag in [composed, decomposed, "CAF\u{c9}"] {
            assert_eq!(search(tag).await, ["2", "1"], "{tag}");
        }
        assert_eq!(ada.get("/v1/journal/tags/recent").await.expect(200).body["items"], json!([composed]));
    });
}
