//! The part of the story that is about circles: made, joined, read.

use optimist_tests::{Client, System};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Teller, blocks, comments, presence, reactions};

pub async fn circles(teller: &mut Teller, system: &System, ada: &Client, bo: &Client) {
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
    for (category, order) in [("sleep", "new"), ("hats", "popular"), ("sleep", "old")] {
        teller.get(bo, &format!("/v1/circles?category={category}&order={order}")).await;
    }
    for _ in 0..2 {
        teller.get(bo, "/v1/categories").await;
    }
    teller.ask(ada, Method::PATCH, &circle, &[], json!({"category": "hats"})).await;
    teller.ask(ada, Method::PATCH, &circle, &[], json!({"category": "writing"})).await;
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
    reactions(teller, system, bo, &format!("{messages}/{}", page.text("/items/1/id"))).await;
    comments(teller, bo, &messages, &page.text("/items/2/id")).await;
    blocks(teller, ada, bo, &messages).await;
    presence(teller, ada, bo, &circle).await;
    let before = format!("{messages}?limit=3&before={}", page.text("/next"));
    let page = bo.get(&before).await;
    teller.transcript.note("GET the next page", &page);
    teller.get(bo, &format!("{messages}?limit=2&after=1")).await;
    teller.get(bo, &format!("{messages}?after=1&before=2")).await;
    let newest = format!("{messages}/{}", page.text("/items/0/id"));
    teller.ask(ada, Method::PATCH, &newest, &[], json!({"body": "Number 10, mended."})).await;
    teller.ask(ada, Method::DELETE, &newest, &[], Value::Null).await;
    teller.get(bo, &newest).await;
    teller.get(bo, &format!("{circle}/members")).await;
    teller.ask(ada, Method::PATCH, &circle, &[], json!({"rules": "Be kind."})).await;
    teller.ask(bo, Method::PATCH, &circle, &[], json!({"name": "Mine"})).await;
    let open = teller.post(ada, &format!("{circle}/invites"), json!({})).await.text("/id");
    teller.get(ada, &format!("{circle}/invites")).await;
    teller.get(bo, &format!("{circle}/invites")).await;
    teller.ask(ada, Method::DELETE, &format!("{circle}/invites/{open}"), &[], Value::Null).await;
    teller.get(ada, &format!("{circle}/bans")).await;
    teller.ask(ada, Method::DELETE, &format!("{circle}/bans/{}", bo.user), &[], Value::Null).await;
    teller.post(bo, &format!("{circle}/restore"), json!({})).await;
    teller.post(ada, &format!("{circle}/restore"), json!({})).await;
    teller.ask(bo, Method::DELETE, &format!("{circle}/members/me"), &[], Value::Null).await;
    // A warm key is refilled after the response, unless the relay comes in between. After a read of its own the edge knows.
    bo.get(&messages).await.expect(404);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    teller.get(bo, &messages).await;
    teller.post(bo, "/v1/auth/logout", Value::Null).await;
    teller.get(bo, "/v1/me").await;
}

/// The circle is offered, declined, offered again and accepted.
pub async fn handing_over(teller: &mut Teller, ada: &Client, cy: &Client, circle: &str) {
    let ownership = format!("{circle}/ownership");
    for user in [&ada.user, &cy.user] {
        teller.ask(ada, Method::PUT, &ownership, &[], json!({"user": user})).await;
    }
    teller.get(cy, &ownership).await;
    teller.ask(cy, Method::DELETE, &ownership, &[], Value::Null).await;
    teller.post(cy, &format!("{ownership}/accept"), json!({})).await;
    let body = json!({"user": cy.user}).to_string().into_bytes();
    ada.send(Method::PUT, &ownership, &[], Some(body)).await.expect(200);
    teller.post(cy, &format!("{ownership}/accept"), json!({})).await;
    teller.get(ada, &ownership).await;
}

/// Somebody asks to join, twice; is declined, asks again, and is let in.
pub async fn joining(teller: &mut Teller, ada: &Client, cy: &Client, circle: &str) {
    teller
        .ask(ada, Method::PATCH, circle, &[], json!({"visibility": "public", "join_policy": "on_request"}))
        .await;
    let requests = format!("{circle}/join-requests");
    for _ in 0..2 {
        teller.post(cy, &requests, json!({"text": "I bake, too."})).await;
    }
    teller.get(cy, &format!("{requests}/me")).await;
    teller.get(ada, &requests).await;
    for decision in ["decline", "approve"] {
        cy.post(&requests, json!({})).await;
        teller.post(ada, &format!("{requests}/{}/{decision}", cy.user), json!({})).await;
    }
    teller.ask(cy, Method::DELETE, &format!("{requests}/me"), &[], Value::Null).await;
    teller.get(ada, &requests).await;
}

pub async fn read(teller: &mut Teller, ada: &Client) {
    let list = ada.get("/v1/me/circles").await;
    let path = format!("/v1/circles/{}/read", list.text("/items/0/id"));
    let newest = list.body["items"][0]["last_number"].clone();
    // The first opens the partition, if nobody has written behind in it yet.
    let first = json!({"number": newest}).to_string().into_bytes();
    ada.send(Method::PUT, &path, &[], Some(first)).await.expect(204);
    for number in [newest.clone(), newest, json!(1_000_000), json!("1")] {
        teller.ask(ada, Method::PUT, &path, &[], json!({"number": number})).await;
    }
}
