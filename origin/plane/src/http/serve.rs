//! Connections: accepts them, serves HTTP/1.1, and lets them finish their requests when the process is told to stop.
//!
//! It does not use `axum::serve`, which reads a connection's first 24 bytes separately to recognise HTTP/2: hyper then gets
//! each first request in two parts and doubles its buffer, for as long as the connection lives.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;

use axum::Router;
use axum::serve::Listener;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, watch};

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
        let router = TowerToHyperService::new(router.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer.ip()));
            router.call(request)
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(Prompt::new(stream)), service);
        let (mut stopped, open) = (stopped.clone(), open.clone());
        let stop = async move { drop(stopped.wait_for(|stopped| *stopped).await) };
        tokio::spawn(async move {
            let mut connection = pin!(connection.with_upgrades());
            let outcome = tokio::select! {
                outcome = connection.as_mut() => outcome,
                () = stop => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            // A connection breaks when its client goes away, or sends no HTTP: we can mend neither.
            if let Err(error) = outcome {
                tracing::debug!(%error, "a connection broke");
            }
            drop(open);
        });
    }
    drop((listener, open));
    stopping.send_replace(true);
    while ended.recv().await.is_some() {}
}
