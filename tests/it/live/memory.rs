//! What an idle connection keeps of the origin's memory, and what comes by one that hyper has left.

use std::time::Duration;

use optimist_tests::live::{Subscriber, Transport, subscribe, ticket};
use optimist_tests::{Client, System};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::gateway;

/// Connections of each person: as many as one may have.
const EACH: usize = 10;
const PEOPLE: usize = 10;

/// Opens all connections, and waits until each has its first frame.
async fn open(address: &str, transport: Transport, people: &[Client], each: usize) -> Vec<Subscriber> {
    let mut opened = Vec::new();
    for person in people {
        for _ in 0..each {
            let mut subscriber = subscribe(address, transport, person, "").await;
            subscriber.expect("ready").await;
            opened.push(subscriber);
        }
    }
    opened
}

/// The bytes that the origin has allocated when it has least to do.
async fn allocated(system: &System) -> usize {
    let mut least = usize::MAX;
    for _ in 0..20 {
        least = least.min(system.origins[0].allocated().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    least
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_keeps_a_few_kilobytes() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let circle = ada.create_circle("private").await;
    let mut people = Vec::new();
    for _ in 0..PEOPLE {
        let person = system.register("Bo").await;
        person.join(&circle, &ada).await;
        people.push(person);
    }
    let gateway = gateway(&system, 0);
    for (transport, most) in [(Transport::Socket, 4_000), (Transport::Events, 2_500)] {
        // What is made once is not counted.
        drop(open(&gateway, transport, &people, 1).await);
        let before = allocated(&system).await;
        let opened = open(&gateway, transport, &people, EACH).await;
        let after = allocated(&system).await;
        let each = after.saturating_sub(before) / opened.len();
        println!("{transport:?}: {each} bytes each");
        assert!(each < most, "{transport:?}: {each} bytes each");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_framed_as_its_head_says() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let gateway = gateway(&system, 0);
    for (version, is_chunked) in [("1.1", true), ("1.0", false)] {
        let mut stream = TcpStream::connect(&gateway).await.unwrap();
        let ticket = ticket(&ada).await;
        let request = format!(
            "GET /v1/events HTTP/{version}\r\nhost: gateway\r\nauthorization: Ticket {ticket}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let (mut text, mut part) = (String::new(), [0; 4096]);
        while !text.contains("\n\n") {
            let read = stream.read(&mut part).await.unwrap();
            assert!(read > 0, "{text}");
            text.push_str(std::str::from_utf8(&part[..read]).unwrap());
        }
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/{version} 200")), "{head}");
        assert_eq!(head.contains("transfer-encoding: chunked"), is_chunked, "{head}");
        let event = match is_chunked {
            true => body.split_once("\r\n").unwrap().1,
            false => body,
        };
        assert!(event.starts_with("id: "), "{body}");
        if is_chunked {
            let length = usize::from_str_radix(body.split_once("\r\n").unwrap().0, 16).unwrap();
            assert_eq!(event.find("\n\n").unwrap() + 2, length, "{body}");
        }
    }
}
