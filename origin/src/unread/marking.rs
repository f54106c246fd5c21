//! Marking a circle as read where the edge could not: through Redis like the edge's own marks, or into Postgres without Redis.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::Body;
use optimist_plane::http::sent::Count;
use optimist_plane::http::served::{Served, on};
use optimist_plane::region::trust::Mode;
use optimist_plane::request::Caller;
use optimist_plane::transaction;
use optimist_plane::write_behind::flush::flush_all_of;
use optimist_plane::write_behind::open::open_patiently;
use optimist_shared::ids::{Partition, Uuid};
use optimist_shared::keys::Key;
use optimist_shared::scripts::mark_read::{self, Marked};
use optimist_shared::session::Role;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::circles::access::require_role;
use crate::circles::standing::Standing;
use crate::unread::{head, marker};

pub fn routes() -> Vec<Served> {
    vec![
        on("unread.mark", mark)
            .says("Tell up to which message one has read a circle.")
            .notes(
                "A marker only grows: a smaller number changes nothing. Posting moves one's own to the new message, and joining \
                 to the newest.",
            )
            .takes::<Mark>(json!({"number": 1})),
    ]
}

/// Up to which message, itself included.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MarkRead")]
struct Mark {
    number: Count,
}

async fn mark(State(ctx): State<Ctx>, caller: Caller, body: Body<Mark>) -> Result<Response> {
    let (circle, _) = require_role(&ctx, &caller, Role::is_member).await?;
    let Mark { number: Count(number) } = body.value;
    let newest = head::newest_number(&ctx, circle).await?;
    let known = i64::try_from(number).ok().filter(|number| *number <= newest);
    let known = known.ok_or_else(|| Error::invalid("number", "is above the newest message's number"))?;
    if ctx.region.mode() == Mode::Fenced && mark_behind(&ctx, caller.user, circle, number).await? {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    // A stream may still hold an entry of less; applying it later changes nothing.
    let context = caller.writes("unread::mark", [circle]);
    transaction!(&ctx, context, |tx| {
        Standing::read(tx, circle, caller.user).await?.require_role(Role::is_member)?;
        marker::raise(tx, [((circle, caller.user), known)]).await?;
        tx.touch(Key::read_marker(circle, caller.user));
        tx.event("circle.read", json!({"circle": circle}));
        Ok(())
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Appends the mark to its partition's stream. `false` if Redis cannot take it.
async fn mark_behind(ctx: &Ctx, user: Uuid, circle: Uuid, number: u64) -> Result<bool> {
    /// A partition may close or fill up again right after it was opened or flushed, and the next message may hide the head, but hardly
    /// twice.
    const ROUNDS: u32 = 3;
    let partition = Partition::of(circle);
    let call = mark_read::call(user, circle, number);
    for _ in 0..ROUNDS {
        let Ok(mut reply) = ctx.redis.call_one(&call).await else { return Ok(false) };
        match mark_read::read(&mut reply) {
            Some(Marked::Done) => return Ok(true),
            Some(Marked::Closed) if open_patiently(ctx, partition).await? => {}
            Some(Marked::Full) if flush_all_of(ctx, partition).await? => {}
            Some(Marked::Unknown) => drop(head::newest_number(ctx, circle).await?),
            _ => return Ok(false),
        }
    }
    Ok(false)
}
