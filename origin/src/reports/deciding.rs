//! Decisions about reported messages: a message stays, is removed, or is for administrators to decide.
//!
//! Removing is what deleting a message is, and closes the case in the same statement: [`crate::messages::subject`].

use axum::extract::State;
use axum::response::Response;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{Body, json_response, to_json};
use optimist_plane::http::sent::Refused;
use optimist_plane::http::served::{Served, on};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::Caller;
use optimist_plane::{describe, statements, transaction};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::session::Role;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio_postgres::Row;

use crate::circles::access::require_role;
use crate::circles::standing::{Standing, is_moderator};
use crate::messages::subject::Subject;
use crate::people::admin::require_admin_in;
use crate::reports::case::{Case, shown};

pub fn routes() -> Vec<Served> {
    let example = || json!({"decision": "dismiss"});
    vec![
        on("reports.decide", decide)
            .says("Decide about a reported message.")
            .notes(
                "`dismiss` lets it stay, `remove` deletes it, `escalate` passes it on to administrators as well. Those who reported it \
                 are told of the first two, and its author if it is removed. Nobody decides about themselves, about the owner, or as a \
                 moderator about a moderator: administrators do. In an archived circle too. 409 if it is decided.",
            )
            .takes::<Decide>(example())
            .answers::<Case>(200)
            .refuses(&[ErrorCode::Conflict, ErrorCode::Archived]),
        on("admin.decide", decide_as_administrator)
            .says("Decide about a reported message of any circle. For administrators.")
            .notes("As a circle's moderators do, about whomever it is by; `escalate` changes nothing.")
            .takes::<Decide>(example())
            .answers::<Case>(200)
            .refuses(&[ErrorCode::Conflict, ErrorCode::Archived]),
    ]
}

/// What becomes of a reported message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
enum Decision {
    Dismiss,
    Remove,
    Escalate,
}

describe!(Decision, {"type": "string", "enum": ["dismiss", "remove", "escalate"]});

impl TryFrom<String> for Decision {
    type Error = Refused;

