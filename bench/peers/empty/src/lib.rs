//! A component that does nothing: the lower bound of a host's cold start.

use bytes::Bytes;
use http::Response;
use spin_sdk::http::{BoxBody, FullBody, Request, box_body};
use spin_sdk::http_service;

#[http_service]
async fn handle(_: Request) -> anyhow::Result<Response<BoxBody>> {
    let mut response = Response::new(box_body(FullBody::new(Bytes::from_static(b"ok"))));
    response.headers_mut().insert("content-length", http::HeaderValue::from_static("2"));
    Ok(response)
}
