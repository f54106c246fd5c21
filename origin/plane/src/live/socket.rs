//! A WebSocket of the gateway's: it sends what its follower brings, and takes a few commands.

use std::time::{Duration, Instant};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use optimist_shared::live::Bound;
use serde::Deserialize;

use crate::live::follower::{Ending, Follower, Next};
use crate::live::frame::Frame;

/// A client that has not answered so long is gone. It is asked with each heartbeat.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a client may take nothing.
const STALLED: Duration = Duration::from_secs(60);

/// Why the gateway closes a socket, as clients read it.
const SESSION_OVER: u16 = 4401;
const BAD_COMMAND: u16 = 4400;
const TOO_FAST: u16 = 4429;
const GOING_AWAY: u16 = 1001;

/// A client's command.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
enum Command {
    Ping,
}

pub async fn serve(mut socket: WebSocket, mut follower: Follower) {
    let mut heard = Instant::now();
    let (mut second, mut commands) = (Instant::now(), 0);
    let reason = loop {
        if heard.elapsed() > SILENCE {
            return;
        }
        tokio::select! {
            next = follower.next() => match next {
                Next::Send(frames) => {
                    for frame in &frames {
                        if send(&mut socket, text(frame)).await.is_none() {
                            return;
                        }
                    }
                    // A heartbeat has a position, and is not told of a topic: the client's answer says that it is there.
                    if frames.iter().any(|frame| frame.is_heartbeat())
                        && send(&mut socket, Message::Ping(Default::default())).await.is_none()
                    {
                        return;
                    }
                }
                Next::End(Ending::Session) => break (SESSION_OVER, "the session is over".to_owned()),
                Next::End(Ending::Stopping { after_ms }) => break (GOING_AWAY, format!("retry in {after_ms} ms")),
            },
            message = socket.recv() => {
                heard = Instant::now();
                let command = match message {
                    Some(Ok(Message::Text(text))) => serde_json::from_str(text.as_str()),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    None | Some(Ok(Message::Close(_))) => return,
                    Some(Ok(Message::Binary(_)) | Err(_)) => break (BAD_COMMAND, "not a command".to_owned()),
                };
                if second.elapsed() > Duration::from_secs(1) {
                    (second, commands) = (heard, 0);
                }
                commands += 1;
                if commands > Bound::Commands.row().most {
                    break (TOO_FAST, "too many commands".to_owned());
                }
                match command {
                    Ok(Command::Ping) => {
                        let pong = Frame::of(None, "pong", None, "{}");
                        if send(&mut socket, text(&pong)).await.is_none() {
                            return;
                        }
                    }
                    Err(_) => break (BAD_COMMAND, "not a command".to_owned()),
                }
            }
        }
    };
    // The client may be gone.
    let _ =
        send(&mut socket, Message::Close(Some(CloseFrame { code: reason.0, reason: reason.1.into() }))).await;
}

fn text(frame: &Frame) -> Message {
    // A frame's JSON was made from texts.
    Message::Text(Utf8Bytes::try_from(frame.json()).unwrap_or_default())
}

/// `None` if the client takes nothing any more.
async fn send(socket: &mut WebSocket, message: Message) -> Option<()> {
    tokio::time::timeout(STALLED, socket.send(message)).await.ok()?.ok()
}
