//! Reporting a message.
//!
//! It decides nothing: [`super::deciding`] does.

use axum::extract::State;
use axum::response::Response;
use optimist_plane::archive::missing;
use optimist_plane::clock;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{Body, json_response, to_json};
use optimist_plane::http::sent::Shown;
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::Caller;
use optimist_plane::{statements, transaction};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::quotas::Quota;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_postgres::Row;

use crate::circles::access::reader_of_circle;
use crate::circles::standing::Standing;
use crate::messages::message::TABLE;
use crate::reports::case::{MOST, Reason, ReportText};

pub fn routes() -> Vec<Served> {
    vec![
        on("reports.make", make)
            .says("Report a message.")
            .notes(
                "The circle's moderators are told of the first report of a message, and see how many there are, why, and what they \
                 say; nobody sees who they are by. What may hurt somebody (`self_harm`), and what a moderator wrote, administrators see \
                 as well. Whoever reported is told what is decided. A message is reported once: again, the answer is 200 and the first \
                 report stands. A hundred reports of a message are enough: further ones are answered alike, and change nothing.",
            )
            .takes::<Make>(json!({"reason": "spam", "text": "The third advertisement today."}))
            .answers::<Report>(201)
            .also(200, "One has reported it already.")
            .refuses(&[ErrorCode::Conflict, ErrorCode::Archived, ErrorCode::QuotaExceeded]),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ReportMessage")]
struct Make {
    #[schemars(with = "Reason")]
    reason: Reason,
    text: Option<ReportText>,
}

/// One's own report.
#[derive(Serialize, JsonSchema)]
struct Report {
    message_id: Uuid,
    #[schemars(with = "Reason")]
    reason: String,
    #[schemars(with = "Shown<ReportText>")]
    text: String,
    reported_at: Time,
}

statements! {
    const SUBJECT: &str = "-- reports::subject, planned anew
select m.author_id, m.number, m.body, coalesce(a.role in ('owner', 'moderator'), false)
from messages m left join memberships a on a.circle_id = m.circle_id and a.user_id = m.author_id
where m.circle_id = $1 and m.id = $2 and m.deleted_at is null";

    const KNOWN: &str = "-- reports::known
select reason, body, created_at from reports where message_id = $1 and reporter_id = $2";

    /// No further than `$2`.
    const HELD: &str = "-- reports::held (1,000 rows)
select count(*) from (select from reports where reporter_id = $1 limit $2) held";

    /// Opens a message's case, or adds to it; selects its round, and whether those who decide learn something new: there was no
    /// open case, or administrators see it from now on. The circle's lock keeps the row as it was read.
    const OPEN: &str = "-- reports::open
with before as materialized (select state from report_cases where message_id = $1)
insert into report_cases as c (message_id, circle_id, author_id, number, body, state)
values ($1, $2, $3, $4, $5, $6)
on conflict (message_id) do update
set body = excluded.body, decided_by = null, decided_at = null, round = c.round + (not c.is_open)::integer,
    state = case when c.state = 'escalated' then c.state else excluded.state end
returning round, coalesce((select state not in ('open', 'escalated') or state <> c.state from before), true)";

    /// Adds a report to a round, unless the round has `$6`.
    const ADD: &str = "-- reports::add
insert into reports (message_id, reporter_id, round, reason, body)
select $1, $2, $3, $4, $5
where (select count(*) from (select from reports where message_id = $1 and round = $3 limit $6) held) < $6
returning created_at";
}

impl Report {
    /// From: reason, body, created_at.
    fn known(message: Uuid, row: &Row) -> Report {
        Report { message_id: message, reason: row.get(0), text: row.get(1), reported_at: row.get(2) }
    }
}

/// What is reported.
struct Subject {
    author: Uuid,
    number: i64,
    body: String,
    by_moderator: bool,
}

impl Subject {
    fn from_row(row: &Row) -> Subject {
        Subject { author: row.get(0), number: row.get(1), body: row.get(2), by_moderator: row.get(3) }
    }

    fn require_anothers(&self, user: Uuid) -> Result<()> {
        let own = || Error::new(ErrorCode::Conflict).field("message", "is one's own");
        if self.author == user { Err(own()) } else { Ok(()) }
    }
}

async fn make(State(ctx): State<Ctx>, caller: Caller, body: Body<Make>) -> Result<Response> {
    let (circle, _) = reader_of_circle(&ctx, &caller).await?;
    let (user, message) = (caller.user, caller.request.id(Id::Message)?);
    match ctx.db.query_opt(SUBJECT, &[&circle, &message]).await? {
        Some(row) => Subject::from_row(&row).require_anothers(user)?,
        None => return Err(missing(&ctx, TABLE, message).await),
    }
    let Make { reason, text } = body.value;
    let text: String = text.map(Into::into).unwrap_or_default();
    let context = caller.writes("reports::make", [circle, user]);
    let (status, report) = transaction!(&ctx, context, |tx| {
        Standing::read(tx, circle, user).await?.require_reader()?;
        let Some(row) = tx.query_opt(SUBJECT, &[&circle, &message]).await? else {
            return Err(missing(&ctx, TABLE, message).await);
        };
        let subject = Subject::from_row(&row);
        let mut payload = json!({"circle": circle, "message": message, "author": subject.author});
        let report = match tx.query_opt(KNOWN, &[&message, &user]).await? {
            Some(row) => {
                tx.unchanged();
                (200, Report::known(message, &row))
            }
            None => {
                require_room(tx, user).await?;
                let state =
                    if subject.by_moderator || reason == Reason::SelfHarm { "escalated" } else { "open" };
                let Subject { author, number, body, .. } = subject;
                let row = tx.query_one(OPEN, &[&message, &circle, &author, &number, &body, &state]).await?;
                let (round, is_news): (i32, bool) = (row.get(0), row.get(1));
                payload["news"] = json!(is_news);
                let reason = reason.as_str();
                let row = tx.query_opt(ADD, &[&message, &user, &round, &reason, &text, &MOST]).await?;
                if row.is_none() {
                    tx.unchanged();
                }
                let at = row.map_or_else(clock::now, |row| row.get(0));
                (
                    201,
                    Report {
                        message_id: message,
                        reason: reason.to_owned(),
                        text: text.clone(),
                        reported_at: Time(at),
                    },
                )
            }
        };
        tx.event("report.made", payload);
        Ok(report)
    })?;
    Ok(json_response(status, None, to_json(&report)?))
}

/// 422 for whoever has as many reports as they may. The transaction holds the person's lock.
async fn require_room(tx: &Tx, user: Uuid) -> Result<()> {
    let most = Quota::Reports.row().most.cast_signed();
    let held: i64 = tx.query_one(HELD, &[&user, &most]).await?.get(0);
    if held < most { Ok(()) } else { Err(Error::over(Quota::Reports)) }
}
