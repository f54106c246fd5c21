//! Odd framing, and headers that come twice, folded, or not for the origin: requests as no client library sends them.
//!
//! The transcript notes the status, and the fields that a problem names: a host's server refuses some requests before the edge
//! sees them, in words of its own. (It also refuses methods that it does not know, which others pass on to be refused.)

use std::collections::BTreeMap;

use optimist_tests::system::address;
use optimist_tests::{Answer, Client, System};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Transcript;

/// Asks one question after the other, each on a connection of its own.
pub async fn tell(transcript: &mut Transcript, system: &System, ada: &Client) {
    let token = ada.token.as_deref().unwrap();
    let bearer = format!("authorization: Bearer {token}");
    let me = ada.get("/v1/me").await;
    let tag = me.header("etag");
    let reads: [(&str, &[&str]); 19] = [
        ("two authorizations", &[&bearer]),
        ("an authorization and an empty one", &["authorization:"]),
        ("a folded header", &["user-agent: one\r\n two"]),
        ("a tab in a value", &["user-agent: one\ttwo"]),
        ("a value that is not ASCII", &["user-agent: caf\u{e9}"]),
        ("a space before the colon", &["user-agent : one"]),
        ("no colon", &["nonsense"]),
        ("two origins", &["origin: https://app.example.org", "origin: https://app.example.org"]),
        ("a list in two lines", &["if-none-match: \"x\"", &format!("if-none-match: {tag}")]),
        ("a list with a tab", &[&format!("if-none-match: \"x\",\t{tag}")]),
        ("two trace parents", &[TRACE, TRACE]),
        (
            "an offer of HTTP/2",
            &["connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABk"],
        ),
        ("settings of HTTP/2 alone", &["http2-settings: AAMAAABk"]),
        (
            "words for a proxy",
            &["proxy-authorization: Basic eDp5", "proxy-authenticate: Basic", "proxy-connection: close"],
        ),
        ("words about the connection", &["keep-alive: timeout=5", "te: trailers", "trailer: x"]),
        ("a header that concerns the connection", &["connection: authorization"]),
        ("an expectation", &["expect: 100-continue"]),
        ("a length of nothing", &["content-length: 0"]),
        ("a range", &["range: bytes=0-3"]),
    ];
    for (what, lines) in reads {
        for path in ["/v1/me", "/v1/me/sessions"] {
            let lines = [&[bearer.as_str()], lines].concat();
            ask(transcript, system, &format!("GET {path} HTTP/1.1"), &lines, "", what).await;
        }
    }
    let json = "content-type: application/json";
    let body = "{\"bio\":\"Odd.\"}";
    let length = format!("content-length: {}", body.len());
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let writes: [(&str, &[&str], &str); 16] = [
        ("two types", &[json, json, &length], body),
        (
            "a list of conditions in two lines",
            &[json, &length, "if-match: \"x\"", &format!("if-match: {tag}")],
            body,
        ),
        (
            "the same encoding twice",
            &[json, &length, "content-encoding: identity", "content-encoding: identity"],
            body,
        ),
        ("another encoding", &[json, &length, "content-encoding: identity", "content-encoding: gzip"], body),
        ("two equal lengths", &[json, &length, &length], body),
        ("two lengths", &[json, &length, "content-length: 3"], body),
        ("a length with a sign", &[json, "content-length: +14"], body),
        ("a length below zero", &[json, "content-length: -1"], body),
        ("chunks", &[json, "transfer-encoding: chunked"], &chunks),
        ("chunks and a length", &[json, &length, "transfer-encoding: chunked"], &chunks),
        ("chunks twice", &[json, "transfer-encoding: chunked", "transfer-encoding: chunked"], &chunks),
        ("an unknown coding", &[json, "transfer-encoding: gzip, chunked"], &chunks),
        ("a chunk without a length", &[json, "transfer-encoding: chunked"], "zz\r\n{}\r\n0\r\n\r\n"),
        (
            "a chunk with an extension",
            &[json, "transfer-encoding: chunked"],
            &chunks.replacen("\r\n", ";x=y\r\n", 1),
        ),
        (
            "a trailer",
            &[json, "transfer-encoding: chunked", "trailer: if-match"],
            &chunks.replace("0\r\n\r\n", "0\r\nif-match: \"none\"\r\n\r\n"),
        ),
        ("neither length nor chunks", &[json], ""),
    ];
    for (what, lines, body) in writes {
        let lines = [&[bearer.as_str()], lines].concat();
        ask(transcript, system, "PATCH /v1/me HTTP/1.1", &lines, body, what).await;
    }
    let keys = ["idempotency-key: a", "idempotency-key: a", json, "content-length: 2"];
    let lines = [&[bearer.as_str()], &keys[..]].concat();
    ask(transcript, system, "POST /v1/circles HTTP/1.1", &lines, "{}", "two keys").await;
    for line in [
        "GET /v1/me HTTP/1.0",
        "GET http://elsewhere.example.org/v1/me HTTP/1.1",
        "GET /v1/me#x HTTP/1.1",
        "GET /v1/circles/../me HTTP/1.1",
        "GET /v1/%6de HTTP/1.1",
        "GET /v1/me? HTTP/1.1",
        "GET //v1/me HTTP/1.1",
        "GET /v1/me HTTP/2.0",
        "OPTIONS * HTTP/1.1",
        "GET  /v1/me HTTP/1.1",
        "GET /v1/caf\u{e9} HTTP/1.1",
    ] {
        ask(transcript, system, line, &[&bearer], "", "a request line").await;
    }
    let twice = ["host: one.example.org", "host: two.example.org", &bearer];
    ask(transcript, system, "GET /v1/me HTTP/1.1", &twice, "", "two more hosts").await;
}

const TRACE: &str = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Sends a request as it is given, and notes its answer.
async fn ask(
    transcript: &mut Transcript,
    system: &System,
    line: &str,
    lines: &[&str],
    body: &str,
    what: &str,
) {
    let host = address(&system.edge.url);
    let head = format!("{line}\r\nhost: {host}\r\n{}\r\nconnection: close\r\n\r\n", lines.join("\r\n"));
    let mut stream = TcpStream::connect(host).await.unwrap();
    // The server may have closed before the body.
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), stream.read_to_end(&mut bytes)).await;
    let mut answer = answer(&String::from_utf8_lossy(&bytes));
    if system.options.kind.refuses_as_spin() && names_two_servers(line, lines) {
        assert_eq!(answer.status, 0, "{line}, {what}: Spin closes the connection");
        // As the other hosts answer.
        answer.status = 200;
    }
    transcript.note(&format!("{line}, {what}"), &answer);
}

/// In its line as well as in its `Host`, or in several of those.
fn names_two_servers(line: &str, lines: &[&str]) -> bool {
    line.contains("http://") || lines.iter().any(|line| line.starts_with("host:"))
}

/// The status, and the fields that a problem of the edge's or the origin's names.
fn answer(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    // Perhaps in chunks: the JSON stands between the first and the last brace.
    let json = body.find('{').zip(body.rfind('}')).and_then(|(first, last)| body.get(first..=last));
    let problem: Value = json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    Answer { status, headers: BTreeMap::new(), body: problem["errors"].clone() }
}
