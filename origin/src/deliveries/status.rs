//! What became of a notification's deliveries.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::digest;
use optimist_plane::http::body::{tagged, to_json};
use optimist_plane::http::page::{List, no_query};
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::request::Caller;
use optimist_plane::{describe, statements};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};
use schemars::JsonSchema;
use serde::Serialize;

pub fn routes() -> Vec<Served> {
    vec![
        on("notifications.delivery", delivery)
            .says("Where a notification was sent, and what became of it.")
            .notes("Deliveries are kept for a week; attempts end after a day.")
            .answers::<List<Status>>(200)
            .tagged(),
    ]
}

statements! {
    const FIND: &str = "-- deliveries::find, planned anew
select d.target, d.channel, d.state, d.reason, d.attempts, d.due_at, d.ended_at
from notifications n left join deliveries d on d.user_id = n.user_id and d.subject = n.id
where n.user_id = $1 and n.month = id_month($2) and n.id = $2 order by d.channel, d.target";
}

/// The schema of a channel.
struct ChannelShape;
/// The schema of a delivery's state.
struct StateShape;

describe!(ChannelShape, {"type": "string", "enum": ["push", "webhook", "email"]});
describe!(StateShape, {"type": "string", "enum": ["queued", "claimed", "sent", "withdrawn", "failed", "given-up"]});

/// A delivery, as the person sees it whom it is for.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Delivery")]
struct Status {
    #[schemars(with = "ChannelShape")]
    channel: String,
    /// The push token. Null for e-mail.
    token_id: Option<Uuid>,
    #[schemars(with = "StateShape")]
    state: String,
    /// Why it was not sent, or not yet.
    reason: Option<String>,
    #[schemars(range(min = 0))]
    attempts: i16,
    /// When it is tried next, if it is.
    due_at: Option<Time>,
    ended_at: Option<Time>,
}

async fn delivery(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    let id = caller.request.id(Id::Notification)?;
    let rows = ctx.db.query(FIND, &[&caller.user, &id]).await?;
    if rows.is_empty() {
        return Err(Error::new(ErrorCode::NotFound));
    }
    let items = rows.iter().filter_map(|row| {
        let channel: String = row.get::<_, Option<String>>("channel")?;
        let ended_at = row.get::<_, Option<_>>("ended_at").map(Time);
        Some(Status {
            token_id: (channel != "email").then(|| row.get("target")),
            channel,
            state: row.get("state"),
            reason: row.get("reason"),
            attempts: row.get("attempts"),
            due_at: if ended_at.is_none() { Some(Time(row.get("due_at"))) } else { None },
            ended_at,
        })
    });
    let json = to_json(&List::whole(items.collect()))?;
    Ok(tagged(&headers, &digest(&[&json]), "", json))
}
