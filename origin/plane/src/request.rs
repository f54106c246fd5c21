//! What is known of a request, and of who asks: admission finds it out, handlers and writes are told.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::routes::{PathParameters, Route};
use optimist_shared::session::Role;

use crate::error::{Error, Result};

/// What is known of a request besides its caller.
#[derive(Clone, Debug)]
pub struct RequestContext {
    pub request_id: String,
    pub traceparent: Option<String>,
    /// The client's address as limits count it.
    pub client: String,
    pub route: &'static Route,
    pub path: PathParameters,
    /// The path as it was sent.
    pub target: String,
    pub user_agent: Option<String>,
}

/// Someone signed in.
#[derive(Clone, Debug)]
pub struct Caller {
    pub user: Uuid,
    pub session: Uuid,
    /// Their role in the path's circle as the edge read it: good for reads; a write looks itself.
    pub role: Option<Role>,
    pub request: RequestContext,
}

impl Caller {
    pub fn actor(&self) -> Option<(Uuid, Option<Uuid>)> {
        Some((self.user, Some(self.session)))
    }
}

impl<S: Sync> FromRequestParts<S> for RequestContext {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<RequestContext> {
        parts.extensions.get::<RequestContext>().cloned().ok_or_else(|| Error::new(ErrorCode::NotFound))
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller> {
        parts.extensions.get::<Caller>().cloned().ok_or_else(|| Error::new(ErrorCode::Unauthenticated))
    }
}
