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
pub struct Client(hyper_util::client::legacy::Client<HttpConnector, Body>);

impl Client {
    pub fn new() -> Client {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(std::time::Duration::from_secs(2)));
        Client(
            hyper_util::client::legacy::Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(std::time::Duration::from_secs(10))
                .build(connector),
        )
    }
}

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
        let client = self.client.0.clone();
        Box::new(async move {
            let response = client.request(request).await.map_err(|error| {
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
