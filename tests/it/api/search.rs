//! Search: what is found of messages, circles and people, where the words stand, and by whom nothing is found.

use std::collections::BTreeSet;

use optimist_tests::system::TOLD_CIRCLES;
use optimist_tests::{Answer, Client};
use reqwest::{Method, Url};
use serde_json::{Value, json};

use super::trail::administrator;
use super::{Cast, on_own_system, on_system, problem};

/// The path of a search.
pub fn path(parameters: &[(&str, &str)]) -> String {
    let url = Url::parse_with_params("http://edge/v1/search", parameters).unwrap();
    format!("{}?{}", url.path(), url.query().unwrap_or_default())
}

async fn search(client: &Client, parameters: &[(&str, &str)]) -> Answer {
    client.get(&path(parameters)).await
}

/// What was found: of each item, this part.
fn all(answer: &Answer, pointer: &str) -> BTreeSet<String> {
    let items = answer.body["items"].as_array().unwrap().iter();
    items.map(|item| item.pointer(pointer).and_then(Value::as_str).unwrap().to_owned()).collect()
}

/// The texts of the messages that a query finds in a circle.
async fn texts(client: &Client, circle: &str, query: &str) -> BTreeSet<String> {
    let answer = search(client, &[("q", query), ("circle", circle)]).await.expect(200);
    assert_eq!(answer.body["truncated"], false);
    all(&answer, "/message/body")
}

fn set<const N: usize>(texts: [&str; N]) -> BTreeSet<String> {
    texts.map(str::to_owned).into()
}

/// A word that no other test says.
fn word() -> String {
    format!("w{}", uuid::Uuid::new_v4().simple())
}

#[test]
fn messages_are_found_by_words_phrases_and_names() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let (member, circle) = (&cast.member, cast.circle.as_str());
        let said = [
            "The quick garden path",
            "Garden paths are quiet",
            "A path without flowers",
            "Straße nach MÜNCHEN, über Łódź",
            "我爱北京的早晨",
            "ガーデンの道",
            "Yes 👍🏽 party 🎉",
        ];
        for text in said {
            member.say(circle, text).await;
        }
        let owners = cast.owner.say(circle, "An owner's garden").await;
        let comments = format!("/messages/{owners}/comments");
        member.post(&cast.path(&comments), json!({"body": "Such a garden!"})).await.expect(201);
        let [quick, paths, without, street, beijing, katakana, party] = said;
        let (owner, comment) = ("An owner's garden", "Such a garden!");
        for (query, expected) in [
            ("garden path", set([quick, paths])),
            ("GÁRDEN, path!", set([quick, paths])),
            ("\"garden path\"", set([quick])),
            ("„quick garden“ path", set([quick])),
            ("path -garden", set([without])),
            ("path -\"garden paths\"", set([quick, without])),
            ("gard", set([quick, paths, owner, comment])),
            ("gard path", set([])),
            ("\"gard\"", set([])),
            ("owner's", set([owner])),
            ("strasse munchen", set([street])),
            ("STRAẞE LODZ uber", set([street])),
            ("北京", set([beijing])),
            ("早", set([beijing])),
            ("爱北京的", set([beijing])),
            ("京北", set([])),
            ("ｶﾞｰﾃﾞﾝ", set([katakana])),
            ("👍", set([party])),
            ("party 🎉", set([party])),
            ("👍🎉", set([])),
            ("x", set([])),
        ] {
            assert_eq!(texts(member, circle, query).await, expected, "{query}");
            system.forget_limits_of(member).await;
        }
        let from = |person: &str| format!("garden from:{person}");
        assert_eq!(texts(member, circle, &from("me")).await, set([quick, paths, comment]));
        assert_eq!(texts(member, circle, &from(&cast.owner.user.to_uppercase())).await, set([owner]));
        assert_eq!(texts(member, circle, &from(&cast.stranger.user)).await, set([]));
        // Without its circle, and with it in the words.
        let within = format!("flowers in:{circle}");
        for parameters in [[("q", "flowers"), ("kind", "messages")], [("q", &within), ("limit", "1")]] {
            let answer = search(member, &parameters).await.expect(200);
            assert_eq!(all(&answer, "/message/body"), set([without]), "{answer:#?}");
            assert_eq!(
                (&answer.body["next"], answer.header("cache-control")),
                (&Value::Null, "private, no-cache")
            );
            let item = &answer.body["items"][0];
            assert_eq!(item["message"]["reactions"], json!({}));
            assert_eq!(item["highlights"], json!([{"field": "body", "offset": 15, "length": 7}]));
            assert!(item.get("circle").is_none() && item.get("person").is_none());
        }
        let marked = search(member, &[("q", "北京 爱"), ("circle", circle)]).await.expect(200);
        assert_eq!(
            marked.body["items"][0]["highlights"],
            json!([{"field": "body", "offset": 1, "length": 3}])
        );
        // A message is found as it is, and not once it is gone.
        cast.owner
            .patch(&cast.path(&format!("/messages/{owners}")), json!({"body": "An owner's yard"}))
            .await
            .expect(200);
        assert_eq!(texts(member, circle, "owner garden").await, set([]));
        assert_eq!(texts(member, circle, "owner yard").await, set(["An owner's yard"]));
        cast.owner.delete(&cast.path(&format!("/messages/{owners}"))).await.expect(204);
        assert_eq!(texts(member, circle, "owner yard").await, set([]));
    });
}

