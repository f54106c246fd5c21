//! The native host: the errors that it reports to the component, and what it does as Spin does (`--like-spin`).

use std::time::{Duration, Instant};

use optimist_shared::ids::Uuid;
use optimist_shared::session::Token;
use optimist_tests::processes::free_port;
use optimist_tests::system::{address, edge_settings};
use optimist_tests::{Client, Edge, Kind, Options};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Settings of an edge without Redis, which forwards everything, and waits longer for its origin than any test.
fn settings(origin_url: &str) -> Vec<(String, String)> {
    let options = Options { origin_deadline_ms: 120_000, ..Options::default() };
    edge_settings(origin_url, &format!("redis://127.0.0.1:{}", free_port()), &options)
}

fn member(url: &str) -> Client {
    let token = Token { user: Uuid::now_v7(), session: Uuid::now_v7(), secret: [7; 32] };
    Client::new(url).with_token(token.render())
}

fn like_spin(origin_url: &str) -> (Edge, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Edge::start(Kind::LikeSpin, &settings(origin_url), folder.path()), folder)
}

/// The bytes of the answer to these bytes, until the connection closes.
async fn asked(edge: &Edge, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address(&edge.url)).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(5), reading).await.expect("it closes");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_error_before_anything_was_sent_counts_as_unreached() {
    let folder = tempfile::tempdir().unwrap();
    let edge = Edge::failing_by_query(&settings("http://127.0.0.1:9"), folder.path());
    let client = member(&edge.url);
    for error in [
        "DnsTimeout",
        "DestinationNotFound",
        "DestinationUnavailable",
        "DestinationIpProhibited",
        "DestinationIpUnroutable",
        "HttpRequestDenied",
        "ConnectionRefused",
        "ConnectionTimeout",
        "ConnectionLimitReached",
        "TlsProtocolError",
        "TlsCertificateError",
    ] {
        let answer = client.delete(&format!("/v1/me/sessions?fail={error}")).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{error}: {answer:#?}");
        assert_eq!(answer.text("/detail"), "The origin cannot be reached; nothing was changed.", "{error}");
    }
    for error in
        ["ConnectionTerminated", "ConnectionReadTimeout", "HttpProtocolError", "HttpResponseIncomplete"]
    {
        let answer = client.delete(&format!("/v1/me/sessions?fail={error}")).await.expect(504);
        let detail = "The origin's answer was lost; a change may have been made.";
        assert_eq!(answer.text("/detail"), detail, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn as_spin_it_keeps_some_requests_from_the_component() {
    let (edge, _folder) = like_spin("http://127.0.0.1:9");
    let get = async |lines: &str| {
        asked(&edge, format!("GET / HTTP/1.1\r\n{lines}connection: close\r\n\r\n").as_bytes()).await
    };
    assert!(get("host: a\r\n").await.starts_with("HTTP/1.1 404 "), "the component answers");
    for hosts in ["", "host: a b\r\n", "host: a\r\nhost: a\r\n"] {
        assert_eq!(get(hosts).await, "", "{hosts:?}");
    }
    let latin =
        asked(&edge, b"GET / HTTP/1.1\r\nhost: a\r\nuser-agent: caf\xe9\r\nconnection: close\r\n\r\n").await;
    assert!(latin.starts_with("HTTP/1.1 500 ") && latin.ends_with("\r\n\r\n"), "{latin}");
    let client = Client::new(&edge.url);
    assert_eq!(client.get("/.well-known/spin/health").await.expect(200).body, "OK");
    assert_eq!(client.get("/.well-known/spin/info").await.expect(200).text("/name"), "optimist");
}

/// Beyond them a request is an empty 500, until another has ended.
#[tokio::test(flavor = "multi_thread")]
async fn as_spin_it_works_on_a_thousand_requests_at_once() {
    let origin = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (edge, _folder) = like_spin(&format!("http://{}", origin.local_addr().unwrap()));
    // It never answers.
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = origin.accept().await {
            kept.push(stream);
        }
    });
    let token = Token { user: Uuid::now_v7(), session: Uuid::now_v7(), secret: [7; 32] }.render();
    let request = format!(
        "GET /v1/me HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    let mut waiting = Vec::new();
    for _ in 0..1_000 {
        let mut stream = TcpStream::connect(address(&edge.url)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        waiting.push(stream);
    }
    let deadline = optimist_tests::patience();
    let is_refused = async || asked(&edge, request.as_bytes()).await.starts_with("HTTP/1.1 500 ");
    loop {
        // The thousandth may not have been read yet: then this one waits in its place.
        let refused = tokio::time::timeout(Duration::from_millis(500), is_refused()).await;
        if refused.is_ok_and(|refused| refused) {
            break;
        }
        assert!(Instant::now() < deadline, "it goes on accepting");
    }
}

/// An origin that answers each request on a connection that it keeps, and acknowledges late, as the kernel does by itself.
async fn origin_that_keeps_connections() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
                loop {
                    match stream.read(&mut buffer).await {
                        Ok(0) | Err(_) => return,
                        Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                    }
                    if bytes.ends_with(BODY.as_bytes()) {
                        bytes.clear();
                        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                    }
                }
            });
        }
    });
    url
}

const BODY: &str = "{\"bio\":\"Slept well.\"}";

/// A body goes in a segment of its own, which a socket without TCP_NODELAY holds back until the head is acknowledged: some 40 ms.
#[tokio::test(flavor = "multi_thread")]
async fn as_spin_it_sends_a_body_when_the_head_is_acknowledged() {
    let (edge, _folder) = like_spin(&origin_that_keeps_connections().await);
    let client = member(&edge.url);
    let mut times = Vec::new();
    for _ in 0..25 {
        let began = Instant::now();
        client.send(reqwest::Method::PATCH, "/v1/me", &[], Some(BODY.as_bytes().to_vec())).await.expect(204);
        times.push(began.elapsed());
    }
    times.sort();
    // Linux acknowledges a connection's first segments at once.
    assert!(times[20] > Duration::from_millis(30), "{times:?}");
}
