//! Visits that the edge could not record: written behind through Redis like the edge's own, or into Postgres without Redis.
//!
//! Counting them is [`crate::activity::counting`]'s.

use axum::extract::State;
use axum::response::Response;
use chrono::Utc;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::http::body::json_response;
use optimist_plane::http::sent::PromiseShape;
use optimist_plane::http::served::{Served, on};
use optimist_plane::region::trust::Mode;
use optimist_plane::request::Caller;
use optimist_plane::transaction;
use optimist_plane::write_behind::flush::flush_all_of;
use optimist_plane::write_behind::open::open_patiently;
use optimist_shared::ids::{Id, Partition, Uuid};
use optimist_shared::reactions::Promise;
use optimist_shared::scripts::visit::{self, Visited};
use schemars::JsonSchema;

use crate::activity::counting::visited;
use crate::activity::visit::VisitEntry;
use crate::circles::access::require_member;
use crate::circles::standing::Standing;

pub fn routes() -> Vec<Served> {
    vec![
        on("visits.record", record)
            .says("Tell that one is in a circle.")
            .notes("Two within the same five minutes are one.")
            .answers::<Promised>(202),
    ]
}

/// The answer to a visit, as [`visit::answer`] renders it at the edge and here.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is a description alone")]
struct Promised {
    promise: PromiseShape,
}

async fn record(State(ctx): State<Ctx>, caller: Caller) -> Result<Response> {
    let circle = caller.request.id(Id::Circle)?;
    require_member(&ctx, &caller).await?;
    if ctx.region.mode() == Mode::Fenced
        && let Some(promise) = record_behind(&ctx, caller.user, circle).await?
    {
        return Ok(json_response(202, None, visit::answer(promise)));
    }
    // A stream may still hold an entry for the same five minutes; applying it later adds no second visit.
    let context = caller.writes("activity::visit", [circle]);
    transaction!(&ctx, context, |tx| {
        Standing::read(tx, circle, caller.user).await?.require_member()?;
        let at_ms = Utc::now().timestamp_millis();
        visited(tx, &[VisitEntry { user: caller.user, circle, at_ms }]).await?;
        // No key holds visits, and no event tells of one.
        tx.unchanged();
        Ok(())
    })?;
    Ok(json_response(202, None, visit::answer(Promise::Postgres)))
}

/// Appends the visit to its partition's stream. `None` if Redis cannot take it.
async fn record_behind(ctx: &Ctx, user: Uuid, circle: Uuid) -> Result<Option<Promise>> {
    /// A partition may close or fill up again right after it was opened or flushed, but hardly twice.
    const ROUNDS: u32 = 3;
    let partition = Partition::of(circle);
    let call = visit::call(user, circle);
    for _ in 0..ROUNDS {
        let Ok(mut reply) = ctx.redis.call_one(&call).await else { return Ok(None) };
        match visit::read(&mut reply) {
            Some(Visited::Done) => return Ok(Some(Promise::Redis)),
            Some(Visited::Closed) if open_patiently(ctx, partition).await? => {}
            Some(Visited::Full) if flush_all_of(ctx, partition).await? => {}
            _ => return Ok(None),
        }
    }
    Ok(None)
}
