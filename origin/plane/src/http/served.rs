//! An endpoint as its domain serves it: a route's name, its handler, and the description that the routes table lacks.
//!
//! A description holds nothing that needs a running origin, so that the document can be printed without one.

use axum::handler::Handler;
use axum::routing::MethodRouter;
use optimist_shared::error::ErrorCode;
use optimist_shared::routes::{Method, by_name};
use schemars::JsonSchema;
use serde_json::Value;

use crate::ctx::Ctx;
use crate::http::body::refuse_match;
use crate::operation::links::Link;
use crate::operation::{Conflict, Filter, Operation, shape};

/// A group of operations, by the first part of their routes' names, and what it is about.
pub type Tag = (&'static str, &'static str);

/// Makes the router of one method, once there is a context.
type Build = Box<dyn FnOnce(&Ctx) -> MethodRouter<Ctx>>;

/// A route of the table with its handler and its description.
pub struct Served {
    /// The route's name in the table.
    pub route: &'static str,
    pub operation: Operation,
    build: Build,
}

/// An endpoint whose handler works with [`Ctx`] alone. By default its answer is 204, without a body.
pub fn on<H, T>(route: &'static str, handler: H) -> Served
where
    H: Handler<T, Ctx> + Sync,
    T: 'static,
{
    Served { route, operation: Operation::default(), build: Box::new(move |_| of_method(route, handler)) }
}

/// An endpoint whose handler works with state of its domain's own.
pub fn on_with<H, T, S>(route: &'static str, handler: H, state: impl FnOnce(&Ctx) -> S + 'static) -> Served
where
    H: Handler<T, S> + Sync,
    T: 'static,
    S: Clone + Send + Sync + 'static,
{
    let build = move |ctx: &Ctx| of_method(route, handler).with_state(state(ctx));
    Served { route, operation: Operation::default(), build: Box::new(build) }
}

fn of_method<H, T, S>(route: &'static str, handler: H) -> MethodRouter<S>
where
    H: Handler<T, S>,
    T: 'static,
    S: Clone + Send + Sync + 'static,
{
    match by_name(route).map(|route| route.method) {
        Some(Method::Get) => axum::routing::get(handler),
        Some(Method::Post) => axum::routing::post(handler),
        Some(Method::Put) => axum::routing::put(handler),
        Some(Method::Patch) => axum::routing::patch(handler),
        Some(Method::Delete) => axum::routing::delete(handler),
        // Found at start-up, and by a test.
        None => panic!("no route is called {route}"),
    }
}

impl Served {
    /// The part of the API's router that serves it.
    pub fn router(self, ctx: &Ctx) -> MethodRouter<Ctx> {
        let router = (self.build)(ctx);
        match by_name(self.route) {
            Some(route) if route.method.changes_a_resource() && !self.operation.takes_if_match(route) => {
                router.layer(axum::middleware::from_fn(refuse_match))
            }
            _ => router,
        }
    }

    /// Its summary, in a line.
    pub fn says(mut self, summary: &'static str) -> Served {
        self.operation.summary = summary;
        self
    }

    /// Further notes for its callers.
    pub fn notes(mut self, notes: &'static str) -> Served {
        self.operation.notes = notes;
        self
    }

    /// The type of its body, and an example.
    pub fn takes<T: JsonSchema>(mut self, example: Value) -> Served {
        self.operation.body = Some((shape::<T>, example));
        self
    }

    /// The type of its answer.
    pub fn answers<T: JsonSchema>(mut self, status: u16) -> Served {
        self.operation.status = status;
        self.operation.answer = Some(shape::<T>);
        self
    }

    /// Its answer is 202 without a body: what was asked for is done later.
    pub fn accepts(mut self) -> Served {
        self.operation.status = 202;
        self
    }

    /// Another success with an answer of its own, and its meaning.
    pub fn or_answers<T: JsonSchema>(mut self, status: u16, meaning: &'static str) -> Served {
        self.operation.or = Some((status, meaning, shape::<T>));
        self
    }

    /// It answers with events, without an end.
    pub fn streams(mut self) -> Served {
        self.operation.form = "text/event-stream";
        self.answers::<String>(200)
    }

    /// It answers with a file of this content type.
    pub fn downloads(mut self, form: &'static str) -> Served {
        self.operation.form = form;
        self.answers::<String>(200)
    }

    /// It answers with a WebSocket, or refuses to.
    pub fn upgrades(mut self) -> Served {
        self.operation.status = 101;
        self.operation.refuses = &[ErrorCode::UpgradeRequired, ErrorCode::Unauthenticated];
        self
    }

    /// Another success with the same answer, and its meaning.
    pub fn also(mut self, status: u16, meaning: &'static str) -> Served {
        self.operation.also = Some((status, meaning));
        self
    }

    /// 409 with more than a problem's fields, and its meaning.
    pub fn conflict<T: JsonSchema>(mut self, meaning: &'static str) -> Served {
        self.operation.conflict = Some(Conflict { shape: shape::<T>, meaning });
        self
    }

    /// Its answer has an entity tag. A read takes `If-None-Match`, and a change `If-Match`.
    pub fn tagged(mut self) -> Served {
        self.operation.is_tagged = true;
        self
    }

    /// A change of what has an entity tag, though its own answer shows none: it takes `If-Match`.
    pub fn conditional(mut self) -> Served {
        self.operation.is_conditional = true;
        self
    }

    /// Its answer names the path of what was created.
    pub fn location(mut self) -> Served {
        self.operation.has_location = true;
        self
    }

    /// It takes an `Idempotency-Key`.
    pub fn idempotent(mut self) -> Served {
        self.operation.is_idempotent = true;
        self
    }

    /// Its answer is a page; `cursor` names the query's parameter that says where it begins.
    pub fn pages(mut self, cursor: &'static str) -> Served {
        self.operation.cursor = Some(cursor);
        self
    }

    /// The type of a parameter of its path that is no id.
    pub fn path<T: JsonSchema>(mut self, name: &'static str) -> Served {
        self.operation.path.push((name, shape::<T>));
        self
    }

    /// A parameter of its query.
    pub fn filter<T: JsonSchema>(mut self, name: &'static str, description: &'static str) -> Served {
        self.operation.filters.push(Filter { name, description, shape: shape::<T>, is_required: false });
        self
    }

    /// A parameter that its query must have.
    pub fn names<T: JsonSchema>(mut self, name: &'static str, description: &'static str) -> Served {
        self.operation.filters.push(Filter { name, description, shape: shape::<T>, is_required: true });
        self
    }

    /// Errors of its own, besides those that follow from its route.
    pub fn refuses(mut self, codes: &'static [ErrorCode]) -> Served {
        self.operation.refuses = codes;
        self
    }

    /// An error that follows from its route, and that this handler never answers.
    pub fn never(mut self, code: ErrorCode) -> Served {
        self.operation.never = Some(code);
        self
    }

    /// The operations that its answer leads to.
    pub fn links(mut self, links: impl IntoIterator<Item = Link>) -> Served {
        self.operation.links.extend(links);
        self
    }
}
