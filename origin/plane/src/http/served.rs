//! A route's handler, as a domain hands it over.

use axum::handler::Handler;
use axum::routing::MethodRouter;
use optimist_shared::routes::{Method, by_name};

use crate::ctx::Ctx;

/// Makes the router of one method, once there is a context.
type Build = Box<dyn FnOnce(&Ctx) -> MethodRouter<Ctx>>;

/// A route's name in the table, and what handles it.
pub struct Served {
    pub route: &'static str,
    build: Build,
}

impl Served {
    /// As the router wants it.
    pub fn router(self, ctx: &Ctx) -> MethodRouter<Ctx> {
        (self.build)(ctx)
    }
}

/// A route whose handler works with [`Ctx`] alone.
pub fn on<H, T>(route: &'static str, handler: H) -> Served
where
    H: Handler<T, Ctx> + Sync,
    T: 'static,
{
    Served { route, build: Box::new(move |_| of_method(route, handler)) }
}

/// A route whose handler works with state of its domain's own.
pub fn on_with<H, T, S>(route: &'static str, handler: H, state: impl FnOnce(&Ctx) -> S + 'static) -> Served
where
    H: Handler<T, S> + Sync,
    T: 'static,
    S: Clone + Send + Sync + 'static,
{
    Served { route, build: Box::new(move |ctx| of_method(route, handler).with_state(state(ctx))) }
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
        // Start-up, and a test.
        None => panic!("no route is called {route}"),
    }
}
