//! An event stream of the gateway's: it sends what its follower brings, as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::WriteHalf;

use crate::live::follower::{Ending, Follower, Next};
use crate::live::frame::Frame;

/// How long a client may take nothing.
pub const STALLED: Duration = Duration::from_secs(60);

/// The end of an answer in chunks.
const LAST: &[u8] = b"0\r\n\r\n";

/// Follows until the client goes away or the follower ends. HTTP/1.0 knows no chunks.
pub async fn serve(mut stream: TcpStream, follower: &mut Follower, is_chunked: bool) {
    let (mut from, mut to) = stream.split();
    // A client has nothing more to say; but the end of what it says is its end.
    let mut ignored = [0; 16];
    loop {
        let next = tokio::select! {
            next = follower.next() => next,
            read = from.read(&mut ignored) => match read {
                Ok(1..) => continue,
                Ok(0) | Err(_) => return,
            },
        };
        let (bytes, is_last) = match next {
            Next::Send(frames) => (joined(&frames, is_chunked), false),
            Next::End(Ending::Stopping { after_ms }) => {
                (framed(format!("retry: {after_ms}\n\n").into(), is_chunked), true)
            }
            Next::End(Ending::Session) => {
                let closed = Frame::of(None, "closed", None, r#"{"code":4401}"#);
                (joined(&[Arc::new(closed)], is_chunked), true)
            }
        };
        if send(&mut to, &bytes).await.is_none() {
            return;
        }
        if is_last {
            if is_chunked {
                send(&mut to, LAST).await;
            }
            return;
        }
    }
}

/// `None` if the client takes nothing any more.
async fn send(to: &mut WriteHalf<'_>, bytes: &[u8]) -> Option<()> {
    tokio::time::timeout(STALLED, to.write_all(bytes)).await.ok()?.ok()
}

fn joined(frames: &[Arc<Frame>], is_chunked: bool) -> Bytes {
    match frames {
        [one] if is_chunked => one.chunk(),
        several => {
            let events: Vec<Bytes> = several.iter().map(|frame| frame.event()).collect();
            framed(events.concat().into(), is_chunked)
        }
    }
}

fn framed(bytes: Bytes, is_chunked: bool) -> Bytes {
    match is_chunked {
        true => [format!("{:x}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat().into(),
        false => bytes,
    }
}
