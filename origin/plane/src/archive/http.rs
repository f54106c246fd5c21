//! HTTP to a store, over the TLS that the origin's other connections use.

use std::time::Duration;

use async_trait::async_trait;
use http_body_util::BodyExt as _;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::TokioExecutor;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};

use crate::tls;

const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take to begin: an upload's part is up to ten mebibytes.
const BEGINS: Duration = Duration::from_secs(60);
/// A peer that vanished is noticed.
const KEEPALIVE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct OverRustls;

impl HttpConnector for OverRustls {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let config = tls::client()
            .map_err(|error| object_store::Error::Generic { store: "S3", source: error.into() })?;
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_keepalive(Some(KEEPALIVE));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
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
        let answer = match tokio::time::timeout(BEGINS, self.0.request(request)).await {
            Err(late) => return Err(HttpError::new(HttpErrorKind::Timeout, late)),
            Ok(Err(error)) if error.is_connect() => {
                return Err(HttpError::new(HttpErrorKind::Connect, error));
            }
            Ok(answer) => answer.map_err(|error| HttpError::new(HttpErrorKind::Request, error))?,
        };
        let interrupted = |error| HttpError::new(HttpErrorKind::Interrupted, error);
        Ok(answer.map(|body| HttpResponseBody::new(body.map_err(interrupted))))
    }
}
