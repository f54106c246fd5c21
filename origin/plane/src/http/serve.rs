//! Connections: accepted, served over HTTP/1.1, and let finish what they have begun when the process is told to stop.
//!
//! Not with `axum::serve`: to tell HTTP/2 apart it reads a connection's first 24 bytes by themselves, so that hyper is given
//! each first request in two parts and doubles its buffer, for as long as the connection lives.

use std::net::SocketAddr;
use std::pin::pin;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that wait to be accepted: a region's edges may all come at once.
const BACKLOG: u32 = 4096;

pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts connections until it is told to stop; then ends once all requests are answered. Connections that nobody uses are
/// closed.
pub async fn serve(mut listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let connections = GracefulShutdown::new();
    loop {
        // What fails to be accepted is tried again in there.
        let (stream, _) = tokio::select! {
            accepted = Listener::accept(&mut listener) => accepted,
            () = &mut stop => break,
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            // It breaks when its client goes away, or sends no HTTP: neither is for us to mend.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection broke");
            }
        });
    }
    drop(listener);
    connections.shutdown().await;
}
