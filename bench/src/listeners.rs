//! Those who listen: connections to the origin's gateway, or to the Socket.IO peer, that note when each message came. They
//! search frames instead of parsing them, so that thousands take little of the machine.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::{SinkExt as _, StreamExt as _};
use optimist_shared::ids::Uuid;
use optimist_shared::live::{EVENTS, SOCKET};
use optimist_shared::signature::Identity;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::Request as Handshake;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::http1::authority;
use crate::made::signed_from;
use crate::region::Member;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Socket,
    Events,
}

/// The messages that came, each with the microsecond of the Unix epoch.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<Vec<(Uuid, i64)>>>);

impl Heard {
    /// What was heard since the last time.
    pub fn take(&self) -> Vec<(Uuid, i64)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn note(&self, frame: &str) {
        if let Some(message) = message_of(frame) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
            let heard = (message, now.as_micros() as i64);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(heard);
        }
    }
}

/// The message that a frame tells of, if it tells of a new one.
fn message_of(frame: &str) -> Option<Uuid> {
    const BEFORE: &str = r#""message":""#;
    let at = frame.find(r#""type":"message.posted""#)?;
    let at = at + frame[at..].find(BEFORE)? + BEFORE.len();
    Uuid::parse_str(frame.get(at..at + 36)?).ok()
}

/// A connection; it ends when this is dropped.
pub struct Listener {
    task: JoinHandle<()>,
    /// The position at which it began.
    pub began: String,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A connection that was not let in.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    /// Seconds after which it may come again.
    pub after: Option<u64>,
}

/// Asks the origin for a ticket, as an edge does for a member at an address.
pub async fn ticket(origin: &str, member: &Member, address: &str) -> String {
    let identity = Identity::Session { user: member.user, session: member.token.session };
    let path = "/v1/realtime/tickets";
    let request = signed_from(address, origin, "POST", path, identity, &[("connection", "close")], b"{}");
    let mut stream = TcpStream::connect(authority(origin)).await.expect("the origin takes connections");
    stream.write_all(&request.0).await.expect("the origin reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("the origin answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 201"), "{answer}");
    let body: Value = serde_json::from_str(body).expect("JSON");
    body["ticket"].as_str().expect("a ticket").to_owned()
}

/// Listens at the gateway, after the position `last` if there is one.
pub async fn listen(
    gateway: &str,
    way: Way,
    ticket: &str,
    last: Option<&str>,
    heard: &Heard,
) -> Result<Listener, Refused> {
    let query = last.map_or_else(String::new, |last| format!("?last_event_id={last}"));
    match way {
        Way::Socket => {
            let url = format!("ws://{}{SOCKET}{query}", authority(gateway));
            let mut request = url.into_client_request().expect("a URL");
            let offered = format!("optimist.v1, ticket.{ticket}").parse().expect("a header");
            request.headers_mut().insert("sec-websocket-protocol", offered);
            let mut socket = open(request).await?;
            let ready = next_text(&mut socket).await;
            Ok(Listener { began: position_of(&ready), task: tokio::spawn(follow(socket, heard.clone())) })
        }
        Way::Events => {
            let mut stream = TcpStream::connect(authority(gateway)).await.expect("a connection");
            let request = format!(
                "GET {EVENTS}{query} HTTP/1.1\r\nhost: {}\r\nauthorization: Ticket {ticket}\r\n\r\n",
                authority(gateway)
            );
            stream.write_all(request.as_bytes()).await.expect("the gateway reads");
            let mut events = EventStream { stream, text: String::new() };
            let head = events.until("\r\n\r\n").await.expect("an answer");
            let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_default();
            if status != 200 {
                let after = head.lines().find_map(|line| line.strip_prefix("retry-after: "));
                return Err(Refused { status, after: after.and_then(|after| after.parse().ok()) });
            }
            let ready = events.until("\n\n").await.expect("its first event");
            let began = position_of(&ready);
            let heard = heard.clone();
            let task = tokio::spawn(async move {
                while let Some(event) = events.until("\n\n").await {
                    heard.note(&event);
                }
            });
            Ok(Listener { began, task })
        }
    }
}

/// Listens at a process of the Socket.IO peer.
pub async fn listen_to_peer(url: &str, member: &Member, heard: &Heard) -> Listener {
    let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", authority(url));
    let mut socket = open(url.into_client_request().expect("a URL")).await.expect("the peer takes sockets");
    let opened = next_text(&mut socket).await;
    assert!(opened.starts_with('0'), "{opened}");
    let token = json!({"token": member.token.render()});
    socket.send(Message::text(format!("40{token}"))).await.expect("the peer reads");
    let connected = next_text(&mut socket).await;
    assert!(connected.starts_with("40"), "{connected}");
    Listener { began: String::new(), task: tokio::spawn(follow(socket, heard.clone())) }
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn open(request: Handshake<()>) -> Result<Socket, Refused> {
    let config = WebSocketConfig::default().read_buffer_size(4 * 1024).write_buffer_size(0);
    let opened = connect_async_with_config(request, Some(config), true).await;
    opened.map(|(socket, _)| socket).map_err(|error| match error {
        Error::Http(response) => {
            let after = response.headers().get("retry-after").and_then(|after| after.to_str().ok());
            let after = after.and_then(|after| after.parse().ok());
            Refused { status: response.status().as_u16(), after }
        }
        error => panic!("a handshake: {error}"),
    })
}

async fn next_text(socket: &mut Socket) -> String {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return text.as_str().to_owned(),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => panic!("a socket ended: {other:?}"),
        }
    }
}

/// Notes what comes. The library answers pings; those of the peer are texts.
async fn follow(mut socket: Socket, heard: Heard) {
    while let Some(Ok(message)) = socket.next().await {
        let sent = match message {
            Message::Text(text) if text.as_str() == "2" => socket.send(Message::text("3")).await,
            Message::Text(text) => {
                heard.note(text.as_str());
                Ok(())
            }
            _ => Ok(()),
        };
        if sent.is_err() {
            return;
        }
    }
}

fn position_of(frame: &str) -> String {
    const BEFORE: &str = r#""id":""#;
    let at = frame.find(BEFORE).unwrap_or_else(|| panic!("no position: {frame}")) + BEFORE.len();
    frame[at..].split('"').next().unwrap_or_default().to_owned()
}

/// A stream of events. The sizes of its chunks stay between the events.
struct EventStream {
    stream: TcpStream,
    text: String,
}

impl EventStream {
    /// What comes before the next `end`; `None` at the stream's end.
    async fn until(&mut self, end: &str) -> Option<String> {
        let mut bytes = [0; 2048];
        loop {
            if let Some(at) = self.text.find(end) {
                let rest = self.text.split_off(at + end.len());
                return Some(std::mem::replace(&mut self.text, rest));
            }
            match self.stream.read(&mut bytes).await {
                Ok(read) if read > 0 => self.text.push_str(&String::from_utf8_lossy(&bytes[..read])),
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_messages_are_noted() {
        let message = Uuid::from_u128(7);
        let told =
            format!(r#"{{"id":"1.2-3","type":"message.posted","at":"…","data":{{"message":"{message}"}}}}"#);
        assert_eq!(message_of(&told), Some(message));
        assert_eq!(message_of(&format!(r#"42["event",{told}]"#)), Some(message));
        assert_eq!(message_of(&told.replace("posted", "edited")), None);
        assert_eq!(message_of(&told[..60]), None);
        assert_eq!(position_of(&told), "1.2-3");
    }
}