    fn try_from(text: String) -> Result<Decision, Refused> {
        match text.as_str() {
            "dismiss" => Ok(Decision::Dismiss),
            "remove" => Ok(Decision::Remove),
            "escalate" => Ok(Decision::Escalate),
            _ => Err(Refused::new("must be `dismiss`, `remove` or `escalate`")),
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DecideReport")]
struct Decide {
    decision: Decision,
}

statements! {
    const FIND: &str = "-- reports::find
select c.circle_id, c.author_id, c.state, c.round, m.role
from report_cases c left join memberships m on m.circle_id = c.circle_id and m.user_id = c.author_id
where c.message_id = $1";

    const ESCALATE: &str = "-- reports::escalate
update report_cases set state = 'escalated' where message_id = $1";

    const DISMISS: &str = "-- reports::dismiss
update report_cases set state = 'dismissed', decided_by = $2, decided_at = now(), body = '' where message_id = $1";
}

/// A case as decisions about it are made.
struct Found {
    circle: Uuid,
    author: Uuid,
    state: String,
    round: i32,
    author_role: Role,
}

impl Found {
    fn from_row(row: &Row) -> Found {
        let role: Option<&str> = row.get(4);
        Found {
            circle: row.get(0),
            author: row.get(1),
            state: row.get(2),
            round: row.get(3),
            author_role: role.and_then(Role::parse).unwrap_or(Role::None),
        }
    }

    async fn before_locks(ctx: &Ctx, message: Uuid) -> Result<Found> {
        let row = ctx.db.query_opt(FIND, &[&message]).await?;
        row.map(|row| Found::from_row(&row)).ok_or_else(|| Error::new(ErrorCode::NotFound))
    }

    async fn read(tx: &Tx, message: Uuid) -> Result<Found> {
        let row = tx.query_opt(FIND, &[&message]).await?;
        row.map(|row| Found::from_row(&row)).ok_or_else(|| Error::new(ErrorCode::NotFound))
    }

    /// 404 if it is a case of another circle.
    fn require_in(&self, circle: Uuid) -> Result<()> {
        if self.circle == circle { Ok(()) } else { Err(Error::new(ErrorCode::NotFound)) }
    }

    /// 404 if it is a case of another circle; 403 for whoever is in no position to decide about its author.
    fn require_decider(&self, circle: Uuid, user: Uuid, role: Role) -> Result<()> {
        self.require_in(circle)?;
        let may = match self.author_role {
            Role::Owner => false,
            Role::Moderator => role == Role::Owner,
            _ => is_moderator(role) && self.author != user,
        };
        let detail = "Somebody above its author decides about this message: the owner, or an administrator.";
        if may { Ok(()) } else { Err(Error::new(ErrorCode::Forbidden).detail(detail)) }
    }

    /// Changes the case, in a transaction that holds the circle's lock.
    async fn decide(
        &self,
        ctx: &Ctx,
        tx: &mut Tx,
        message: Uuid,
        user: Uuid,
        decision: Decision,
    ) -> Result<()> {
        let wanted = match decision {
            Decision::Dismiss => "dismissed",
            Decision::Remove => "removed",
            Decision::Escalate => "escalated",
        };
        if self.state == wanted {
            tx.unchanged();
        } else if !matches!(self.state.as_str(), "open" | "escalated") {
            return Err(Error::new(ErrorCode::Conflict).detail("It is decided already."));
        }
        let payload =
            json!({"circle": self.circle, "message": message, "decision": wanted, "reported": self.round});
        match decision {
            _ if self.state == wanted => tx.event("report.decided", payload),
            Decision::Escalate => {
                tx.execute(ESCALATE, &[&message]).await?;
                tx.event("report.decided", payload);
            }
            Decision::Dismiss => {
                tx.execute(DISMISS, &[&message, &user]).await?;
                tx.event("report.decided", payload);
            }
            Decision::Remove => {
                let subject = Subject::read(ctx, tx, self.circle, message).await?;
                subject.remove(ctx, tx, self.circle, message, user).await?;
            }
        }
        Ok(())
    }
}

async fn decide(State(ctx): State<Ctx>, caller: Caller, body: Body<Decide>) -> Result<Response> {
    let (circle, role) = require_role(&ctx, &caller, is_moderator).await?;
    let (user, message) = (caller.user, caller.request.id(Id::Message)?);
    Found::before_locks(&ctx, message).await?.require_decider(circle, user, role)?;
    let Decide { decision } = body.value;
    let context = caller.writes("reports::decide", [circle, user]);
    transaction!(&ctx, context, |tx| {
        let standing = Standing::read(tx, circle, user).await?;
        // In an archived circle as well, where people may still read and report.
        standing.require_role(is_moderator)?;
        let found = Found::read(tx, message).await?;
        found.require_decider(circle, user, standing.role)?;
        found.decide(&ctx, tx, message, user, decision).await
    })?;
    answer(&ctx, &caller, message).await
}

async fn decide_as_administrator(
    State(ctx): State<Ctx>,
    caller: Caller,
    body: Body<Decide>,
) -> Result<Response> {
    let (user, message) = (caller.user, caller.request.id(Id::Message)?);
    let circle = caller.request.id(Id::Circle)?;
    Found::before_locks(&ctx, message).await?.require_in(circle)?;
    let Decide { decision } = body.value;
    let context = caller.writes("reports::decide_as_administrator", [circle, user]);
    transaction!(&ctx, context, |tx| {
        require_admin_in(tx, user).await?;
        let found = Found::read(tx, message).await?;
        found.require_in(circle)?;
        found.decide(&ctx, tx, message, user, decision).await
    })?;
    answer(&ctx, &caller, message).await
}

async fn answer(ctx: &Ctx, caller: &Caller, message: Uuid) -> Result<Response> {
    let case = shown(ctx, &[message], caller.user).await?.into_iter().next();
    let case = case.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    Ok(json_response(200, None, to_json(&case)?))
}