#[test]
fn nothing_is_found_that_one_may_not_read() {
    on_system(|system| async move {
        for visibility in ["private", "public"] {
            let cast = Cast::new(system, visibility).await;
            let (word, circle) = (word(), cast.circle.as_str());
            let is_public = visibility == "public";
            cast.member.say(circle, &word).await;
            cast.owner.patch(&cast.path(""), json!({"name": format!("Circle {word}")})).await.expect(200);
            let finders = async || {
                let mut finders = Vec::new();
                for (name, client) in cast.everyone() {
                    let anywhere = search(client, &[("q", &word)]).await.expect(200);
                    let circles = search(client, &[("q", &word), ("kind", "circles")]).await.expect(200);
                    let there = search(client, &[("q", &word), ("circle", circle)]).await;
                    let found = anywhere.body["items"].as_array().unwrap().len();
                    assert_eq!(circles.body["items"].as_array().unwrap().len(), found, "{name}");
                    match found {
                        0 => drop(problem(there, 404)),
                        _ => assert_eq!(there.expect(200).body["items"], anywhere.body["items"]),
                    }
                    finders.extend((found > 0).then_some(name));
                    system.forget_limits_of(client).await;
                }
                finders
            };
            let members = vec!["owner", "moderator", "member"];
            let everyone = vec!["owner", "moderator", "member", "former", "stranger"];
            let readers = if is_public { everyone } else { members.clone() };
            assert_eq!(finders().await, readers);
            if is_public {
                cast.owner.patch(&cast.path(""), json!({"visibility": "private"})).await.expect(200);
                assert_eq!(finders().await, members);
                cast.owner.patch(&cast.path(""), json!({"visibility": "public"})).await.expect(200);
            }
            cast.moderator.delete(&cast.path("/members/me")).await.expect(204);
            cast.owner
                .delete(&cast.path(&format!("/members/{}?ban=true", cast.member.user)))
                .await
                .expect(204);
            let after =
                if is_public { vec!["owner", "moderator", "former", "stranger"] } else { vec!["owner"] };
            assert_eq!(finders().await, after);
            // An archived circle is its members' to read.
            cast.owner.delete(&cast.path("")).await.expect(204);
            assert_eq!(finders().await, ["owner"]);
            problem(search(&system.client(), &[("q", &word)]).await, 401);
        }
    });
}

async fn want_to_be_found(client: &Client, discoverable: bool) {
    let preferences = json!({
        "locale": "en", "week_start": "monday", "presence": "circles", "discoverable": discoverable, "reduced_motion": false,
    });
    let body = preferences.to_string().into_bytes();
    client.send(Method::PUT, "/v1/me/preferences", &[], Some(body)).await.expect(200);
}

