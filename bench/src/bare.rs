//! A bare origin to compare with: the same HTTP, signature check, drivers and number of connections, but each request
//! only inserts one message, or SETs the text of one draft.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{post, put};
use axum::{Json, Router};
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use optimist_shared::ids::Uuid;
use optimist_shared::signature::{
    CONTEXT_HEADER, Context, Identity, SIGNATURE_HEADER, SIGNATURE_INPUT_HEADER, Signed, content_digest,
    verify,
};
use optimist_tests::system::SIGNING_KEY;
use redis::aio::MultiplexedConnection;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_postgres::NoTls;

use crate::region::Region;

/// As many connections to Postgres as the origin has by default.
const POOL: usize = 16;

const INSERT: &str =
    "insert into messages (id, circle_id, number, author_id, body) values ($1, $2, $3, $4, $5)
returning id, circle_id, number, author_id, body, created_at::text, edited_at::text, version";

struct Bare {
    pool: Pool,
    redis: MultiplexedConnection,
}

/// Starts it and returns its URL.
pub async fn start(region: &Region) -> String {
    let config = region.database_url().parse().expect("a URL");
    let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(config, NoTls, manager);
    let pool = Pool::builder(manager).max_size(POOL).build().expect("a pool");
    let bare = Arc::new(Bare { pool, redis: region.redis.connect().await });
    let router = Router::new()
        .route("/v1/circles/{circle}/messages", post(insert))
        .route("/v1/journal/drafts/{draft}", put(set))
        .with_state(bare);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router.into_make_service()).await });
    format!("http://{address}")
}

#[derive(Deserialize)]
struct Message {
    body: String,
    number: i64,
}

async fn insert(
    State(bare): State<Arc<Bare>>,
    Path(circle): Path<Uuid>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(user) = user(&method, &uri, &headers, &body) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let Ok(message) = serde_json::from_slice::<Message>(&body) else {
        return StatusCode::UNPROCESSABLE_ENTITY.into_response();
    };
    let client = bare.pool.get().await.expect("a connection");
    let statement = client.prepare_cached(INSERT).await.expect("a statement");
    let row = client
        .query_one(&statement, &[&Uuid::now_v7(), &circle, &message.number, &user, &message.body])
        .await
        .expect("a row");
    let message = json!({
        "id": row.get::<_, Uuid>(0), "circle_id": row.get::<_, Uuid>(1), "number": row.get::<_, i64>(2),
        "author": {"id": row.get::<_, Uuid>(3)}, "body": row.get::<_, &str>(4),
        "created_at": row.get::<_, &str>(5), "edited_at": row.get::<_, Option<&str>>(6),
    });
    (StatusCode::CREATED, Json(message)).into_response()
}

async fn set(
    State(bare): State<Arc<Bare>>,
    Path(draft): Path<Uuid>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(user) = user(&method, &uri, &headers, &body) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let Ok(draft_body) = serde_json::from_slice::<Value>(&body) else {
        return StatusCode::UNPROCESSABLE_ENTITY.into_response();
    };
    let key = format!("draft:{{{user}}}:{draft}");
    let mut redis = bare.redis.clone();
    redis::cmd("SET")
        .arg(key)
        .arg(draft_body.to_string())
        .exec_async(&mut redis)
        .await
        .expect("redis answers");
    Json(json!({"version": "", "promise": "redis"})).into_response()
}

/// The user of a request, if an edge has signed it.
fn user(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Option<Uuid> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let signed = Signed {
        method: method.as_str(),
        target: uri.path_and_query().map_or("/", |target| target.as_str()),
        context: text(CONTEXT_HEADER),
        authorization: text(header::AUTHORIZATION.as_str()),
        idempotency_key: text("idempotency-key"),
        content_digest: &content_digest(body),
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    let key = |id: &str| (id == SIGNING_KEY.1).then_some(&SIGNING_KEY.0[..]);
    verify(signed, text(SIGNATURE_INPUT_HEADER), text(SIGNATURE_HEADER), key, now).ok()?;
    match Context::parse(text(CONTEXT_HEADER))?.identity {
        Identity::Session { user, .. } => Some(user),
        Identity::Public | Identity::Unchecked => None,
    }
}
