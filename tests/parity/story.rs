//! The story: every kind of answer that an edge gives or passes on.

use optimist_tests::client::PASSWORD;
use optimist_tests::{Answer, Client, Kind, Options, System};
use reqwest::Method;
use serde_json::{Value, json};

use crate::Transcript;

struct Teller {
    transcript: Transcript,
}

impl Teller {
    async fn ask(
        &mut self,
        client: &Client,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Answer {
        let sent = (!body.is_null()).then(|| body.to_string().into_bytes());
        let answer = client.send(method.clone(), path, headers, sent).await;
        let mut question = format!("{method} {path}");
        for (name, value) in headers {
            question.push_str(&format!(" {name}: {value}"));
        }
        self.transcript.note(&question, &answer);
        answer
    }

    async fn get(&mut self, client: &Client, path: &str) -> Answer {
        self.ask(client, Method::GET, path, &[], Value::Null).await
    }

    async fn post(&mut self, client: &Client, path: &str, body: Value) -> Answer {
        self.ask(client, Method::POST, path, &[], body).await
    }
}

pub async fn tell(kind: Kind) -> Transcript {
    let mut system = System::with(Options { kind, ..Options::default() }).await;
    let mut teller = Teller { transcript: Transcript::default() };
    let anyone = system.client();
    routing(&mut teller, &anyone).await;

    let register = json!({"email": "ada@example.org", "password": PASSWORD, "name": "Ada"});
    let registered = teller.post(&anyone, "/v1/auth/register", register.clone()).await;
    teller.post(&anyone, "/v1/auth/register", register).await;
    let mut ada = anyone.clone();
    ada.adopt(&registered);
    let login = json!({"email": "ada@example.org", "password": "wrong password"});
    teller.post(&anyone, "/v1/auth/login", login).await;
    teller.post(&anyone, "/v1/auth/refresh", json!({"refresh_token": ada.refresh_token})).await;
    for path in
        ["/v1/auth/session", "/v1/auth/session", "/v1/me/limits", "/v1/me", "/v1/me", "/v1/me/sessions"]
    {
        teller.get(&ada, path).await;
    }
    teller.ask(&ada, Method::PATCH, "/v1/me", &[("if-match", "\"9\"")], json!({"bio": "Counts."})).await;
    teller.ask(&ada, Method::PATCH, "/v1/me", &[("if-match", "\"1\"")], json!({"bio": "Counts."})).await;

    let bo = system.register("Bo").await;
    circles(&mut teller, &ada, &bo).await;

    system.redis.kill();
    teller.get(&ada, "/v1/me").await;
    // The connection is accepted, by the proxy, and breaks. (One that is refused workerd reports as one that broke.)
    system.origins[0].kill();
    teller.get(&ada, "/v1/me").await;
    teller.post(&ada, "/v1/circles", json!({"name": "Never", "visibility": "public"})).await;
    teller.transcript
}

async fn routing(teller: &mut Teller, anyone: &Client) {
    for path in ["/", "/v1/nothing", "/v1/circles/x", "/v1/me", "/v1/circles"] {
        teller.get(anyone, path).await;
    }
    teller.ask(anyone, Method::DELETE, "/v1/circles", &[], Value::Null).await;
    let long = json!({"email": "x".repeat(70_000)});
    teller.post(anyone, "/v1/auth/login", long).await;
    let ours = [("origin", "https://app.example.org"), ("access-control-request-method", "POST")];
    teller.ask(anyone, Method::OPTIONS, "/v1/circles", &ours, Value::Null).await;
    let theirs = [("origin", "https://evil.example.org"), ("access-control-request-method", "POST")];
    teller.ask(anyone, Method::OPTIONS, "/v1/circles", &theirs, Value::Null).await;
    let bad = [("authorization", "Bearer nonsense")];
    teller.ask(anyone, Method::GET, "/v1/me", &bad, Value::Null).await;
    let unknown = "Bearer 0190a0a0-0000-7000-8000-000000000001.0190a0a0-0000-7000-8000-000000000002.\
                   AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    teller.ask(anyone, Method::GET, "/v1/me", &[("authorization", unknown)], Value::Null).await;
}

async fn reactions(teller: &mut Teller, bo: &Client, message: &str) {
    teller.ask(bo, Method::PUT, &format!("{message}/reactions/frown"), &[], Value::Null).await;
    // By the origin, which installs the message's state; then by the edge.
    for kind in ["heart", "hug", "hug"] {
        teller.ask(bo, Method::PUT, &format!("{message}/reactions/{kind}"), &[], Value::Null).await;
    }
    teller.ask(bo, Method::DELETE, &format!("{message}/reactions/heart"), &[], Value::Null).await;
    teller.get(bo, &format!("{message}/reactions")).await;
    teller.get(bo, message).await;
    teller.get(bo, message).await;
}

async fn circles(teller: &mut Teller, ada: &Client, bo: &Client) {
    teller.post(ada, "/v1/circles", json!({"name": "", "visibility": "private"})).await;
    teller.post(ada, "/v1/circles", json!({"name": 7})).await;
    let key = [("idempotency-key", "a-circle")];
    let circle = json!({"name": "Morning pages", "visibility": "private"});
    let created = teller.ask(ada, Method::POST, "/v1/circles", &key, circle.clone()).await;
    teller.ask(ada, Method::POST, "/v1/circles", &key, circle).await;
    teller
        .ask(ada, Method::POST, "/v1/circles", &key, json!({"name": "Other", "visibility": "private"}))
        .await;
    let circle = format!("/v1/circles/{}", created.text("/id"));
    teller.get(bo, &circle).await;
    let invite = teller.post(ada, &format!("{circle}/invites"), json!({})).await.text("/invite");
    teller.post(bo, &format!("{circle}/members/me"), json!({"invite": invite})).await;
    teller.get(bo, &circle).await;
    let hit = teller.get(bo, &circle).await;
    let tag = [("if-none-match", hit.header("etag")), ("origin", "https://app.example.org")];
    teller.ask(bo, Method::GET, &circle, &tag, Value::Null).await;
    teller.ask(bo, Method::HEAD, &circle, &[], Value::Null).await;

    let messages = format!("{circle}/messages");
    for number in 1..=10 {
        teller.post(ada, &messages, json!({"body": format!("Number {number}. Ünïcödé 🎈")})).await;
    }
    teller.post(ada, &messages, json!({"body": "One too many."})).await;
    for rest in ["", "", "?limit=2", "?limit=0", "?limit=2&surplus=1"] {
        teller.get(bo, &format!("{messages}{rest}")).await;
    }
    let page = teller.get(bo, &format!("{messages}?limit=3")).await;
    reactions(teller, bo, &format!("{messages}/{}", page.text("/items/1/id"))).await;
    let before = format!("{messages}?limit=3&before={}", page.text("/next"));
    let page = bo.get(&before).await;
    teller.transcript.note("GET the next page", &page);
    teller.get(bo, &format!("{circle}/members")).await;
    teller.ask(bo, Method::PATCH, &circle, &[], json!({"name": "Mine"})).await;
    teller.ask(bo, Method::DELETE, &format!("{circle}/members/me"), &[], Value::Null).await;
    // What was warm is refilled behind the answer: then the edge itself knows.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    teller.get(bo, &messages).await;
    teller.post(bo, "/v1/auth/logout", Value::Null).await;
    teller.get(bo, "/v1/me").await;
}
