//! A request whose head and body arrive in segments of their own, as an edge sends them that leaves Nagle's algorithm on.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use optimist_shared::signature::{Identity, Signed, content_digest};
use optimist_tests::System;
use optimist_tests::system::{SIGNING_KEY, address};

use crate::origin::{checked, headers, now, read};

const PATH: &str = "/v1/auth/login";
/// Refused, but only once it is read.
const BODY: &str = "{}";

/// A request that the edge has signed: its head.
fn head(nonce: &str) -> String {
    let context = checked(Identity::Public).render();
    let digest = content_digest(BODY.as_bytes());
    let signed = Signed { method: "POST", content_digest: &digest, ..read(PATH, &context) };
    let mut head = format!("POST {PATH} HTTP/1.1\r\nhost: origin\r\ncontent-length: {}\r\n", BODY.len());
    head.push_str("content-type: application/json\r\n");
    for (name, value) in headers(signed, nonce, now(), &SIGNING_KEY.0) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head + "\r\n"
}

/// Reads an answer; returns its status.
fn answer(reader: &mut BufReader<TcpStream>) -> u16 {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            text => lines.push(text.to_ascii_lowercase()),
        }
    }
    let length = lines.iter().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.expect("a length").parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    lines[0].split(' ').nth(1).unwrap().parse().unwrap()
}

/// The median time from a request's first segment to its answer, over one connection.
fn median(api: &str, nodelay: bool) -> Duration {
    const REQUESTS: usize = 20;
    let mut stream = TcpStream::connect(address(api)).unwrap();
    stream.set_nodelay(nodelay).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let time = |number: usize| {
        let head = head(&format!("segments-{nodelay}-{number:04}"));
        let begun = Instant::now();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(BODY.as_bytes()).unwrap();
        assert_eq!(answer(&mut reader), 422);
        begun.elapsed()
    };
    let mut times: Vec<Duration> = (0..REQUESTS).map(time).collect();
    times.sort();
    times[REQUESTS / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_a_segment_of_its_own_waits_for_no_delayed_acknowledgement() {
    let system = System::start().await;
    let medians =
        tokio::task::block_in_place(|| [false, true].map(|nodelay| median(&system.origins[0].api, nodelay)));
    // The kernel delays an acknowledgement by 40 ms.
    let [with_nagle, without] = medians;
    assert!(with_nagle < without + Duration::from_millis(20), "{with_nagle:?} instead of {without:?}");
}
