//! What is to be decided, and what was: by a circle's moderators, and by administrators.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::page::{Cursor as _, List, answer_page, limit, page, parameters_of};
use optimist_plane::http::served::{Served, on};
use optimist_plane::operation::links::{FIRST_ID, link};
use optimist_plane::request::Caller;
use optimist_plane::{describe, statements};
use optimist_shared::envelope::DEFAULT_LIMIT;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use tokio_postgres::Row;

use crate::circles::access::require_role;
use crate::circles::definition::SAME_CIRCLE;
use crate::circles::standing::is_moderator;
use crate::reports::case::{Case, shown};

const FIRST_MESSAGE: (&str, &str) = ("message", FIRST_ID);
const FIRST_CIRCLE: (&str, &str) = ("circle", "$response.body#/items/0/circle_id");

pub fn routes() -> Vec<Served> {
    vec![
        on("reports.list", list)
            .says("Messages of a circle that people have reported, the newest first.")
            .notes(
                "Each is there once, with how many have reported it, and why. Decisions are kept for ninety days. Who has blocked a \
                 message's author decides by what others say of it.",
            )
            .answers::<List<Case>>(200)
            .tagged()
            .pages("cursor")
            .filter::<Stage>("state", "Those to be decided (`open`, which is so if it is not given), or those that are.")
            .links([link("reports.decide", &[SAME_CIRCLE, FIRST_MESSAGE])]),
        on("admin.reports", list_escalated)
            .says("Reported messages that administrators are to decide, the newest first. For administrators.")
            .notes(
                "Of any circle: what a moderator wrote or has passed on, and what may hurt somebody. The circle's moderators may \
                 decide first.",
            )
            .answers::<List<Case>>(200)
            .tagged()
            .pages("cursor")
            .links([link("admin.decide", &[FIRST_CIRCLE, FIRST_MESSAGE])]),
    ]
}

/// Whether cases are to be decided.
struct Stage;

describe!(Stage, {"type": "string", "enum": ["open", "decided"]});

statements! {
    const OF_CIRCLE: &str = "-- reports::of_circle
select message_id from report_cases
where circle_id = $1 and is_open = $2 and message_id < coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
order by message_id desc limit $4";

    const ESCALATED: &str = "-- reports::escalated
select message_id from report_cases
where state = 'escalated' and message_id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
order by message_id desc limit $2";
}

/// A query: what is asked for, after which message, and how many.
struct Asked {
    is_open: bool,
    after: Option<Uuid>,
    limit: usize,
}

impl Asked {
    fn parse(query: Option<&str>) -> Result<Asked> {
        let mut asked = Asked { is_open: true, after: None, limit: DEFAULT_LIMIT };
        for (name, value) in parameters_of(query)? {
            let refused = |reason: &str| Error::new(ErrorCode::BadRequest).field(name.clone(), reason);
            match (name.as_str(), value.as_str()) {
                ("limit", _) => asked.limit = limit(&value)?,
                ("cursor", _) => {
                    let after = Uuid::decode(&value);
                    asked.after = Some(after.ok_or_else(|| refused("is not a cursor of this list"))?);
                }
                ("state", "open") => asked.is_open = true,
                ("state", "decided") => asked.is_open = false,
                ("state", _) => return Err(refused("must be `open` or `decided`")),
                _ => return Err(refused("is not a parameter of this list")),
            }
        }
        Ok(asked)
    }
}

async fn list(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let asked = Asked::parse(uri.query())?;
    let (circle, _) = require_role(&ctx, &caller, is_moderator).await?;
    let most = asked.limit as i64 + 1;
    let rows = ctx.db.query(OF_CIRCLE, &[&circle, &asked.is_open, &asked.after, &most]).await?;
    answer(&ctx, &caller, &headers, &rows, asked.limit).await
}

async fn list_escalated(
    State(ctx): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response> {
    let page = page::<Uuid>(uri.query(), "cursor")?;
    let rows = ctx.db.query(ESCALATED, &[&page.after, &(page.limit as i64 + 1)]).await?;
    answer(&ctx, &caller, &headers, &rows, page.limit).await
}

async fn answer(
    ctx: &Ctx,
    caller: &Caller,
    headers: &HeaderMap,
    rows: &[Row],
    limit: usize,
) -> Result<Response> {
    let ids: Vec<Uuid> = rows.iter().take(limit).map(|row| row.get(0)).collect();
    let cases = shown(ctx, &ids, caller.user).await?;
    answer_page(headers, cases, rows.len() > limit, |last| last.id)
}
