//! HTTP to a store, over the TLS that the origin's other connections use.

use std::error::Error;
use std::io;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::TokioExecutor;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use rustls::ClientConfig;
use tokio::time::timeout;

use crate::hooks;

const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take to begin, and to go on: an upload's part is up to ten mebibytes.
const GOES_ON: Duration = Duration::from_secs(60);
/// A request is sent at most so often, and not again after so long. The job comes again the next day.
const ATTEMPTS: usize = 6;
const GIVEN_UP_AFTER: Duration = Duration::from_secs(3 * 60);
/// A peer that vanished is noticed.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// In tests, a second stands for a minute.
fn patience(length: Duration) -> Duration {
    if hooks::disabled("patience") { length / 60 } else { length }
}

pub fn retries() -> RetryConfig {
    let backoff =
        BackoffConfig { max_backoff: patience(Duration::from_secs(15)), ..BackoffConfig::default() };
    RetryConfig { backoff, max_retries: ATTEMPTS - 1, retry_timeout: patience(GIVEN_UP_AFTER) }
}

#[derive(Debug)]
pub struct OverRustls(pub ClientConfig);

impl HttpConnector for OverRustls {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_keepalive(Some(KEEPALIVE));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(self.0.clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(HttpClient::new(Service(Client::builder(TokioExecutor::new()).build(connector))))
    }
}

#[derive(Debug)]
struct Service(Client<HttpsConnector<Tcp>, HttpRequestBody>);

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = match timeout(patience(GOES_ON), self.0.request(request)).await {
            Err(late) => return Err(HttpError::new(HttpErrorKind::Timeout, late)),
            Ok(Err(error)) if error.is_connect() => {
                return Err(HttpError::new(HttpErrorKind::Connect, with_reasons(&error)));
            }
            Ok(answer) => {
                answer.map_err(|error| HttpError::new(HttpErrorKind::Request, with_reasons(&error)))?
            }
        };
        Ok(answer.map(|body| HttpResponseBody::new(StreamBody::new(pieces(body)))))
    }
}

/// With the reasons below it, such as a certificate of an unknown authority's, which the error itself does not show.
fn with_reasons(error: &dyn Error) -> io::Error {
    let mut text = error.to_string();
    let mut reason = error.source();
    while let Some(error) = reason {
        text = format!("{text}: {error}");
        reason = error.source();
    }
    io::Error::other(text)
}

/// The pieces of a body, until it ends or stalls.
fn pieces(body: Incoming) -> impl Stream<Item = Result<Frame<Bytes>, HttpError>> {
    stream::unfold(Some(body), async |body| {
        let mut body = body?;
        let error = match timeout(patience(GOES_ON), body.frame()).await {
            Ok(None) => return None,
            Ok(Some(Ok(frame))) => return Some((Ok(frame), Some(body))),
            Ok(Some(Err(error))) => HttpError::new(HttpErrorKind::Interrupted, error),
            Err(late) => HttpError::new(HttpErrorKind::Timeout, late),
        };
        Some((Err(error), None))
    })
}
