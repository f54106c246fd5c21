//! The component's outbound HTTP, over pooled connections that all instances share.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use wasmtime_wasi::TrappableError;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p3::{RequestOptions, WasiHttpHooks};

type Body = UnsyncBoxBody<Bytes, ErrorCode>;
type IoResult = Box<dyn Future<Output = Result<(), ErrorCode>> + Send>;

#[derive(Clone)]
pub struct Client {
    connections: hyper_util::client::legacy::Client<HttpConnector, Body>,
    /// Requests fail as their queries ask.
    fails_by_query: bool,
}

impl Client {
    /// Without `nodelay` a message in two segments waits until the peer has acknowledged the first.
    pub fn new(nodelay: bool, fails_by_query: bool) -> Client {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(nodelay);
        connector.set_connect_timeout(Some(std::time::Duration::from_secs(2)));
        let connections = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(std::time::Duration::from_secs(10))
            .build(connector);
        Client { connections, fails_by_query }
    }

    /// The error that a request asks for.
    fn failure(&self, uri: &http::Uri) -> Option<ErrorCode> {
        let name = uri.query().filter(|_| self.fails_by_query)?.strip_prefix("fail=")?;
        FAILURES.iter().find(|(known, _)| *known == name).map(|(_, code)| code.clone())
    }
}

/// Errors that a test can ask for, by their names: those that a host reports before it has sent anything, and some of
/// those after which a request may have arrived.
const FAILURES: [(&str, ErrorCode); 15] = [
    ("DnsTimeout", ErrorCode::DnsTimeout),
    ("DestinationNotFound", ErrorCode::DestinationNotFound),
    ("DestinationUnavailable", ErrorCode::DestinationUnavailable),
    ("DestinationIpProhibited", ErrorCode::DestinationIpProhibited),
    ("DestinationIpUnroutable", ErrorCode::DestinationIpUnroutable),
    ("HttpRequestDenied", ErrorCode::HttpRequestDenied),
    ("ConnectionRefused", ErrorCode::ConnectionRefused),
    ("ConnectionTimeout", ErrorCode::ConnectionTimeout),
    ("ConnectionLimitReached", ErrorCode::ConnectionLimitReached),
    ("TlsProtocolError", ErrorCode::TlsProtocolError),
    ("TlsCertificateError", ErrorCode::TlsCertificateError),
    ("ConnectionTerminated", ErrorCode::ConnectionTerminated),
    ("ConnectionReadTimeout", ErrorCode::ConnectionReadTimeout),
    ("HttpProtocolError", ErrorCode::HttpProtocolError),
    ("HttpResponseIncomplete", ErrorCode::HttpResponseIncomplete),
];

/// The HTTP client of an instance.
pub struct Outbound {
    pub client: Client,
}

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: http::Request<Body>,
        _: Option<RequestOptions>,
        _: IoResult,
    ) -> Box<dyn Future<Output = Result<(http::Response<Body>, IoResult), TrappableError<ErrorCode>>> + Send>
    {
        let client = self.client.clone();
        Box::new(async move {
            if let Some(code) = client.failure(request.uri()) {
                return Err(code.into());
            }
            let response = client.connections.request(request).await.map_err(|error| {
                let code = if error.is_connect() {
                    ErrorCode::ConnectionRefused
                } else {
                    ErrorCode::ConnectionTerminated
                };
                TrappableError::from(code)
            })?;
            let response =
                response.map(|body| body.map_err(|_| ErrorCode::ConnectionTerminated).boxed_unsync());
            let done: IoResult = Box::new(async { Ok(()) });
            Ok((response, done))
        })
    }
}
