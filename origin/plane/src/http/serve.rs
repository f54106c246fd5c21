//! Connections: accepts them, serves HTTP/1.1, and lets them finish their requests when the process is told to stop.
//!
//! It does not use `axum::serve`, which reads a connection's first 24 bytes separately to recognise HTTP/2: hyper then gets
//! each first request in two parts and doubles its buffer, for as long as the connection lives.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use axum::Router;
use axum::body::Bytes;
use axum::response::Response;
use axum::serve::Listener;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1::{self, Parts};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::http::handover::{Handing, Left};
use crate::http::socket::Prompt;

/// Connections that wait to be accepted: a region's edges may all connect at once.
const BACKLOG: u32 = 4096;

/// The address of the connection that a request came by: an edge's, or a proxy's before it.
#[derive(Clone, Copy)]
pub struct Peer(pub IpAddr);

pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts connections until it is told to stop, then returns once all requests are answered. Idle connections are closed.
pub async fn serve(mut listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let (stopping, stopped) = watch::channel(false);
    // Each connection holds a sender until it ends.
    let (open, mut ended) = mpsc::channel::<()>(1);
    loop {
        // The listener itself tries again after a failure.
        let (stream, peer) = tokio::select! {
            accepted = Listener::accept(&mut listener) => accepted,
            () = &mut stop => break,
        };
        let (stopped, open) = (stopped.clone(), open.clone());
        tokio::spawn(connection(stream, peer, router.clone(), stopped, open));
    }
    drop((listener, open));
    stopping.send_replace(true);
    while ended.recv().await.is_some() {}
}

/// Serves a connection until it ends, or an answer takes it over.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    mut stopped: watch::Receiver<bool>,
    open: mpsc::Sender<()>,
) {
    let handing = Arc::new(Handing::default());
    let io = TokioIo::new(Prompt::new(stream, handing.clone()));
    let router = TowerToHyperService::new(router);
    let noted = handing.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer.ip()));
        let (answer, noted) = (router.call(request), noted.clone());
        async move {
            let mut response = answer.await?;
            noted.note(&mut response);
            Ok::<Response, Infallible>(response)
        }
    });
    let mut connection = http1::Builder::new().serve_connection(io, service);
    let mut stop = pin!(async move { drop(stopped.wait_for(|stopped| *stopped).await) });
    let mut is_stopping = false;
    let outcome = poll_fn(|cx| {
        if !is_stopping && stop.as_mut().poll(cx).is_ready() {
            is_stopping = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        let polled = Pin::new(&mut connection).poll(cx);
        match (handing.take(), polled) {
            (_, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
            (Some(go), _) => Poll::Ready(Ok(Some(go))),
            (None, Poll::Ready(Ok(()))) => Poll::Ready(Ok(None)),
            (None, Poll::Pending) => Poll::Pending,
        }
    });
    match outcome.await {
        Ok(Some(go)) => {
            let Parts { io, read_buf, .. } = connection.into_parts();
            // An empty one would keep the whole buffer.
            let read = if read_buf.is_empty() { Bytes::new() } else { read_buf };
            let left = Left { stream: io.into_inner().into_inner(), read };
            // A task of its own is no larger than what goes on.
            tokio::spawn(async move {
                go(left).await;
                drop(open);
            });
        }
        Ok(None) => {}
        // A connection breaks when its client goes away, or sends no HTTP: we can mend neither.
        Err(error) => tracing::debug!(%error, "a connection broke"),
    }
}
