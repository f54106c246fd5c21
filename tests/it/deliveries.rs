//! Deliveries: what leaves for browsers, webhooks and mail servers, and what does not.

mod failing;
mod preferences;
mod places;
mod telling;

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use optimist_tests::receiver::Receiver;
use optimist_tests::stores::has_shards;
use optimist_tests::{Answer, Client, Options, System};
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

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
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

/// A webhook that is verified.
async fn webhook(client: &Client, receiver: &Receiver, how: &str) -> Answer {
    let added = subscribe(client, &format!("{}/echo/{how}", receiver.url), None).await.expect(201);
    until("the webhook is verified", async || {
        let list = client.get("/v1/me/push-tokens").await.expect(200);
        let items = list.body["items"].as_array().unwrap().clone();
        items.iter().any(|item| item["id"] == added.body["id"] && item["verified"] == true)
    })
    .await;
    added
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
