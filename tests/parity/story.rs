//! The story: every kind of answer that an edge gives or passes on.

mod circles;
mod later;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use optimist_shared::routes::{Matched, ROUTES, lookup};
use optimist_tests::client::PASSWORD;
use optimist_tests::live::{Transport, connect, subscribe};
use optimist_tests::system::address;
use optimist_tests::{Answer, Client, Kind, Options, Origin, System};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{Transcript, framing};

struct Teller {
    transcript: Transcript,
    /// The routes that were asked.
    routes: BTreeSet<&'static str>,
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
        if let Matched::Route(route, _) = lookup(method.as_str(), path.split('?').next().unwrap_or_default())
        {
            self.routes.insert(route.name);
        }
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

    /// Asks for a long or changing body; the transcript notes only the head.
    async fn head_of(&mut self, client: &Client, path: &str) {
        let answer = client.get(path).await;
        if let Matched::Route(route, _) = lookup("GET", path) {
            self.routes.insert(route.name);
        }
        self.transcript.note(&format!("GET {path}"), &Answer { body: Value::Null, ..answer });
    }

    async fn post(&mut self, client: &Client, path: &str, body: Value) -> Answer {
        self.ask(client, Method::POST, path, &[], body).await
    }
}

pub async fn tell(kind: Kind) -> Transcript {
    let settings = vec![("OPTIMIST_GATEWAY_URL", "https://live.example.org".to_owned())];
    let mut system = System::with(Options { kind, settings, ..Options::default() }).await;
    let mut teller = Teller { transcript: Transcript::default(), routes: BTreeSet::new() };
    let anyone = system.client();
    routing(&mut teller, &anyone).await;

    let register = json!({"email": "ada@example.org", "password": PASSWORD, "name": "Ada"});
    let registered = teller.post(&anyone, "/v1/auth/register", register.clone()).await;
    teller.post(&anyone, "/v1/auth/register", register).await;
    let mut ada = anyone.clone();
    ada.adopt(&registered);
    let login = json!({"email": "ada@example.org", "password": "wrong password"});
    teller.post(&anyone, "/v1/auth/login", login).await;
    mails(&mut teller, &anyone, &ada).await;
    teller.post(&anyone, "/v1/auth/refresh", json!({"refresh_token": ada.refresh_token})).await;
    for path in
        ["/v1/auth/session", "/v1/auth/session", "/v1/me/limits", "/v1/me", "/v1/me", "/v1/me/sessions"]
    {
        teller.get(&ada, path).await;
    }
    teller.ask(&ada, Method::PATCH, "/v1/me", &[("if-match", "\"9\"")], json!({"bio": "Counts."})).await;
    let tag = ada.get("/v1/me").await.header("etag").to_owned();
    teller.ask(&ada, Method::PATCH, "/v1/me", &[("if-match", &tag)], json!({"bio": "Counts."})).await;

    preferences(&mut teller, &ada).await;
    recent(&mut teller, &ada).await;

    let bo = system.register("Bo").await;
    circles::circles(&mut teller, &system, &ada, &bo).await;
    journal(&mut teller, &ada).await;
    places(&mut teller, &ada).await;
    consequences(&mut teller, &system, &ada).await;
    administration(&mut teller, &system, &ada).await;
    circles::read(&mut teller, &ada).await;
    teller.get(&ada, "/v1/me/circles").await;
    teller.post(&ada, "/v1/realtime/tickets", json!({})).await;
    teller.get(&ada, "/v1/events?last_event_id=x").await;
    teller.get(&ada, "/v1/events?circles=x").await;
    first_event(&system.url(), &ada).await;
    teller.get(&ada, "/v1/ws").await;
    if kind == Kind::Cloudflare {
        socket(&system.url(), &ada).await;
    }
    let cy = system.register("Cy").await;
    for password in ["not the right one", PASSWORD] {
        let erasure = json!({"password": password, "messages": "keep"});
        teller.ask(&cy, Method::DELETE, "/v1/me", &[], erasure).await;
    }
    teller.get(&cy, "/v1/me").await;
    let di = system.register("Di").await;
    for query in ["q=nobody%20says%20-this", "q=-this"] {
        teller.get(&di, &format!("/v1/search?{query}")).await;
    }
    later::reports(&mut teller, &system).await;
    later::export(&mut teller, &system, &di).await;
    let all: BTreeSet<&str> = ROUTES.iter().map(|route| route.name).collect();
    assert_eq!(teller.routes, all, "the story leaves routes out");

    let odd = system.register("Odette").await;
    framing::tell(&mut teller.transcript, &system, &odd).await;

    system.redis.kill();
    let said = json!({"state": "online", "device": "phone"});
    teller.ask(&ada, Method::PUT, "/v1/me/presence", &[], said).await;
    teller.get(&ada, "/v1/me").await;
    // The proxy accepts the connection, and it breaks. (workerd reports a refused connection as a broken one.)
    system.origins[0].kill();
    teller.get(&ada, "/v1/me").await;
    teller.post(&ada, "/v1/circles", json!({"name": "Never", "visibility": "public"})).await;
    teller.transcript
}