#[test]
fn people_are_found_who_want_to_be_and_circles_by_what_they_say_of_themselves() {
    on_system(|system| async move {
        let root = administrator(system).await;
        let word = word();
        let (ada, sam) = (system.register("Zoe").await, system.register("Sam").await);
        ada.patch("/v1/me", json!({"name": format!("Zoë {word}")})).await.expect(200);
        let people = async |query: &str| {
            let answer = search(&sam, &[("q", query), ("kind", "people")]).await.expect(200);
            system.forget_limits_of(&sam).await;
            all(&answer, "/person/id")
        };
        assert_eq!(people(&word).await, set([]));
        want_to_be_found(&ada, true).await;
        for query in [format!("zoe {word}"), format!("{word} zo"), word[..20].to_owned()] {
            assert_eq!(people(&query).await, set([&ada.user]), "{query}");
        }
        assert!(!people(&format!("zoe -{word}")).await.contains(&ada.user));
        let found = search(&sam, &[("q", &word), ("kind", "people")]).await.expect(200);
        assert_eq!(
            found.body["items"][0]["highlights"],
            json!([{"field": "name", "offset": 4, "length": 33}])
        );
        assert!(found.body["items"][0]["person"].get("email").is_none());
        ada.patch("/v1/me", json!({"name": "Ada"})).await.expect(200);
        assert_eq!(people(&word).await, set([]));
        ada.patch("/v1/me", json!({"name": word})).await.expect(200);
        let suspend = format!("/v1/admin/users/{}/suspend", ada.user);
        root.post(&suspend, json!({"reason": "Spam."})).await.expect(200);
        assert_eq!(people(&word).await, set([]));
        root.post(&format!("/v1/admin/users/{}/restore", ada.user), Value::Null).await.expect(204);
        assert_eq!(people(&word).await, set([&ada.user]));
        let ada = ada.log_in().await;
        want_to_be_found(&ada, false).await;
        assert_eq!(people(&word).await, set([]));
        want_to_be_found(&ada, true).await;
        let password = json!({"password": optimist_tests::client::PASSWORD, "messages": "keep"});
        let password = password.to_string().into_bytes();
        ada.send(Method::DELETE, "/v1/me", &[], Some(password)).await.expect(202);
        assert_eq!(people(&word).await, set([]));

        let described = json!({"name": "Früh auf", "description": format!("Before {word}, at six."), "visibility": "public"});
        let circle = sam.post("/v1/circles", described).await.expect(201).text("/id");
        let found = search(&root, &[("q", &format!("fruh {word}")), ("kind", "circles")]).await.expect(200);
        assert_eq!(all(&found, "/circle/id"), set([&circle]));
        assert_eq!(
            found.body["items"][0]["highlights"],
            json!([{"field": "name", "offset": 0, "length": 4}, {"field": "description", "offset": 7, "length": 33}])
        );
    });
}

#[test]
fn nothing_of_somebody_blocked_is_found() {
    on_system(|system| async move {
        let cast = Cast::new(system, "public").await;
        let (bob, ada, carol) = (&cast.owner, &cast.member, &cast.stranger);
        let word = word();
        bob.patch("/v1/me", json!({"name": word})).await.expect(200);
        want_to_be_found(bob, true).await;
        bob.patch(&cast.path(""), json!({"name": format!("Circle {word}")})).await.expect(200);
        let said = [format!("{word} of an owner"), format!("{word} of a member")];
        bob.say(&cast.circle, &said[0]).await;
        ada.say(&cast.circle, &said[1]).await;
        // Texts of messages, and how many circles and people.
        let found = async |client: &Client| {
            let mut found = Vec::new();
            for kind in ["messages", "circles", "people"] {
                found.push(search(client, &[("q", &word), ("kind", kind)]).await.expect(200));
            }
            system.forget_limits_of(client).await;
            let [circles, people] =
                [1, 2].map(|nth: usize| found[nth].body["items"].as_array().unwrap().len());
            (all(&found[0], "/message/body"), circles, people)
        };
        let both: BTreeSet<String> = said.clone().into();
        for client in [ada, carol] {
            assert_eq!(found(client).await, (both.clone(), 1, 1));
        }
        let block = format!("/v1/me/blocks/{}", bob.user);
        for client in [ada, carol] {
            client.send(Method::PUT, &block, &[], None).await.expect(204);
            assert_eq!(found(client).await, (BTreeSet::from([said[1].clone()]), 0, 0));
            let from = format!("{word} from:{}", bob.user);
            let by = search(client, &[("q", &from), ("circle", &cast.circle)]).await.expect(200);
            assert_eq!(by.body["items"], json!([]));
        }
        // Nobody finds whoever has blocked them; what these have written is there for all.
        want_to_be_found(carol, true).await;
        carol.patch("/v1/me", json!({"name": format!("Carol {word}")})).await.expect(200);
        assert_eq!(found(bob).await, (both.clone(), 1, 1), "himself alone");
        assert_eq!(found(&cast.moderator).await, (both.clone(), 1, 2));
        for client in [ada, carol] {
            client.delete(&block).await.expect(204);
            assert_eq!(found(client).await, (both.clone(), 1, 2));
        }
        assert_eq!(found(bob).await, (both, 1, 2));
    });
}

