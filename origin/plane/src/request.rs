//! The facts about a request and its caller: admission establishes them, handlers and writes use them.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::routes::{Path, Route};
use optimist_shared::session::Role;

use crate::error::{Error, Result};

/// The facts about a request besides its caller.
#[derive(Clone, Debug)]
pub struct RequestContext {
    pub request_id: String,
    pub traceparent: Option<String>,
    /// The client's address as limits count it.
    pub client: String,
    pub route: &'static Route,
    pub path: Path,
    /// The path as it was sent.
    pub target: Arc<str>,
    pub user_agent: Option<String>,
}

impl RequestContext {
    /// What stands for the request where a command of the command line writes; see [`Route::of_command`].
    pub fn of_command(route: &'static Route) -> RequestContext {
        RequestContext {
            request_id: format!("command-line-{}", Uuid::now_v7()),
            traceparent: None,
            client: String::new(),
            route,
            path: Path::default(),
            target: "".into(),
            user_agent: None,
        }
    }

    /// An id of the path; 404 if the route's path has none.
    pub fn id(&self, id: Id) -> Result<Uuid> {
        self.path.ids.get(id).ok_or_else(|| Error::new(ErrorCode::NotFound))
    }
}

/// A signed-in user.
#[derive(Clone, Debug)]
pub struct Caller {
    pub user: Uuid,
    pub session: Uuid,
    /// The user's role in the path's circle, as the edge read it. Good enough for reads; a write reads it itself.
    pub role: Option<Role>,
    pub request: RequestContext,
}

impl Caller {
    pub fn actor(&self) -> Option<(Uuid, Option<Uuid>)> {
        Some((self.user, Some(self.session)))
    }

    /// A write by the caller. `order` names the circles and users whose events it orders and who learn of its event.
    pub fn writes(&self, name: &'static str, order: impl Into<Vec<Uuid>>) -> WriteContext<'_> {
        WriteContext::new(name, &self.request, self.actor(), order.into())
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

/// The author and the purpose of a write.
pub struct WriteContext<'a> {
    /// The write's name, in the form of statements' names: `messages::post`.
    pub name: &'static str,
    pub request: &'a RequestContext,
    /// The acting user and session, once known.
    pub actor: Option<(Uuid, Option<Uuid>)>,
    /// Circles and users whose events this transaction orders, and who learn of its event.
    pub order: Vec<Uuid>,
    /// Goes on without those that somebody else has locked (see `Tx::holds`) instead of waiting for them.
    pub leaves_busy: bool,
}

impl<'a> WriteContext<'a> {
    /// A write that waits for its locks.
    pub fn new(
        name: &'static str,
        request: &'a RequestContext,
        actor: Option<(Uuid, Option<Uuid>)>,
        order: Vec<Uuid>,
    ) -> WriteContext<'a> {
        WriteContext { name, request, actor, order, leaves_busy: false }
    }
}
