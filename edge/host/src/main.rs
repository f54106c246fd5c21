//! Runs the Spin component natively, as Spin 4.1 would: for development and tests where `spin` is not available.
//!
//! It provides the interfaces that the component uses (HTTP, Redis, variables) and reuses instances as Spin does. It
//! reads no manifest, restricts no outbound address, speaks no TLS and passes no upgrades: it is not for production.
//! `--like-spin` also imitates what Spin does worse or otherwise than a host must ([`like_spin`]).

mod component;
mod like_spin;
mod outbound;
mod redis;
mod variables;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Parser;
use http::{HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

use component::Handler;
use like_spin::{LikeSpin, Refusal};
use outbound::Client;

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// The component: a `.wasm` file.
    #[arg(long)]
    component: PathBuf,
    /// A folder for what was compiled, from which the next start takes it.
    #[arg(long)]
    compiled: Option<PathBuf>,
    /// Address and port to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// `name=value`, repeatable. Takes precedence over `SPIN_VARIABLE_<NAME>` in the environment.
    #[arg(long = "variable", value_parser = parse_variable)]
    variables: Vec<(String, String)>,
    /// Imitate Spin 4.1 also where this host would do better: see its bounds, its refusals and its sockets.
    #[arg(long)]
    like_spin: bool,
    /// For tests: an outgoing request fails with the error of WASI's that its query names (`?fail=HttpRequestDenied`).
    #[arg(long, hide = true)]
    fail_by_query: bool,
}

/// What serves a connection.
#[derive(Clone)]
struct Server {
    handler: Handler,
    like_spin: Option<Arc<LikeSpin>>,
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
    let client = Client::new(!arguments.like_spin, arguments.fail_by_query);
    let handler = component::load(&arguments.component, arguments.compiled.as_deref(), variables, client)?;
    let like_spin = arguments.like_spin.then(|| Arc::new(LikeSpin::default()));
    let server = Server { handler, like_spin };
    let listener = TcpListener::bind(arguments.listen).await.context("cannot listen")?;
    println!("listening http://{}", listener.local_addr()?);
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => drop(tokio::spawn(serve(server.clone(), stream, peer))),
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
async fn serve(server: Server, stream: TcpStream, peer: SocketAddr) {
    if server.like_spin.is_none() {
        // Send small answers at once. A socket that refuses the option still works.
        let _ = stream.set_nodelay(true);
    }
    let service = service_fn(move |request| {
        let server = server.clone();
        async move { answer(&server, request, peer).await }
    });
    // Clients come and go; how a connection ended does not matter.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

type Body = UnsyncBoxBody<Bytes, wasmtime::Error>;

/// The connection closes without an answer.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed without an answer")
    }
}

impl std::error::Error for Closed {}

/// An error in the component becomes an empty 500, as in Spin.
async fn answer(
    server: &Server,
    mut request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Response<Body>, Closed> {
    let _fiber = match server.like_spin.as_ref().map(|spin| spin.admit(&request)).transpose() {
        Ok(fiber) => fiber,
        Err(Refusal::Closed) => return Err(Closed),
        Err(Refusal::Answered { status, body }) => return Ok(respond(status, body)),
    };
    let headers = request.headers_mut();
    // Appended after any such header from the client, as in Spin.
    if let Ok(address) = HeaderValue::from_str(&peer.to_string()) {
        headers.append("spin-client-addr", address);
    }
    if let Err(error) = absolute_uri(&mut request) {
        eprintln!("a request without a usable address: {error}");
        return Ok(respond(400, ""));
    }
    Ok(component::handle(&server.handler, request).await.unwrap_or_else(|error| {
        eprintln!("the component failed: {error:#}");
        respond(500, "")
    }))
}

/// Adds scheme and authority, which the component expects and HTTP/1 leaves to the `Host` header.
fn absolute_uri(request: &mut Request<Incoming>) -> anyhow::Result<()> {
    let host = request.headers().get("host").map_or("localhost", |host| host.to_str().unwrap_or("localhost"));
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    *request.uri_mut() = format!("http://{host}{target}").parse()?;
    Ok(())
}

fn respond(status: u16, body: &'static str) -> Response<Body> {
    let body = Full::new(Bytes::from_static(body.as_bytes()));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response
}
