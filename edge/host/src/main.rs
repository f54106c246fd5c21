//! Runs the Spin component natively, as Spin 4.1 would: for development and tests where `spin` is not available.
//!
//! It provides the interfaces that the component uses (HTTP, Redis, variables) and reuses instances as Spin does. It
//! reads no manifest, restricts no outbound address, speaks no TLS and passes no upgrades: it is not for production.

mod component;
mod outbound;
mod redis;
mod variables;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Parser;
use http::{HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

use component::Handler;

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// The component: a `.wasm` file.
    #[arg(long)]
    component: PathBuf,
    /// Address and port to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// `name=value`, repeatable. Takes precedence over `SPIN_VARIABLE_<NAME>` in the environment.
    #[arg(long = "variable", value_parser = parse_variable)]
    variables: Vec<(String, String)>,
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("wants name=value")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let environment = std::env::vars()
        .filter_map(|(name, value)| Some((name.strip_prefix("SPIN_VARIABLE_")?.to_lowercase(), value)));
    let variables: HashMap<String, String> = environment.chain(arguments.variables).collect();
    let handler = component::load(&arguments.component, variables)?;
    let listener = TcpListener::bind(arguments.listen).await.context("cannot listen")?;
    println!("listening http://{}", listener.local_addr()?);
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => drop(tokio::spawn(serve(handler.clone(), stream, peer))),
                // Out of descriptors, or the client has gone already: later accepts may succeed.
                Err(error) => {
                    eprintln!("cannot accept a connection: {error}");
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            },
            _ = terminate.recv() => return Ok(()),
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

/// Serves one connection until it ends.
async fn serve(handler: Handler, stream: TcpStream, peer: SocketAddr) {
    // Send small answers at once. A socket that refuses the option still works.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let handler = handler.clone();
        async move { Ok::<_, std::convert::Infallible>(answer(&handler, request, peer).await) }
    });
    // Clients come and go; how a connection ended does not matter.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

type Body = UnsyncBoxBody<Bytes, wasmtime::Error>;

/// An error in the component becomes an empty 500, as in Spin.
async fn answer(handler: &Handler, mut request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
    let headers = request.headers_mut();
    // Appended after any such header from the client, as in Spin.
    if let Ok(address) = HeaderValue::from_str(&peer.to_string()) {
        headers.append("spin-client-addr", address);
    }
    if let Err(error) = absolute_uri(&mut request) {
        eprintln!("a request without a usable address: {error}");
        return empty(400);
    }
    match component::handle(handler, request).await {
        Ok(response) => response,
        Err(error) => {
            eprintln!("the component failed: {error:#}");
            empty(500)
        }
    }
}

/// Adds scheme and authority, which the component expects and HTTP/1 leaves to the `Host` header.
fn absolute_uri(request: &mut Request<Incoming>) -> anyhow::Result<()> {
    let host = request.headers().get("host").map_or("localhost", |host| host.to_str().unwrap_or("localhost"));
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    *request.uri_mut() = format!("http://{host}{target}").parse()?;
    Ok(())
}

fn empty(status: u16) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response
}
