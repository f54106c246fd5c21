//! A client of the API: sends requests, and returns the answers.

use crate::waiting::until;
use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

/// An answer. The body is JSON, a string if it is not JSON, or null if it is empty.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// By lower-case name; several lines of one header are joined by `, `.
    pub headers: BTreeMap<String, String>,
    pub body: Value,
}

impl Answer {
    /// Returns the answer; panics unless its status is this.
    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// A string in the body, by its JSON pointer: `/session/token`.
    #[track_caller]
    pub fn text(&self, pointer: &str) -> String {
        let value = self.body.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_else(|| panic!("no text at {pointer} of {self:#?}")).to_owned()
    }

    /// Whether the edge answered from Redis.
    pub fn is_hit(&self) -> bool {
        self.header("cache-status").contains("hit")
    }
}

/// A caller of the API at a base URL, signed in or not.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    pub url: String,
    pub token: Option<String>,
    pub refresh_token: String,
    pub user: String,
    pub session: String,
    pub email: String,
}

pub const PASSWORD: &str = "correct horse battery staple";

impl Client {
    pub fn new(url: &str) -> Client {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let none = String::new;
        Client {
            http,
            url: url.to_owned(),
            token: None,
            refresh_token: none(),
            user: none(),
            session: none(),
            email: none(),
        }
    }

    /// The same person at another edge.
    pub fn at(&self, url: &str) -> Client {
        Client { url: url.to_owned(), ..self.clone() }
    }

    /// The same person with another session's token.
    pub fn with_token(&self, token: String) -> Client {
        Client { token: Some(token), ..self.clone() }
    }

    /// Registers a person of that name, and signs in as them.
    pub async fn register(url: &str, name: &str) -> Client {
        let mut client = Client::new(url);
        client.email = format!("{}-{}@example.org", name.to_lowercase(), uuid::Uuid::new_v4().simple());
        let body = json!({"email": client.email, "password": PASSWORD, "name": name});
        let answer = client.post("/v1/auth/register", body).await.expect(201);
        client.adopt(&answer);
        client
    }

    /// A new session of the same person.
    pub async fn log_in(&self) -> Client {
        let mut client = Client { token: None, ..self.clone() };
        let answer = client
            .post("/v1/auth/login", json!({"email": self.email, "password": PASSWORD}))
            .await
            .expect(200);
        client.adopt(&answer);
        client
    }

    /// Takes over the session that an answer opened.
    pub fn adopt(&mut self, answer: &Answer) {
        let token = answer.text("/session/token");
        let mut parts = token.split('.');
        self.user = parts.next().unwrap_or_default().to_owned();
        self.session = parts.next().unwrap_or_default().to_owned();
        self.token = Some(token);
        self.refresh_token = answer.text("/refresh_token");
    }

    pub async fn create_circle(&self, visibility: &str) -> String {
        let body = json!({"name": "A circle", "visibility": visibility});
        self.post("/v1/circles", body).await.expect(201).text("/id")
    }

    /// Joins a circle with an invitation by `host`.
    pub async fn join(&self, circle: &str, host: &Client) {
        let invite =
            host.post(&format!("/v1/circles/{circle}/invites"), json!({})).await.expect(201).text("/invite");
        self.post(&format!("/v1/circles/{circle}/members/me"), json!({"invite": invite})).await.expect(201);
    }

    pub async fn say(&self, circle: &str, body: &str) -> String {
        self.post(&format!("/v1/circles/{circle}/messages"), json!({"body": body}))
            .await
            .expect(201)
            .text("/id")
    }

    /// Reads until a copy answers.
    pub async fn until_hit(&self, path: &str) {
        until(&format!("{path} is a hit"), async || self.get(path).await.expect(200).is_hit()).await;
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, &[], Some(body.to_string().into_bytes())).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, &[], Some(body.to_string().into_bytes())).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], None).await
    }

    /// Any request. A body is JSON unless a header says otherwise.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Answer {
        self.try_send(method, path, headers, body).await.expect("an answer")
    }

    /// As [`Client::send`], for tests in which the connection may break.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> reqwest::Result<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(body) = body {
            if !headers.iter().any(|(name, _)| *name == "content-type") {
                request = request.header("content-type", "application/json");
            }
            request = request.body(body);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let mut named: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in response.headers() {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            named
                .entry(name.to_string())
                .and_modify(|line| *line = format!("{line}, {value}"))
                .or_insert(value);
        }
        let text = response.text().await?;
        let body = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        };
        Ok(Answer { status, headers: named, body })
    }
}
