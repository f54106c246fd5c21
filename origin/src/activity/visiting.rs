//! Visits, noted where the edge could not.

use axum::extract::State;
use axum::response::Response;
use chrono::Utc;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::json_response;
use optimist_plane::http::served::{Served, on};
use optimist_plane::postgres::write::WriteContext;
use optimist_plane::redis::{Call, Items};
use optimist_plane::region::belief::Mode;
use optimist_plane::request::Caller;
use optimist_plane::transaction;
use optimist_plane::write_behind::flush::flush_all_of;
use optimist_plane::write_behind::open::open_patiently;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Partition, Uuid};
use optimist_shared::reactions::Promise;
use optimist_shared::visits::Visit;

use crate::activity::counting::visited;
use crate::activity::visit::VisitEntry;
use crate::circles::access::require_member;
use crate::circles::standing::Standing;

pub fn routes() -> Vec<Served> {
    vec![on("visits.record", visit)]
}

/// Notes a visit where the edge could not.
async fn visit(State(app): State<Ctx>, caller: Caller) -> Result<Response> {
    let circle = caller.request.path.circle.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    require_member(&app, &caller, circle).await?;
    if app.region.mode() == Mode::Fenced
        && let Some(promise) = visit_live(&app, &caller, circle).await?
    {
        return Ok(json_response(202, None, Visit::answer(promise)));
    }
    // Without Redis at once; an entry for the same five minutes that is still in a stream counts no second time.
    let order = [circle];
    let context = WriteContext {
        name: "activity::visit",
        request: &caller.request,
        actor: caller.actor(),
        order: &order,
    };
    transaction!(&app, context, |tx| {
        Standing::read(tx, circle, caller.user).await?.require_member()?;
        let at_ms = Utc::now().timestamp_millis();
        visited(tx, &[VisitEntry { user: caller.user, circle, at_ms }]).await?;
        // No key holds visits, and no one learns of one.
        tx.unchanged();
        Ok(())
    })?;
    Ok(json_response(202, None, Visit::answer(Promise::Postgres)))
}

/// `None` if Redis cannot be asked.
async fn visit_live(app: &Ctx, caller: &Caller, circle: Uuid) -> Result<Option<Promise>> {
    /// Opened, and over again before it was used: hardly twice.
    const ROUNDS: u32 = 3;
    let partition = Partition::of(circle);
    let parameters = caller.request.path.with_session(Some(caller.user), None);
    let visit = Visit::new(&parameters).ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    for _ in 0..ROUNDS {
        let script = &app.redis.scripts.visit;
        let call = Call { script, keys: visit.keys(), arguments: visit.arguments() };
        let Ok(values) = app.redis.call(&[call]).await else { return Ok(None) };
        let outcome = Items::new(values.into_iter().next().unwrap_or(::redis::Value::Nil)).text();
        match outcome.as_str() {
            "done" => return Ok(Some(Promise::Redis)),
            "closed" if open_patiently(app, partition).await? => {}
            "full" if flush_all_of(app, partition).await? => {}
            _ => return Ok(None),
        }
    }
    Ok(None)
}
