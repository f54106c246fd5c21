//! A simple client for the API: requests one after the other, answers read whole. No TLS, no retries, no redirects.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use ureq::Agent;
use ureq::http::{HeaderMap, Method, Request};

/// Longer than any deadline of the edge, so that a hang shows as the edge's own answer.
const TIMEOUT: Duration = Duration::from_secs(15);
/// No answer of the API is larger.
const LARGEST_ANSWER: u64 = 4 << 20;

pub struct Answer {
    pub status: u16,
    headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// A header's value, or an empty string. Several headers of one name are joined by commas, as HTTP allows.
    pub fn header(&self, name: &str) -> String {
        let values = self.headers.get_all(name).into_iter();
        values.filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(", ")
    }

    /// A string in the JSON body, by its pointer ("/session/token").
    pub fn text(&self, pointer: &str) -> Result<String> {
        let value = self.body.pointer(pointer).and_then(Value::as_str);
        value.map(str::to_owned).with_context(|| format!("the answer has no {pointer}: {}", self.body))
    }
}

/// A request without a body or credentials.
pub fn get(url: &str) -> Result<Answer> {
    send(Method::GET, url, None, None)
}

/// The body of an answer that streams.
pub fn stream(url: &str, token: &str) -> Result<impl std::io::Read + Send + use<>> {
    let request = Request::builder().uri(url).header("authorization", format!("Bearer {token}"));
    let agent = Agent::config_builder().timeout_recv_response(Some(TIMEOUT)).build().new_agent();
    let response = agent.run(request.body(())?).with_context(|| format!("no answer from {url}"))?;
    Ok(response.into_body().into_reader())
}

/// Any status is an answer; only a request without an answer is an error.
pub fn send(method: Method, url: &str, token: Option<&str>, body: Option<&Value>) -> Result<Answer> {
    let mut request = Request::builder().method(method).uri(url);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let sent = match body {
        Some(body) => {
            let request = request.header("content-type", "application/json");
            agent().run(request.body(serde_json::to_vec(body)?)?)
        }
        None => agent().run(request.body(())?),
    };
    let mut response = sent.with_context(|| format!("no answer from {url}"))?;
    let bytes = response.body_mut().with_config().limit(LARGEST_ANSWER).read_to_vec()?;
    Ok(Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        // Not every answer is JSON (metrics, for one), and some are empty.
        body: match serde_json::from_slice(&bytes) {
            Ok(body) => body,
            Err(_) if bytes.is_empty() => Value::Null,
            Err(_) => String::from_utf8_lossy(&bytes).into(),
        },
    })
}

/// Without a connection pool, since servers are killed between two requests.
fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_idle_connections(0)
        .timeout_global(Some(TIMEOUT))
        .user_agent("optimist-xtask")
        .build()
        .into()
}
