//! The origin alone: it answers each request that its edge has signed once, and nothing else.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use optimist_shared::session::Role;
use optimist_shared::signature::{
    CONTENT_DIGEST_HEADER, CONTEXT_HEADER, Charged, Context, Identity, SIGNATURE_HEADER,
    SIGNATURE_INPUT_HEADER, Signed, content_digest, sign,
};
use optimist_tests::edges::Edge;
use optimist_tests::system::{REGION, SIGNING_KEY, address, edge_settings, environment};
use optimist_tests::{Answer, Client, Kind, Origin, System};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// Talks to an origin as the edge does.
pub struct OriginClient {
    client: Client,
    nonce: AtomicU64,
}

/// An edge's context with everything checked and charged.
pub fn checked(identity: Identity) -> Context {
    Context {
        identity,
        role: Some(Role::Member),
        client: "127.0.0.1".to_owned(),
        region: REGION.to_owned(),
        request_id: "0190a0a0-0000-7000-8000-000000000001".to_owned(),
        charged: Charged::Limits,
    }
}

impl OriginClient {
    pub fn new(system: &System) -> OriginClient {
        OriginClient { client: Client::new(&system.origins[0].api), nonce: AtomicU64::new(0) }
    }

    pub async fn get(&self, path: &str, context: Context) -> Answer {
        let nonce = format!("{:032}", self.nonce.fetch_add(1, Ordering::Relaxed));
        let context = context.render();
        self.send(path, &headers(read(path, &context), &nonce, now(), &SIGNING_KEY.0)).await
    }

    /// Posts from an address, with everything checked and charged by the edge.
    pub async fn post_from(&self, address: &str, path: &str, body: Value) -> Answer {
        let nonce = format!("{:032}", self.nonce.fetch_add(1, Ordering::Relaxed));
        let context = Context { client: address.to_owned(), ..checked(Identity::Public) }.render();
        let body = body.to_string();
        let digest = content_digest(body.as_bytes());
        let signed = Signed { method: "POST", content_digest: &digest, ..read(path, &context) };
        let headers = headers(signed, &nonce, now(), &SIGNING_KEY.0);
        self.send_body(Method::POST, path, &headers, Some(&body)).await
    }

    async fn send(&self, path: &str, headers: &[(&'static str, String)]) -> Answer {
        self.send_body(Method::GET, path, headers, None).await
    }

    async fn send_body(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, String)],
        body: Option<&str>,
    ) -> Answer {
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.client.send(method, path, &headers, body.map(|body| body.as_bytes().to_vec())).await
    }
}

/// The signed parts of a GET.
pub fn read<'a>(path: &'a str, context: &'a str) -> Signed<'a> {
    static NOTHING: LazyLock<String> = LazyLock::new(|| content_digest(b""));
    Signed {
        method: "GET",
        target: path,
        context,
        authorization: "",
        idempotency_key: "",
        content_digest: &NOTHING,
    }
}

