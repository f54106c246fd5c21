//! A component that answers each request with the value of one key: measures the cost of a GET to Redis, sent as the
//! edge sends it.
//!
//! Variables: `redis_url`, `key`. An instance keeps its connection for life, as the edge does.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::anyhow;
use bytes::Bytes;
use http::{HeaderValue, Response};
use spin_sdk::http::{BoxBody, FullBody, Request, box_body};
use spin_sdk::http_service;
use spin_sdk::redis::Connection;

struct Instance {
    redis: Connection,
    key: String,
}

thread_local! {
    static INSTANCE: RefCell<Option<Rc<Instance>>> = const { RefCell::new(None) };
}

#[http_service]
async fn handle(_: Request) -> anyhow::Result<Response<BoxBody>> {
    let instance = instance().await?;
    let value = instance.redis.get(instance.key.clone()).await?.ok_or_else(|| anyhow!("there is no value"))?;
    let length = HeaderValue::from(value.len());
    let mut response = Response::new(box_body(FullBody::new(Bytes::from(value))));
    response.headers_mut().insert("content-length", length);
    Ok(response)
}

async fn instance() -> anyhow::Result<Rc<Instance>> {
    if let Some(instance) = INSTANCE.with_borrow(Clone::clone) {
        return Ok(instance);
    }
    let url = spin_sdk::variables::get("redis_url").await?;
    let key = spin_sdk::variables::get("key").await?;
    let instance = Rc::new(Instance { redis: Connection::open(url).await?, key });
    INSTANCE.set(Some(instance.clone()));
    Ok(instance)
}
