//! How the product is for a person: whole, versioned, one's own, and obeyed.

use optimist_tests::live::{Subscriber, Transport, subscribe};
use optimist_tests::system::address;
use optimist_tests::{Answer, Client};
use reqwest::Method;
use serde_json::{Value, json};

use super::presence::{say, state_of};
use super::{Cast, on_system, problem};

const PATH: &str = "/v1/me/preferences";

async fn put(client: &Client, headers: &[(&str, &str)], body: &Value) -> Answer {
    client.send(Method::PUT, PATH, headers, Some(body.to_string().into_bytes())).await
}

/// The preferences with another value of one of them.
fn but(preferences: &Value, field: &str, value: impl Into<Value>) -> Value {
    let mut changed = preferences.clone();
    changed[field] = value.into();
    changed
}

#[test]
fn preferences_are_replaced_whole_and_are_ones_own() {
    on_system(|system| async move {
        let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
        problem(system.client().get(PATH).await, 401);
        let defaults = ada.get(PATH).await.expect(200);
        let expected = json!({
            "locale": "en", "week_start": "monday", "presence": "circles", "discoverable": false, "reduced_motion": false,
        });
        assert_eq!(defaults.body, expected);
        ada.until_hit(PATH).await;
        let new = json!({
            "locale": "de", "week_start": "sunday", "presence": "nobody", "discoverable": true, "reduced_motion": true,
        });
        let tag = [("if-match", defaults.header("etag"))];
        let set = put(&ada, &tag, &new).await.expect(200);
        assert_eq!(set.body, new);
        let kept = ada.get(PATH).await.expect(200);
        assert_eq!((&kept.body, kept.header("etag")), (&new, set.header("etag")));
        assert_eq!(bo.get(PATH).await.expect(200).body, expected);
        // The version that a client has seen is the only one that it replaces.
        assert_eq!(problem(put(&ada, &tag, &expected).await, 412)["code"], "version-mismatch");
        let foreign = bo.get(PATH).await.expect(200).header("etag").to_owned();
        problem(put(&ada, &[("if-match", &foreign)], &expected).await, 412);
        put(&ada, &[("if-match", kept.header("etag"))], &expected).await.expect(200);
        for (field, value) in [
            ("locale", json!("tlh")),
            ("week_start", json!("friday")),
            ("presence", json!("friends")),
            ("discoverable", json!("yes")),
            ("reduced_motion", Value::Null),
            ("colour", json!("red")),
        ] {
            problem(put(&ada, &[], &but(&expected, field, value)).await, 422);
        }
        problem(put(&ada, &[], &json!({"locale": "de"})).await, 422);
        assert_eq!(ada.get(PATH).await.expect(200).body, expected);
    });
}

/// The account shows the language too: whichever is changed, neither shows the former one.
#[test]
fn the_language_is_the_accounts() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        let defaults = ada.get(PATH).await.expect(200);
        for (number, locale) in ["de", "en", "de", "de"].into_iter().enumerate() {
            ada.until_hit(PATH).await;
            ada.until_hit("/v1/me").await;
            let before = ada.get(PATH).await.expect(200).header("etag").to_owned();
            match number % 2 {
                0 => put(&ada, &[], &but(&defaults.body, "locale", locale)).await.expect(200),
                _ => ada.patch("/v1/me", json!({"locale": locale})).await.expect(200),
            };
            assert_eq!(ada.get("/v1/me").await.expect(200).text("/locale"), locale);
            assert_eq!(ada.get(PATH).await.expect(200).text("/locale"), locale);
            problem(put(&ada, &[("if-match", &before)], &defaults.body).await, 412);
        }
        // What is no preference leaves their version.
        let before = ada.get(PATH).await.expect(200).header("etag").to_owned();
        ada.patch("/v1/me", json!({"bio": "Counts."})).await.expect(200);
        put(&ada, &[("if-match", &before)], &defaults.body).await.expect(200);
    });
}

/// The circle's subscribers are told that so many are there.
async fn until_told(listener: &mut Subscriber, online: u64) {
    while listener.expect("live").await["data"]["online"] != online {}
}

#[test]
fn whom_nobody_is_to_see_nobody_sees() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        let meg = &cast.member;
        let defaults = meg.get(PATH).await.expect(200).body;
        let live = async || cast.owner.get(&cast.path("/live")).await.expect(200).body;
        let shown = json!([{"user_id": meg.user, "state": "online"}]);
        say(meg, "online", "phone").await.expect(200);
        optimist_tests::until("people are shown", async || live().await["people"] == shown).await;
        let gateway = address(&system.origins[0].gateway).to_owned();
        let mut listener = subscribe(&gateway, Transport::Events, &cast.owner, "").await;
        until_told(&mut listener, 1).await;
        for _ in 0..2 {
            put(meg, &[], &but(&defaults, "presence", "nobody")).await.expect(200);
            // From the acknowledgement on, and whatever the device says.
            assert_eq!(state_of(&meg.user, &cast.owner).await, "offline");
            let found = live().await;
            assert_eq!((&found["online"], &found["people"]), (&json!(0), &json!([])));
            say(meg, "busy", "phone").await.expect(200);
            say(meg, "online", "phone").await.expect(200);
            assert_eq!(state_of(&meg.user, &cast.owner).await, "offline");
            assert_eq!(state_of(&meg.user, meg).await, "online", "one sees oneself");
            assert_eq!(live().await["online"], 0);
            until_told(&mut listener, 0).await;
            put(meg, &[], &defaults).await.expect(200);
            assert_eq!(state_of(&meg.user, &cast.owner).await, "online");
            optimist_tests::until("people are shown", async || live().await["people"] == shown).await;
            until_told(&mut listener, 1).await;
        }
    });
}
