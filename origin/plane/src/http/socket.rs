//! An accepted connection, which sends and acknowledges at once.
//!
//! Some edges leave Nagle's algorithm on: of a request in two segments, head and body, they send the second once the first is
//! acknowledged. The kernel holds an acknowledgement back for some 40 ms, to send it along with an answer; but there is no answer
//! before the body.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::http::handover::Handing;

/// A connection that waits for nothing in order to save packets.
pub struct Prompt(TcpStream, Arc<Handing>);

impl Prompt {
    /// `handing` learns whether all that was written has been passed to the kernel.
    pub fn new(stream: TcpStream, handing: Arc<Handing>) -> Prompt {
        // Without it the connection works as well, only later.
        let _ = stream.set_nodelay(true);
        Prompt(stream, handing)
    }

    pub fn into_inner(self) -> TcpStream {
        self.0
    }

    /// Sends the acknowledgement that the kernel holds back. The kernel soon forgets the setting, so each read sets it.
    fn acknowledge(&self) {
        #[cfg(target_os = "linux")]
        let _ = self.0.set_quickack(true);
    }
}

/// Whether a read is a whole request without a body: its answer follows at once, and carries the acknowledgement.
fn is_answered_at_once(read: &[u8]) -> bool {
    read.starts_with(b"GET ") && read.ends_with(b"\r\n\r\n")
}

impl AsyncRead for Prompt {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.0).poll_read(cx, buffer))?;
        let read = &buffer.filled()[before..];
        if !read.is_empty() && !is_answered_at_once(read) {
            this.acknowledge();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.1.set_flushed(false);
        Pin::new(&mut self.get_mut().0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper asks for it once it has nothing left to write.
        self.1.set_flushed(true);
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.1.set_flushed(false);
        Pin::new(&mut self.get_mut().0).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