/// How the product is for a person.
async fn preferences(teller: &mut Teller, ada: &Client) {
    let path = "/v1/me/preferences";
    let mut wanted = teller.get(ada, path).await.body;
    teller.get(ada, path).await;
    wanted["presence"] = "nobody".into();
    teller.ask(ada, Method::PUT, path, &[("if-match", "\"9\"")], wanted.clone()).await;
    teller.ask(ada, Method::PUT, path, &[], wanted.clone()).await;
    wanted["week_start"] = "friday".into();
    teller.ask(ada, Method::PUT, path, &[], wanted).await;
    teller.ask(ada, Method::PUT, path, &[], json!({"locale": "de"})).await;
}

/// What one has looked at. The edge answers, but for a body that it does not understand.
async fn recent(teller: &mut Teller, ada: &Client) {
    let (path, id) = ("/v1/me/recent", "0190a0a0-0000-7000-8000-00000000c1c1");
    for body in [
        json!({"kind": "circle", "id": id}),
        json!({"kind": "message", "id": id}),
        json!({"kind": "message", "id": id, "circle_id": id}),
    ] {
        teller.post(ada, path, body).await;
        // So that they have an order.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    teller.get(ada, path).await;
    teller.get(ada, "/v1/me/context").await;
}

/// On a service that sends no mail.
async fn mails(teller: &mut Teller, anyone: &Client, ada: &Client) {
    let email = json!({"email": "ada@example.org"});
    teller.post(anyone, "/v1/auth/verify/resend", email.clone()).await;
    teller.post(anyone, "/v1/auth/password/forgot", email).await;
    teller.post(anyone, "/v1/auth/verify", json!({"token": "made-up"})).await;
    let reset = json!({"token": "made-up", "password": "another horse battery"});
    teller.post(anyone, "/v1/auth/password/reset", reset).await;
    let moved = json!({"email": "ada@example.com", "password": PASSWORD});
    teller.post(ada, "/v1/me/email", moved.clone()).await;
    teller.post(anyone, "/v1/me/email", moved).await;
}

/// An edge passes the first event on while the stream goes on.
async fn first_event(url: &str, client: &Client) {
    let token = format!("Bearer {}", client.token.as_deref().unwrap_or_default());
    let request = reqwest::Client::new().get(format!("{url}/v1/events")).header("authorization", token);
    let mut response = request.send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
    let first = tokio::time::timeout(std::time::Duration::from_secs(20), response.chunk()).await;
    let first = first.expect("an event").unwrap().unwrap();
    let text = String::from_utf8_lossy(&first);
    assert!(text.starts_with("id: 1.") && text.contains(r#""recovered":true"#), "{text}");
}

/// A Worker passes a WebSocket on, and another host the refusal that names the gateway.
async fn socket(url: &str, client: &Client) {
    let mut listener = subscribe(address(url), Transport::Socket, client, "").await;
    assert_eq!(listener.expect("ready").await["data"]["recovered"], true);
    listener.command("{\"type\":\"ping\"}");
    listener.expect("pong").await;
    listener.command("{\"type\":\"shout\"}");
    assert_eq!(listener.expect("closed").await["data"]["code"], 4400);
    assert_eq!(connect(address(url), Transport::Socket, "nonsense", "").await.err(), Some(401));
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

async fn reactions(teller: &mut Teller, system: &System, bo: &Client, message: &str) {
    teller.ask(bo, Method::PUT, &format!("{message}/reactions/frown"), &[], Value::Null).await;
    // First the origin answers, and installs the message's state; then the edge.
    for kind in ["heart", "hug", "hug"] {
        teller.ask(bo, Method::PUT, &format!("{message}/reactions/{kind}"), &[], Value::Null).await;
    }
    teller.ask(bo, Method::DELETE, &format!("{message}/reactions/heart"), &[], Value::Null).await;
    let (circle, id) = message.split_once("/messages/").unwrap();
    // The list shows what has been flushed: the heart that was taken back, and the hug.
    let sql =
        format!("select count(*) filter (where is_on), count(*) from reactions where message_id = '{id}'");
    wait_for_sql(system, &sql, "1|2").await;
    teller.get(bo, &format!("{message}/reactions")).await;
    teller.get(bo, &format!("{message}/reactions?limit=1")).await;
    teller.get(bo, &format!("{circle}/reactions/mine?messages={id}")).await;
    teller.get(bo, &format!("{circle}/reactions/mine?messages=x")).await;
    teller.get(bo, message).await;
    teller.get(bo, message).await;
}

/// A thread: the origin answers first, and then the edge.
async fn comments(teller: &mut Teller, bo: &Client, messages: &str, message: &str) {
    let thread = format!("{messages}/{message}/comments");
    let said = teller.post(bo, &thread, json!({"body": "So do I."})).await;
    let comment = format!("{messages}/{}", said.text("/id"));
    teller.post(bo, &format!("{comment}/comments"), json!({"body": "One level."})).await;
    for rest in ["?limit=1", "?limit=2", "?after=x"] {
        teller.get(bo, &format!("{thread}{rest}")).await;
    }
    teller.get(bo, &format!("{messages}/{message}")).await;
    let (circle, _) = messages.trim_start_matches("/v1/circles/").split_once('/').unwrap();
    let favorite = format!("/v1/me/favorites/{}", said.text("/id"));
    for circle in [circle, "0190a0a0-0000-7000-8000-00000000c1c1"] {
        teller.ask(bo, Method::PUT, &favorite, &[], json!({"circle_id": circle})).await;
    }
    teller.get(bo, "/v1/me/favorites").await;
    for _ in 0..2 {
        teller.ask(bo, Method::DELETE, &favorite, &[], Value::Null).await;
    }
    teller.ask(bo, Method::DELETE, &comment, &[], Value::Null).await;
}

/// Somebody blocks and mutes somebody: lists that name them come from the origin.
async fn blocks(teller: &mut Teller, ada: &Client, bo: &Client, messages: &str) {
    for kind in ["blocks", "mutes"] {
        let (list, path) = (format!("/v1/me/{kind}"), format!("/v1/me/{kind}/{}", bo.user));
        teller.ask(ada, Method::PUT, &path, &[], Value::Null).await;
        teller.ask(ada, Method::PUT, &format!("{list}/{}", ada.user), &[], Value::Null).await;
        teller.get(ada, &list).await;
        for _ in 0..2 {
            // The relay has dropped what the writes before made old, and a fill has come to its end.
            tokio::time::sleep(Duration::from_millis(700)).await;
            teller.get(ada, &format!("{messages}?limit=1")).await;
            teller.get(ada, &format!("/v1/users/{}", bo.user)).await;
        }
        for _ in 0..2 {
            teller.ask(ada, Method::DELETE, &path, &[], Value::Null).await;
        }
    }
}

/// What Redis alone holds, and the edge answers: also with bodies, which it leaves to the origin unless it understands them.
async fn presence(teller: &mut Teller, ada: &Client, bo: &Client, circle: &str) {
    let (live, draft) = (format!("{circle}/live"), format!("{circle}/draft"));
    teller.get(bo, &live).await;
    teller.ask(bo, Method::PUT, &format!("{circle}/typing"), &[], Value::Null).await;
    teller.get(bo, &live).await;
    teller.get(bo, &draft).await;
    for body in [json!({"body": " Good mor"}), json!({"body": 7}), json!({"body": "x".repeat(120_000)})] {
        teller.ask(bo, Method::PUT, &draft, &[], body).await;
    }
    teller.get(bo, &draft).await;
    teller.ask(bo, Method::DELETE, &draft, &[("if-match", "\"1\"")], Value::Null).await;
    teller.ask(bo, Method::DELETE, &draft, &[], Value::Null).await;
    teller.get(bo, &draft).await;
    for state in ["online", "invisible", "gone"] {
        let said = json!({"state": state, "device": "phone"});
        teller.ask(bo, Method::PUT, "/v1/me/presence", &[], said).await;
        teller.get(ada, &format!("/v1/users/{}/presence", bo.user)).await;
    }
}

async fn journal(teller: &mut Teller, ada: &Client) {
    let id = "0190a0a0-0000-7000-8000-00000000d4af";
    let draft = format!("/v1/journal/drafts/{id}");
    let put = |body: &str, base: Value| json!({"body": body, "title": "Monday", "tags": ["Rain"], "base_version": base});
    teller.ask(ada, Method::PUT, &draft, &[], json!({"body": "x", "base_version": "newest"})).await;
    let saved = teller.ask(ada, Method::PUT, &draft, &[], put("Dear", Value::Null)).await;
    let base = saved.body["version"].clone();
    teller.ask(ada, Method::PUT, &draft, &[], put("Dear diary", base.clone())).await;
    let refused = teller.ask(ada, Method::PUT, &draft, &[], put("Dear me", base)).await;
    teller.get(ada, &draft).await;
    let sibling = format!("/v1/journal/drafts/{}", refused.text("/sibling/id"));
    teller.ask(ada, Method::DELETE, &sibling, &[], Value::Null).await;
    teller.get(ada, &sibling).await;
    teller.get(ada, "/v1/journal/drafts").await;
    let entry = json!({
        "draft_id": id, "body": "Dear diary.", "tags": ["Rain"], "mood": 4, "entry_date": "2026-03-01",
    });
    let key = [("idempotency-key", "an-entry")];
    let saved = teller.ask(ada, Method::POST, "/v1/journal/entries", &key, entry.clone()).await;
    teller.ask(ada, Method::POST, "/v1/journal/entries", &key, entry).await;
    teller.get(ada, &draft).await;
    let entry = format!("/v1/journal/entries/{}", saved.text("/id"));
    let tag = saved.header("etag").to_owned();
    teller.get(ada, &entry).await;
    teller.ask(ada, Method::GET, &entry, &[("if-none-match", &tag)], Value::Null).await;
    teller.ask(ada, Method::PATCH, &entry, &[("if-match", &tag)], json!({"mood": 5})).await;
    teller.ask(ada, Method::PATCH, &entry, &[("if-match", &tag)], json!({"mood": 3})).await;
    for path in [
        "entries?limit=1",
        "entries?tag=rain",
        "entries?colour=red",
        "streak",
        "tags/recent",
        "prompts?category=none",
    ] {
        teller.get(ada, &format!("/v1/journal/{path}")).await;
    }
    teller.post(ada, "/v1/journal/entries/search", json!({"tag": "RAIN", "limit": 1})).await;
    teller.post(ada, "/v1/journal/entries/search", json!({"tags": ["rain"]})).await;
    teller.ask(ada, Method::DELETE, &entry, &[], Value::Null).await;
    teller.get(ada, &entry).await;
    teller.post(ada, "/v1/mood", json!({"score": 9})).await;
    let mood =
        json!({"score": 4, "emotions": ["calm"], "note": "Slept.", "logged_at": "2026-03-01T08:00:00Z"});
    let logged = teller.post(ada, "/v1/mood", mood).await;
    let mood = format!("/v1/mood/{}", logged.text("/id"));
    let tag = logged.header("etag").to_owned();
    teller.ask(ada, Method::PATCH, &mood, &[("if-match", &tag)], json!({"score": 5})).await;
    teller.ask(ada, Method::PATCH, &mood, &[("if-match", &tag)], json!({"score": 2})).await;
    teller.get(ada, &mood).await;
    teller.get(ada, "/v1/mood").await;
    teller.ask(ada, Method::DELETE, &mood, &[("if-match", &tag)], Value::Null).await;
    teller.ask(ada, Method::DELETE, &mood, &[], Value::Null).await;
}

/// What one is told of, and through what.
async fn places(teller: &mut Teller, ada: &Client) {
    let preferences = "/v1/me/notification-preferences";
    let mut wanted = teller.get(ada, preferences).await.body;
    wanted["quiet"] = json!({"from": "22:00", "to": "07:00"});
    for _ in 0..2 {
        teller.ask(ada, Method::PUT, preferences, &[], wanted.clone()).await;
    }
    teller.ask(ada, Method::PUT, preferences, &[], json!({"kinds": {}})).await;
    let tokens = "/v1/me/push-tokens";
    // Not after a write, which may refill what it finds, or not.
    teller.get(ada, tokens).await;
    for endpoint in ["https://127.9.9.9/hook", "http://10.0.0.1/hook"] {
        teller.post(ada, tokens, json!({"endpoint": endpoint})).await;
    }
    let token = ada.get(tokens).await.text("/items/0/id");
    for _ in 0..2 {
        teller.ask(ada, Method::DELETE, &format!("{tokens}/{token}"), &[], Value::Null).await;
    }
}

/// The effects of one person's actions on others.
async fn consequences(teller: &mut Teller, system: &System, ada: &Client) {
    let cy = system.register("Cy").await;
    let circle =
        teller.post(ada, "/v1/circles", json!({"name": "Walks", "visibility": "public"})).await.text("/id");
    let circle = format!("/v1/circles/{circle}");
    let invite =
        teller.post(ada, &format!("{circle}/invites"), json!({"user": cy.user})).await.text("/invite");
    wait_for_unread(system, &cy, 1).await;
    teller.get(&cy, "/v1/notifications").await;
    teller.post(&cy, &format!("{circle}/members/me"), json!({"invite": invite})).await;
    let member = format!("{circle}/members/{}", cy.user);
    teller.ask(ada, Method::PATCH, &member, &[], json!({"role": "moderator"})).await;
    wait_for_unread(system, &cy, 2).await;
    // First the origin answers, and opens the partition; then the edge.
    for _ in 0..3 {
        teller.post(&cy, &format!("{circle}/visits"), Value::Null).await;
    }
    let live = format!("{circle}/activity/live");
    teller.get(&cy, &live).await;
    teller.get(&cy, &format!("{circle}/activity/history")).await;
    teller.get(&cy, &format!("{circle}/growth")).await;
    teller.get(&cy, &format!("{circle}/growth?from=x")).await;
    teller.get(&cy, &format!("{circle}/stats?from=2026-11-23")).await;
    for query in ["?category=grief", "?limit=0"] {
        teller.get(&cy, &format!("/v1/messages/popular{query}")).await;
    }
    let list = cy.get("/v1/notifications").await;
    let first = format!("/v1/notifications/{}/read", list.text("/items/0/id"));
    for _ in 0..2 {
        teller.post(&cy, &first, Value::Null).await;
    }
    teller.get(&cy, first.replace("/read", "/delivery").as_str()).await;
    teller.get(&cy, "/v1/notifications/unread-count").await;
    teller.post(&cy, "/v1/notifications/read", Value::Null).await;
    teller.post(ada, &first, Value::Null).await;
    // A valid list is not asked for, since a job may have refreshed it meanwhile.
    teller.get(&cy, "/v1/circles?limit=0").await;
    teller.ask(ada, Method::DELETE, &member, &[], Value::Null).await;
    teller.get(&cy, &live).await;
    for query in ["?limit=0", "?cursor=x"] {
        teller.get(&cy, &format!("{circle}/activity{query}")).await;
    }
    let dee = system.register("Dee").await;
    circles::joining(teller, ada, &dee, &circle).await;
    circles::handing_over(teller, ada, &dee, &circle).await;
    teller.ask(&dee, Method::DELETE, &circle, &[], Value::Null).await;
    teller.get(ada, &format!("/v1/users/{}", cy.user)).await;
    for current in ["not the right one", PASSWORD] {
        let body = json!({"current": current, "new": "another horse battery"});
        teller.post(&cy, "/v1/me/password", body).await;
    }
    teller.ask(&cy, Method::DELETE, "/v1/me/sessions", &[], Value::Null).await;
    let session = format!("/v1/me/sessions/{}", cy.session);
    teller.ask(&cy, Method::DELETE, &session, &[], Value::Null).await;
    teller.get(&cy, "/v1/me").await;
}

async fn wait_for_unread(system: &System, client: &Client, unread: u64) {
    let sql = format!("select unread from notification_counts where user_id = '{}'", client.user);
    wait_for_sql(system, &sql, &unread.to_string()).await;
}

/// Asks Postgres instead of the API, whose limits appear in the transcript.
async fn wait_for_sql(system: &System, sql: &str, wanted: &str) {
    let deadline = optimist_tests::patience();
    while system.sql(sql) != wanted {
        assert!(Instant::now() < deadline, "{sql} is not {wanted}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn administration(teller: &mut Teller, system: &System, ada: &Client) {
    teller.head_of(ada, "/v1/openapi.json").await;
    teller.get(ada, "/v1/admin/jobs").await;
    assert!(Origin::command(&system.environment(), &["admin", "grant", "ada@example.org"]).0);
    for path in ["jobs", "policies", "consistency"] {
        teller.head_of(ada, &format!("/v1/admin/{path}")).await;
    }
    // The trail follows a little later: what it has by now differs between runs.
    for path in ["/v1/admin/audit?limit=0", "/v1/me/audit?limit=0"] {
        teller.get(ada, path).await;
    }
    teller.ask(ada, Method::DELETE, "/v1/admin/cache/nonsense", &[], Value::Null).await;
    let dot = system.register("Dot").await;
    let path = format!("/v1/admin/users/{}", dot.user);
    for reason in ["", "Sends advertisements."] {
        let body = json!({"reason": reason, "until": "2099-01-01T00:00:00Z"});
        teller.post(ada, &format!("{path}/suspend"), body).await;
    }
    teller.get(&dot, "/v1/me").await;
    let login = json!({"email": dot.email, "password": PASSWORD});
    teller.post(&system.client(), "/v1/auth/login", login).await;
    teller.post(ada, &format!("{path}/restore"), Value::Null).await;
}
