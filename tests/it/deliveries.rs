//! Deliveries: what leaves for browsers, webhooks and mail servers, and what does not.

mod counting;
mod failing;
mod mails;
mod preferences;
mod places;
mod telling;
mod withdrawing;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use optimist_tests::receiver::{Received, Receiver};
use optimist_tests::stores::has_shards;
use optimist_tests::{Answer, Client, Options, System, until};
use p256::SecretKey;
use p256::elliptic_curve::sec1::ToEncodedPoint as _;
use reqwest::Method;
use serde_json::{Value, json};

/// Attempts follow each other at once.
fn hurried() -> Options {
    Options { settings: vec![without_pauses()], ..Options::default() }
}

/// Besides what a mutant has switched off.
fn without_pauses() -> (&'static str, String) {
    const DISABLED: &str = "OPTIMIST_TEST_DISABLED";
    (DISABLED, format!("pauses,{}", std::env::var(DISABLED).unwrap_or_default()))
}

/// Two members of a circle.
struct Pair {
    ada: Client,
    bo: Client,
    circle: String,
}

impl Pair {
    async fn new(system: &System) -> Pair {
        let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
        let circle = ada.create_circle("private").await;
        bo.join(&circle, &ada).await;
        Pair { ada, bo, circle }
    }

    /// Ada says something: Bo is told of it. Returns the message, whose id is the notification's.
    async fn say(&self) -> String {
        self.ada.say(&self.circle, "Good morning.").await
    }
}

async fn put(client: &Client, path: &str, body: &Value) -> Answer {
    client.send(Method::PUT, path, &[], Some(body.to_string().into_bytes())).await
}

async fn subscribe(client: &Client, endpoint: &str, keys: Option<Value>) -> Answer {
    client.post("/v1/me/push-tokens", json!({"endpoint": endpoint, "keys": keys})).await
}

/// A webhook that is verified. Its path says how it answers.
async fn webhook(client: &Client, receiver: &Receiver, path: &str) -> Answer {
    let added = subscribe(client, &format!("{}/{path}", receiver.url), None).await.expect(201);
    until("the webhook is verified", async || {
        let list = client.get("/v1/me/push-tokens").await.expect(200);
        let items = list.body["items"].as_array().unwrap().clone();
        items.iter().any(|item| item["id"] == added.body["id"] && item["verified"] == true)
    })
    .await;
    added
}

/// Checks a request's signature with an independent library, which must refuse another body.
fn check_signature(request: &Received, secret: &str) {
    let verifier = standardwebhooks::Webhook::new(secret).unwrap();
    let mut headers = reqwest::header::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, request.header(name).parse().unwrap());
    }
    verifier.verify(&request.body, &headers).expect("a good signature");
    assert!(verifier.verify(b"{}", &headers).is_err());
}

/// Rows by state.
fn states(system: &System) -> BTreeMap<String, u64> {
    let rows = system.sql("select state, count(*) from deliveries group by state order by state");
    let row = |line: &str| {
        let (state, count) = line.split_once('|').unwrap();
        (state.to_owned(), count.parse().unwrap())
    };
    rows.lines().map(row).collect()
}

/// Webhooks that exist and are verified, without their challenges.
fn plant_webhooks(system: &System, user: &str, urls: &[String]) {
    let hooks: String = urls
        .iter()
        .map(|url| {
            format!(
                "insert into push_tokens (user_id, id, channel, endpoint, token_key, verified_at)
                 values ('{user}', gen_random_uuid(), 'webhook', '{url}', 't1', now());"
            )
        })
        .collect();
    system.sql(&hooks);
}

/// As many notifications, and their deliveries to each place of the person. Returns the notifications' ids.
fn plant(system: &System, user: &str, circle: &str, notifications: u64) -> BTreeSet<String> {
    system.sql(&format!(
        "insert into notification_counts (user_id, unread) values ('{user}', 0) on conflict do nothing;
         insert into notifications (user_id, month, id, kind, circle_id, actor_id, role, place, created_at, updated_at)
         select '{user}', id_month(id), id, 'role', '{circle}', '{user}', 'member', 1, now(), now()
         from (select id_at(next_place(null, 1) + n) as id from generate_series(1, {notifications}) n) ids;
         insert into deliveries (user_id, subject, target, channel)
         select '{user}', n.id, t.id, t.channel from notifications n, push_tokens t
         where n.kind = 'role' and n.user_id = '{user}' and t.user_id = '{user}'"
    ));
    let ids = system.sql(&format!("select id from notifications where kind = 'role' and user_id = '{user}'"));
    ids.lines().map(str::to_owned).collect()
}

/// A browser: its private key, its secret, and what it tells the service.
struct Browser {
    key: SecretKey,
    auth: [u8; 16],
}

impl Browser {
    fn new(seed: u8) -> Browser {
        Browser { key: SecretKey::from_slice(&[seed; 32]).unwrap(), auth: [seed; 16] }
    }

    fn keys(&self) -> Value {
        let public = self.key.public_key().to_encoded_point(false);
        json!({
            "p256dh": URL_SAFE_NO_PAD.encode(public.as_bytes()),
            "auth": URL_SAFE_NO_PAD.encode(self.auth),
        })
    }

    fn read(&self, body: &[u8]) -> Value {
        let auth = web_push_native::Auth::clone_from_slice(&self.auth);
        let text = web_push_native::decrypt(body.to_vec(), &self.key, &auth).expect("it is for this browser");
        serde_json::from_slice(&text).expect("JSON")
    }
}

/// The deliveries of a notification, once there are so many and all have ended.
async fn ended(client: &Client, notification: &str, count: usize) -> Vec<Value> {
    let mut items = Vec::new();
    let path = format!("/v1/notifications/{notification}/delivery");
    until("all deliveries have ended", async || {
        let answer = client.get(&path).await;
        items = answer.body["items"].as_array().cloned().unwrap_or_default();
        answer.status == 200 && items.len() == count && items.iter().all(|item| !item["ended_at"].is_null())
    })
    .await;
    items
}
