//! A WebSocket of the gateway's: it sends what its follower brings, and takes a few commands.

use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::response::Response;
use futures_util::future::BoxFuture;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::Request as Head;
use optimist_shared::live::Bound;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::create_response;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use crate::http::handover::Left;
use crate::live::commands::{Said, answer};
use crate::live::follower::{Ending, Follower, Next};
use crate::live::frame::Frame;
use crate::live::stream::STALLED;

/// A client that has not answered so long is gone. It is asked with each heartbeat.
const SILENCE: Duration = Duration::from_secs(60);
/// Why the gateway closes a socket, as clients read it.
const SESSION_OVER: u16 = 4401;
const BAD_COMMAND: u16 = 4400;
const TOO_FAST: u16 = 4429;
const GOING_AWAY: u16 = 1001;

/// The answer that opens a socket; `None` if the request asks for none.
pub fn opening(request: &Request) -> Option<Response> {
    let mut head = Head::new(());
    *head.method_mut() = request.method().clone();
    *head.version_mut() = request.version();
    *head.headers_mut() = request.headers().clone();
    Some(create_response(&head).ok()?.map(|()| Default::default()))
}

/// What a socket keeps as long as it is open is small: it says little, and what it is told is not buffered.
fn config() -> WebSocketConfig {
    let most = Bound::Frame.row().most as usize;
    WebSocketConfig::default()
        .read_buffer_size(256)
        .write_buffer_size(0)
        .max_write_buffer_size(64 * 1024)
        .max_message_size(Some(most))
        .max_frame_size(Some(most))
}

type Socket = WebSocketStream<TcpStream>;

pub async fn serve(Left { stream, read }: Left, follower: &mut Follower) {
    let mut socket = Socket::from_partially_read(stream, read.into(), Role::Server, Some(config())).await;
    let mut heard = Instant::now();
    let (mut second, mut commands) = (Instant::now(), 0);
    let (ctx, person) = (follower.ctx().clone(), follower.person());
    // One command at a time: the next is taken once this has its answer.
    let mut answering: Option<BoxFuture<'static, Frame>> = None;
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
            frame = answered(&mut answering) => {
                answering = None;
                if send(&mut socket, text(&frame)).await.is_none() {
                    return;
                }
            }
            message = socket.next(), if answering.is_none() => {
                heard = Instant::now();
                let said = match message {
                    Some(Ok(Message::Text(text))) => Said::parse(&ctx, text.as_str()),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    None | Some(Ok(Message::Close(_))) => return,
                    Some(Ok(Message::Binary(_) | Message::Frame(_)) | Err(_)) => None,
                };
                if second.elapsed() > Duration::from_secs(1) {
                    (second, commands) = (heard, 0);
                }
                commands += 1;
                if commands > Bound::Commands.row().most {
                    break (TOO_FAST, "too many commands".to_owned());
                }
                match said {
                    Some(Said::Ping) => {
                        let pong = Frame::of(None, "pong", None, "{}");
                        if send(&mut socket, text(&pong)).await.is_none() {
                            return;
                        }
                    }
                    Some(Said::Asks(asked)) => {
                        answering = Some(Box::pin(answer(ctx.clone(), person.clone(), asked)));
                    }
                    None => break (BAD_COMMAND, "not a command".to_owned()),
                }
            }
        }
    };
    // The client may be gone.
    let _ = send(
        &mut socket,
        Message::Close(Some(CloseFrame { code: reason.0.into(), reason: reason.1.into() })),
    )
    .await;
}

/// The answer of the command that is under way, if one is.
async fn answered(answering: &mut Option<BoxFuture<'static, Frame>>) -> Frame {
    match answering {
        Some(answer) => answer.await,
        None => std::future::pending().await,
    }
}

fn text(frame: &Frame) -> Message {
    Message::Text(frame.json())
}

/// `None` if the client takes nothing any more.
async fn send(socket: &mut Socket, message: Message) -> Option<()> {
    tokio::time::timeout(STALLED, socket.send(message)).await.ok()?.ok()
}