/// The headers that an edge with this key adds to a request.
pub fn headers(signed: Signed<'_>, nonce: &str, now: u64, key: &[u8]) -> Vec<(&'static str, String)> {
    let (input, signature) = sign(signed, SIGNING_KEY.1, key, nonce, now);
    vec![
        (CONTEXT_HEADER, signed.context.to_owned()),
        (CONTENT_DIGEST_HEADER, signed.content_digest.to_owned()),
        (SIGNATURE_INPUT_HEADER, input),
        (SIGNATURE_HEADER, signature),
    ]
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unsigned_forged_expired_and_replayed_are_refused() {
    let system = System::start().await;
    let origin = OriginClient::new(&system);
    let path = "/v1/openapi.json";
    let context = checked(Identity::Public).render();
    origin.send(path, &[]).await.expect(421);
    let good = headers(read(path, &context), "nonce-0123456789", now(), &SIGNING_KEY.0);
    origin.send(path, &good).await.expect(200);
    origin.send(path, &good).await.expect(421);
    let other_path = headers(read("/v1/me", &context), "nonce-1123456789", now(), &SIGNING_KEY.0);
    origin.send(path, &other_path).await.expect(421);
    let other_key = headers(read(path, &context), "nonce-2123456789", now(), &[8; 32]);
    origin.send(path, &other_key).await.expect(421);
    let expired = headers(read(path, &context), "nonce-3123456789", now() - 40, &SIGNING_KEY.0);
    // A late request that its edge has signed is not the client's fault: 401 would end the client's session.
    let late = origin.send(path, &expired).await.expect(503);
    assert_eq!(late.header("retry-after"), "1");
    let mut other_context = headers(read(path, &context), "nonce-4123456789", now(), &SIGNING_KEY.0);
    other_context[0].1 = context.replace("charged=limits", "charged=nothing");
    origin.send(path, &other_context).await.expect(421);
    let elsewhere = Context { region: "elsewhere".to_owned(), ..checked(Identity::Public) };
    origin.get(path, elsewhere).await.expect(421);
    let problem = origin.send(path, &[]).await;
    assert_eq!(problem.header("content-type"), "application/problem+json");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_or_a_key_that_no_edge_has_signed_changes_nothing() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let circle = ada.create_circle("private").await;
    let origin = OriginClient::new(&system);
    let path = format!("/v1/circles/{circle}/messages");
    let [user, session] = [&ada.user, &ada.session].map(|id| id.parse().expect("an id"));
    let context = checked(Identity::Session { user, session }).render();
    let body = r#"{"body":"as written"}"#;
    let digest = content_digest(body.as_bytes());
    let signed = Signed { method: "POST", content_digest: &digest, ..read(&path, &context) };
    let sign = |nonce: &str| headers(signed, nonce, now(), &SIGNING_KEY.0);
    let send = async |headers: &[_], body| origin.send_body(Method::POST, &path, headers, Some(body)).await;
    send(&sign("nonce-0123456789"), r#"{"body":"as forged!"}"#).await.expect(421);
    let mut with_key = sign("nonce-1123456789");
    with_key.push(("idempotency-key", "another".to_owned()));
    send(&with_key, body).await.expect(421);
    let without_digest: Vec<_> =
        sign("nonce-2123456789").into_iter().filter(|(name, _)| *name != CONTENT_DIGEST_HEADER).collect();
    send(&without_digest, body).await.expect(421);
    send(&sign("nonce-3123456789"), body).await.expect(201);
    let messages = ada.get(&path).await.expect(200);
    assert_eq!(messages.body["items"].as_array().map(Vec::len), Some(1), "{}", messages.body);
}

/// A mistake in the rotation of keys is the operator's: clients keep their sessions and attempts, and hear of a bad gateway.
async fn whose_key_the_origin_does_not_know(kind: Kind) {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    ada.until_hit("/v1/me").await;
    let origin_url = format!("http://{}", system.to_origin.address());
    let mut settings = edge_settings(&origin_url, &system.redis.url(), &system.options);
    let key = settings.iter_mut().find(|(name, _)| name == "signing_keys").unwrap();
    key.1 = key.1.replacen("k1:", "k2:", 1);
    let folder = tempfile::tempdir().unwrap();
    let edge = Edge::start(kind, &settings, folder.path());
    let there = ada.at(&edge.url);
    let circle = json!({"name": "Never", "visibility": "public"});
    let created = there.post("/v1/circles", circle).await.expect(502);
    assert_eq!(created.body["code"], "bad-gateway");
    assert!(created.header("ratelimit").contains("\"circle-creations-86400s\";r=2"), "{created:#?}");
    there.get("/v1/me/sessions").await.expect(502);
    // A session that Redis does not know is not over either.
    let elsewhere = there.with_token(format!("{}.{}.{}", ada.user, uuid::Uuid::now_v7(), "A".repeat(43)));
    elsewhere.get("/v1/me").await.expect(502);
    assert!(there.get("/v1/me").await.expect(200).is_hit(), "what Redis has is served");
    let page = async || {
        let url = format!("{}/metrics", system.origins[0].internal);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    };
    let counted =
        |page: &str, metric: &str| page.lines().any(|line| line.starts_with(metric) && line.ends_with(" 3"));
    let deadline = optimist_tests::patience();
    while !counted(&page().await, "optimist_edge_refused_by_origin_total{region=\"test\"}") {
        assert!(Instant::now() < deadline, "{}", page().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(counted(&page().await, "optimist_unsigned_total{refusal=\"unknown-key\"}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_whose_key_the_origin_does_not_know_answers_502_and_counts_it() {
    whose_key_the_origin_does_not_know(Kind::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_key_the_origin_does_not_know_does_so_too() {
    whose_key_the_origin_does_not_know(Kind::Cloudflare).await;
}

#[test]
fn a_configuration_is_checked_without_stores() {
    let mut settings =
        environment("postgres://127.0.0.1:9/x", "postgres://127.0.0.1:9/x", "redis://127.0.0.1:9", 100);
    let (code, output) = Origin::exit(&settings, &["check-config"]);
    assert_eq!((code, output.as_str()), (Some(0), ""));
    for (variable, value, reason) in [
        ("OPTIMIST_DATABASE_POOL", "many", "invalid type"),
        ("OPTIMIST_REDIS_URL", "redis://redis.internal", "rediss://"),
        ("OPTIMIST_REGION", "EU", "lower-case letters"),
    ] {
        settings.push((variable.to_owned(), value.to_owned()));
        let (code, output) = Origin::exit(&settings, &["check-config"]);
        settings.pop();
        assert_eq!(code, Some(1), "{output}");
        assert!(
            output.starts_with(&format!("optimist-origin: {variable} ")) && output.contains(reason),
            "{output}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_log_has_every_failure_and_a_sample_of_the_rest() {
    const REQUESTS: usize = 320;
    let system = System::start().await;
    let origin = OriginClient::new(&system);
    for _ in 0..REQUESTS {
        origin.get("/v1/openapi.json", checked(Identity::Public)).await.expect(200);
    }
    for _ in 0..8 {
        origin.get("/v1/nothing", checked(Identity::Public)).await.expect(404);
    }
    let log = system.origins[0].log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let answered: Vec<Value> = lines.filter(|line| line["message"] == "answered").collect();
    let of = |status: u16| answered.iter().filter(move |line| line["status"] == status);
    assert_eq!(of(404).count(), 8, "{answered:#?}");
    // Some may have been slow.
    assert!(of(200).count() < REQUESTS / 2, "{answered:#?}");
    let stood_for: usize = of(200).map(|line| line["stands_for"].as_u64().unwrap() as usize).sum();
    assert!(stood_for.abs_diff(REQUESTS) < 32, "{stood_for}");
    assert!(of(200).all(|line| line["span"]["path"] == "/v1/openapi.json"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_fits_the_migrated_schema() {
    let system = System::start().await;
    let (succeeded, output) = Origin::command(&system.environment(), &["check-statements"]);
    assert!(succeeded, "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_finishes_what_it_has_begun() {
    let mut system = System::start().await;
    let client = system.register("Ada").await;
    let api = address(&system.origins[0].api).to_owned();
    let idle = TcpStream::connect(&api).await.unwrap();
    let mut creation = None;
    let begin = async || {
        let client = client.clone();
        let body = json!({"name": "Mornings", "visibility": "private"});
        creation = Some(tokio::spawn(async move { client.post("/v1/circles", body).await }));
    };
    system.origins[0].hold("tx.statements", begin).await;
    system.origins[0].signal("TERM");
    let refused = async {
        while TcpStream::connect(&api).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), refused).await.expect("it takes no more connections");
    system.origins[0].release().await;
    creation.expect("begun").await.unwrap().expect(201);
    let deadline = optimist_tests::patience();
    while system.origins[0].is_running() {
        assert!(Instant::now() < deadline, "it waits for connections that nobody uses");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(idle);
}
