//! A subscriber of the gateway's, by either transport.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::client::Client;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Events,
    Socket,
}

/// A connection, whose frames arrive in the order in which they were sent.
pub struct Subscriber {
    frames: UnboundedReceiver<Value>,
    commands: UnboundedSender<String>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A ticket's text.
pub async fn ticket(client: &Client) -> String {
    client.post("/v1/realtime/tickets", json!({})).await.expect(201).text("/ticket")
}

/// The refusal of a connection, by its status.
pub type Refused = u16;

/// `query` is what follows the path, with its question mark. `address` is the gateway's `host:port`, or a proxy's before it.
pub async fn connect(
    address: &str,
    transport: Transport,
    ticket: &str,
    query: &str,
) -> Result<Subscriber, Refused> {
    let (sender, frames) = unbounded_channel();
    let (commands, taken) = unbounded_channel();
    let task = match transport {
        Transport::Events => {
            let url = format!("http://{address}/v1/events{query}");
            let request = reqwest::Client::new().get(url).header("authorization", format!("Ticket {ticket}"));
            let response = request.send().await.map_err(|_| 0u16)?;
            if response.status() != 200 {
                return Err(response.status().as_u16());
            }
            tokio::spawn(read_events(response, sender))
        }
        Transport::Socket => {
            let mut request = format!("ws://{address}/v1/ws{query}").into_client_request().expect("a URL");
            let offered = format!("optimist.v1, ticket.{ticket}").parse().expect("a header");
            request.headers_mut().insert("sec-websocket-protocol", offered);
            let (socket, response) = connect_async(request).await.map_err(|error| match error {
                tokio_tungstenite::tungstenite::Error::Http(response) => response.status().as_u16(),
                _ => 0,
            })?;
            assert_eq!(response.headers()["sec-websocket-protocol"], "optimist.v1");
            tokio::spawn(read_socket(socket, sender, taken))
        }
    };
    Ok(Subscriber { frames, commands, task })
}

/// Listens to an edge, at `address` or through a proxy there.
pub async fn connect_through_edge(
    address: &str,
    client: &Client,
    query: &str,
) -> Result<Subscriber, Refused> {
    let (sender, frames) = unbounded_channel();
    let token = format!("Bearer {}", client.token.as_deref().unwrap_or_default());
    let request = reqwest::Client::new().get(format!("http://{address}/v1/events{query}"));
    let response = request.header("authorization", token).send().await.map_err(|_| 0u16)?;
    if response.status() != 200 {
        return Err(response.status().as_u16());
    }
    let task = tokio::spawn(read_events(response, sender));
    Ok(Subscriber { frames, commands: unbounded_channel().0, task })
}

/// Connects with a new ticket.
pub async fn subscribe(address: &str, transport: Transport, client: &Client, query: &str) -> Subscriber {
    let ticket = ticket(client).await;
    let connected = connect(address, transport, &ticket, query).await;
    connected.unwrap_or_else(|status| panic!("{transport:?} was refused: {status}"))
}

async fn read_events(mut response: reqwest::Response, sender: UnboundedSender<Value>) {
    let mut text = String::new();
    while let Ok(Some(bytes)) = response.chunk().await {
        text.push_str(&String::from_utf8_lossy(&bytes));
        while let Some((event, rest)) = text.split_once("\n\n") {
            let mut frame = json!(null);
            for line in event.lines() {
                if let Some(data) = line.strip_prefix("data: ") {
                    frame = serde_json::from_str(data).expect("JSON");
                }
                if let Some(after) = line.strip_prefix("retry: ") {
                    frame = json!({"type": "retry", "after": after});
                }
            }
            if let Some(id) = event.lines().find_map(|line| line.strip_prefix("id: ")) {
                assert_eq!(frame["id"], id, "{event}");
            }
            let _ = sender.send(frame);
            text = rest.to_owned();
        }
    }
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn read_socket(
    mut socket: Socket,
    sender: UnboundedSender<Value>,
    mut taken: UnboundedReceiver<String>,
) {
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let _ = sender.send(serde_json::from_str(&text).expect("JSON"));
                }
                Some(Ok(Message::Close(close))) => {
                    let code = close.map(|close| u16::from(close.code));
                    let _ = sender.send(json!({"type": "closed", "data": {"code": code}}));
                    return;
                }
                Some(Ok(_)) => {}
                None | Some(Err(_)) => return,
            },
            command = taken.recv() => {
                let Some(command) = command else { return };
                if socket.send(Message::text(command)).await.is_err() {
                    return;
                }
            }
        }
    }
}

impl Subscriber {
    /// The next frame; `None` once the connection has ended.
    pub async fn next(&mut self) -> Option<Value> {
        self.frames.recv().await
    }

    /// The next frame within a time; `None` if there is none, or the connection has ended.
    pub async fn within(&mut self, patience: Duration) -> Option<Value> {
        tokio::time::timeout(patience, self.frames.recv()).await.ok().flatten()
    }

    /// The next frame of a type, passing over others.
    pub async fn expect(&mut self, kind: &str) -> Value {
        let found = async {
            loop {
                let frame = self.next().await.unwrap_or_else(|| panic!("the connection ended before {kind}"));
                if frame["type"] == kind {
                    return frame;
                }
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(20), found).await;
        found.unwrap_or_else(|_| panic!("{kind} did not come"))
    }

    /// Sends a command through a socket.
    pub fn command(&self, text: &str) {
        self.commands.send(text.to_owned()).expect("a socket");
    }
}
