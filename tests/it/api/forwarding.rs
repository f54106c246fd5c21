//! Forwarded requests as an origin receives them, byte by byte.

use optimist_shared::ids::Uuid;
use optimist_shared::session::Token;
use optimist_tests::processes::free_port;
use optimist_tests::system::edge_settings;
use optimist_tests::{Client, Edge, Options};
use reqwest::Method;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::RUNTIME;

/// An origin that notes the head of each request, in lower case, and answers that there is nothing to say.
async fn origin() -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, heads) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).await.unwrap() > 0 {}
            let answer = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
            let _ = stream.get_mut().write_all(answer.as_bytes()).await;
            let _ = sender.send(head.to_ascii_lowercase());
        }
    });
    (url, heads)
}

/// Anything else would be sent in chunks: the last is a segment of its own, for which Spin's connections wait 40 ms.
#[test]
fn a_write_without_a_body_has_the_length_0_and_a_read_has_none() {
    RUNTIME.block_on(async {
        let (url, mut heads) = origin().await;
        let folder = tempfile::tempdir().unwrap();
        // Without Redis the edge forwards everything.
        let settings =
            edge_settings(&url, &format!("redis://127.0.0.1:{}", free_port()), &Options::default());
        let edge = Edge::start(Options::kind_under_test(), &settings, folder.path());
        let token = Token { user: Uuid::now_v7(), session: Uuid::now_v7(), secret: [7; 32] };
        let client = Client::new(&edge.url).with_token(token.render());
        let id = Uuid::now_v7();
        for (method, path, length) in [
            (Method::GET, "/v1/me/sessions".to_owned(), None),
            (Method::HEAD, "/v1/me/sessions".to_owned(), None),
            (Method::POST, "/v1/auth/logout".to_owned(), Some("0")),
            (Method::PATCH, "/v1/me".to_owned(), Some("0")),
            (Method::PUT, format!("/v1/circles/{id}/messages/{id}/reactions/heart"), Some("0")),
            (Method::DELETE, "/v1/me/sessions".to_owned(), Some("0")),
        ] {
            client.send(method.clone(), &path, &[], None).await.expect(204);
            let head = heads.recv().await.unwrap();
            let lines = |name: &str| -> Vec<String> {
                let lines = head.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                lines.map(|value| value.trim().to_owned()).collect()
            };
            assert_eq!(lines("content-length"), Vec::from_iter(length), "{head}");
            assert!(lines("transfer-encoding").is_empty(), "{head}");
        }
    });
}
