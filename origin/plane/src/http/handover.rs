//! Answers whose connection goes on without hyper: event streams and sockets.
//!
//! hyper keeps 16 KiB of buffers and a request's machinery for a connection as long as it lives. A subscriber waits nearly all the
//! time, so once the head of its answer is sent, the socket is taken from hyper and everything else is dropped.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures_util::future::BoxFuture;
use hyper::body::{Body as HttpBody, Frame};
use tokio::net::TcpStream;

/// A connection that hyper has left: its socket, and what was read of it after the request.
pub struct Left {
    pub stream: TcpStream,
    pub read: Bytes,
}

type Go = Box<dyn FnOnce(Left) -> BoxFuture<'static, ()> + Send>;

/// What goes on with the connection after an answer's head: an extension of the answer.
#[derive(Clone)]
struct Handover(Arc<Inner>);

struct Inner {
    go: Mutex<Option<Go>>,
    is_head_made: AtomicBool,
}

/// An answer that switches protocols or streams, and is sent by what goes on with its connection.
pub fn hand_over(
    mut response: Response,
    go: impl FnOnce(Left) -> BoxFuture<'static, ()> + Send + 'static,
) -> Response {
    // hyper makes the head of a switch of protocols without its body.
    let is_switch = response.status().is_informational();
    let inner = Inner { go: Mutex::new(Some(Box::new(go))), is_head_made: AtomicBool::new(is_switch) };
    let handover = Handover(Arc::new(inner));
    if !is_switch {
        *response.body_mut() = Body::new(Waiting(handover.0.clone()));
    }
    response.extensions_mut().insert(handover);
    response
}

/// How far a connection is on its way from hyper.
#[derive(Default)]
pub struct Handing {
    to: OnceLock<Handover>,
    is_flushed: AtomicBool,
}

impl Handing {
    /// Takes note of an answer that hands its connection over.
    pub fn note(&self, response: &mut Response) {
        if let Some(handover) = response.extensions_mut().remove::<Handover>() {
            // An endless answer is the last of its connection.
            let _ = self.to.set(handover);
        }
    }

    pub fn set_flushed(&self, is_flushed: bool) {
        self.is_flushed.store(is_flushed, Ordering::Relaxed);
    }

    /// What goes on with the connection, once hyper has made and sent the head.
    pub fn take(&self) -> Option<Go> {
        let Handover(inner) = self.to.get()?;
        let is_sent = inner.is_head_made.load(Ordering::Relaxed) && self.is_flushed.load(Ordering::Relaxed);
        if is_sent { inner.go.lock().unwrap_or_else(PoisonError::into_inner).take() } else { None }
    }
}

/// The body that hyper waits for: when it asks for its first part, the head is among what is to be flushed.
struct Waiting(Arc<Inner>);

impl HttpBody for Waiting {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.is_head_made.store(true, Ordering::Relaxed);
        Poll::Pending
    }
}