#[test]
fn a_query_that_cannot_be_understood_is_refused() {
    on_system(|system| async move {
        let sam = system.register("Sam").await;
        let nobody = uuid::Uuid::now_v7().to_string();
        let many = "word ".repeat(17);
        for (parameters, field) in [
            (vec![("kind", "people")], "q"),
            (vec![("q", "")], "q"),
            (vec![("q", "-nothing")], "q"),
            (vec![("q", "word from:sam")], "q"),
            (vec![("q", "word in:here")], "q"),
            (vec![("q", &many)], "q"),
            (vec![("q", "a\u{1}b")], "q"),
            (vec![("q", "word"), ("kind", "all")], "kind"),
            (vec![("q", "word from:me"), ("kind", "people")], "kind"),
            (vec![("q", "word"), ("kind", "circles"), ("circle", &nobody)], "kind"),
            (vec![("q", "word"), ("circle", "x")], "circle"),
            (vec![("q", "word"), ("limit", "0")], "limit"),
            (vec![("q", "word"), ("cursor", "x")], "cursor"),
            (vec![("q", "word"), ("sort", "new")], "sort"),
        ] {
            let refused = problem(search(&sam, &parameters).await, 400);
            assert_eq!(refused["errors"][0]["field"], field, "{refused}");
        }
        problem(search(&sam, &[("q", "word"), ("circle", &nobody)]).await, 404);
        // What would mean something to Postgres.
        for query in ["a' | 'b", "a & !b:*", "\\ ' \\", "(((", "a <-> b", "'", "#t01 x"] {
            let answer = search(&sam, &[("q", query)]).await;
            assert!(matches!(answer.status, 200 | 400), "{query}: {answer:#?}");
        }
        system.forget_limits_of(&sam).await;
        for _ in 0..30 {
            search(&sam, &[("q", "word"), ("limit", "1")]).await.expect(200);
        }
        let refused = problem(search(&sam, &[("q", "word"), ("limit", "1")]).await, 429);
        assert_eq!(refused["limit"], "searches-60s", "{refused}");
    });
}

/// Messages that say a word, one a minute; `text` may use their number `n`.
fn fill(system: &optimist_tests::System, client: &Client, circle: &str, count: u32, text: &str) {
    system.sql(&format!(
        "insert into messages (id, circle_id, number, author_id, body, created_at)
         select id_at((floor(extract(epoch from now()) * 1000)::bigint - ({count} - n) * 60000) << 12), '{circle}', n, '{0}', {text}, now()
         from generate_series(1, {count}) n;
         {TOLD_CIRCLES}",
        client.user
    ));
}

#[test]
fn the_newest_thousand_are_ranked_and_the_rest_is_said_to_be_there() {
    on_own_system(async |system| {
        let sam = system.register("Sam").await;
        let circle = sam.create_circle("private").await;
        fill(system, &sam, &circle, 2_500, "'often ' || n");
        let (mut seen, mut next) = (Vec::new(), None::<String>);
        loop {
            let mut parameters = vec![("q", "often"), ("limit", "100")];
            parameters.extend(next.as_deref().map(|next| ("cursor", next)));
            let page = search(&sam, &parameters).await.expect(200);
            assert_eq!(page.body["truncated"], true);
            assert!(page.body["as_of"].is_string());
            let items = page.body["items"].as_array().unwrap().iter();
            seen.extend(items.map(|item| item["message"]["body"].as_str().unwrap().to_owned()));
            let Some(more) = page.body["next"].as_str() else { break };
            next = Some(more.to_owned());
        }
        let newest: Vec<String> = (1_501..=2_500).rev().map(|n| format!("often {n}")).collect();
        assert_eq!(seen, newest);
        // Rare words are found however old they are, beside frequent ones.
        let old = search(&sam, &[("q", "often \"7\"")]).await.expect(200);
        assert_eq!((all(&old, "/message/body"), &old.body["truncated"]), (set(["often 7"]), &json!(false)));
        // Nothing that anybody looked for is in a log.
        let secret = word();
        for query in [secret.clone(), format!("-{secret}"), format!("{secret} from:{secret}")] {
            search(&sam, &[("q", &query)]).await;
            search(&system.client(), &[("q", &query)]).await;
        }
        let logs = system.logs();
        assert!(!logs.is_empty() && !String::from_utf8_lossy(&logs).contains(&secret));
    });
}
