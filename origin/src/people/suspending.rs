//! Suspending accounts, and restoring them: by administrators, by the operator's command line and, where a suspension has an end, by
//! the clock.
//!
//! When a suspension is acknowledged, its owner has no session, and can neither log in nor refresh. What they have written stays.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, SecondsFormat, Utc};
use optimist_plane::clock;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{Body, json_response, to_json};
use optimist_plane::http::sent::{Moment, Shown, Text};
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::{Caller, RequestContext, WriteContext};
use optimist_plane::{statements, transaction};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::keys::Key;
use optimist_shared::routes::Route;
use optimist_shared::scripts::presence;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::people::admin::require_admin_in;
use crate::people::ending::Ending;
use crate::people::letters::queue::{Kind, to_account};

pub fn routes() -> Vec<Served> {
    vec![
        on("admin.suspend", suspend_user)
            .says("Suspend an account. For administrators.")
            .notes(
                "From the answer on its owner has no session and opens none. A suspension with `until` ends by itself. Of an account \
                 that is suspended, reason and end are replaced. 409 for an administrator's account.",
            )
            .takes::<Suspend>(json!({"reason": "Sends advertisements.", "until": "2099-01-01T00:00:00Z"}))
            .answers::<Suspended>(200)
            .refuses(&[ErrorCode::Conflict]),
        on("admin.restore", restore_user)
            .says("Let the owner of a suspended account log in again. For administrators."),
    ]
}

type Reason = Text<1, 500>;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SuspendUser")]
struct Suspend {
    /// The account's owner reads it when they log in.
    reason: Reason,
    /// Without it the suspension lasts until an administrator ends it.
    until: Option<Moment>,
}

/// An account that is suspended.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SuspendedUser")]
struct Suspended {
    user_id: Uuid,
    #[schemars(with = "Shown<Reason>")]
    reason: String,
    until: Option<Time>,
}

statements! {
    const LOCK: &str = "-- suspending::lock
select email, locale, role = 'admin', status = 'suspended' from users where id = $1 and status <> 'erased' for no key update";

    const SUSPEND: &str = "-- suspending::suspend
update users set status = 'suspended', suspended_until = $2, suspension_reason = $3, updated_at = now()
where id = $1 and (status, suspended_until, suspension_reason) is distinct from ('suspended', $2, $3)";

    /// `$2`: only if its suspension is over.
    const RESTORE: &str = "-- suspending::restore
update users set status = 'active', suspended_until = null, suspension_reason = null, updated_at = now()
where id = $1 and status = 'suspended' and (not $2 or suspended_until <= now())
returning email, locale";

    const EXISTS: &str = "-- suspending::exists
select from users where id = $1 and status <> 'erased'";

    const OVER: &str = "-- suspending::over
select id from users where suspended_until <= now() order by suspended_until limit $1";
}

async fn suspend_user(State(ctx): State<Ctx>, caller: Caller, body: Body<Suspend>) -> Result<Response> {
    let Suspend { reason, until } = body.value;
    let until = until.map(|Moment(until)| until);
    if until.is_some_and(|until| until <= clock::now()) {
        return Err(Error::invalid("until", "is over"));
    }
    let user = caller.request.id(Id::User)?;
    let suspension = Suspension { user, until, reason: Some(&reason) };
    if !suspension.begin(&ctx, &caller.request, Some(&caller)).await? {
        return Err(Error::new(ErrorCode::NotFound));
    }
    let json = to_json(&Suspended { user_id: user, reason: reason.into(), until: until.map(Time) })?;
    Ok(json_response(200, None, json))
}

async fn restore_user(State(ctx): State<Ctx>, caller: Caller) -> Result<Response> {
    let user = caller.request.id(Id::User)?;
    ctx.db.query_opt(EXISTS, &[&user]).await?.ok_or_else(|| Error::new(ErrorCode::NotFound))?;
    restore(&ctx, &caller.request, user, By::Administrator(&caller)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A suspension of an account, which begins.
pub struct Suspension<'a> {
    pub user: Uuid,
    pub until: Option<DateTime<Utc>>,
    pub reason: Option<&'a str>,
}

impl Suspension<'_> {
    /// Suspends the account, and ends its sessions in steps. Returns whether there is such an account. It may be cut off, and called
    /// again. Without `by` the operator does it, who may also suspend an administrator.
    pub async fn begin(&self, ctx: &Ctx, request: &RequestContext, by: Option<&Caller>) -> Result<bool> {
        let Suspension { user, until, reason } = self;
        let ending = Ending { user: *user, family: None, asking: None, but_asking: false };
        loop {
            let actor = by.and_then(Caller::actor);
            let context = WriteContext::new("suspending::suspend", request, actor, vec![*user]);
            let is_done = transaction!(ctx, context, |tx| {
                if let Some(caller) = by {
                    require_admin_in(tx, caller.user).await?;
                }
                let Some(row) = tx.query_opt(LOCK, &[user]).await? else {
                    tx.unchanged();
                    return Ok(None);
                };
                if by.is_some() && row.get(2) {
                    return Err(Error::new(ErrorCode::Conflict)
                        .detail("It is an administrator's account: take the role away first."));
                }
                // First, so that no session is opened between two steps.
                let changed = tx.execute(SUSPEND, &[user, until, reason]).await?;
                tx.touch(Key::profile(*user));
                let ended = ending.step(tx).await?;
                if changed == 0 && ended.sessions == 0 {
                    tx.unchanged();
                }
                if changed > 0 && !row.get::<_, bool>(3) {
                    tell(ctx, tx, *user, Kind::Suspended, row.get(0), row.get(1)).await?;
                }
                tx.event("admin.suspended", json!({"user": user, "until": until.map(Time)}));
                Ok(Some(ended.is_done))
            })?;
            match is_done {
                None => return Ok(false),
                Some(false) => {}
                Some(true) => break,
            }
        }
        // Who asks is answered by Postgres. Circles that Redis does not hear of now are told within minutes.
        let _ = ctx.redis.call_one(&presence::renew(*user)).await;
        Ok(true)
    }
}

/// Who ends a suspension.
#[derive(Clone, Copy)]
pub enum By<'a> {
    Administrator(&'a Caller),
    Operator,
    /// Only if it is over.
    Clock,
}

/// Ends the suspension of an account, if it is suspended.
pub async fn restore(ctx: &Ctx, request: &RequestContext, user: Uuid, by: By<'_>) -> Result<()> {
    let actor = match by {
        By::Administrator(caller) => caller.actor(),
        By::Operator | By::Clock => None,
    };
    let context = WriteContext::new("suspending::restore", request, actor, vec![user]);
    transaction!(ctx, context, |tx| {
        if let By::Administrator(caller) = by {
            require_admin_in(tx, caller.user).await?;
        }
        match tx.query_opt(RESTORE, &[&user, &matches!(by, By::Clock)]).await? {
            Some(row) => tell(ctx, tx, user, Kind::Restored, row.get(0), row.get(1)).await?,
            None => tx.unchanged(),
        }
        tx.touch(Key::profile(user));
        tx.event("admin.restored", json!({"user": user}));
        Ok(())
    })
}

/// By mail: nothing else reaches a person without a session.
async fn tell(ctx: &Ctx, tx: &Tx, user: Uuid, kind: Kind, email: &str, locale: &str) -> Result<()> {
    if ctx.outgoing.mail.is_on() { to_account(tx, user, kind, email, locale).await } else { Ok(()) }
}

/// What stands for a route where no request suspends or restores.
pub static SUSPEND_ROUTE: Route = Route::of_command("admin.suspend", &[Key::Session, Key::Profile]);
pub static RESTORE_ROUTE: Route = Route::of_command("admin.restore", &[Key::Profile]);

/// Ends the suspension of an account if it is over.
pub async fn restore_if_over(ctx: &Ctx, user: Uuid) -> Result<()> {
    restore(ctx, &RequestContext::of_command(&RESTORE_ROUTE), user, By::Clock).await
}

/// Accounts that a turn of the job restores: each is a transaction.
const AT_ONCE: i64 = 100;

/// Ends suspensions that are over.
pub async fn end(ctx: &Ctx) -> Result<u64> {
    let mut ended = 0;
    loop {
        let over = ctx.db.query(OVER, &[&AT_ONCE]).await?;
        for row in &over {
            restore_if_over(ctx, row.get(0)).await?;
        }
        ended += over.len() as u64;
        if (over.len() as i64) < AT_ONCE {
            return Ok(ended);
        }
    }
}

/// The refusal of a log-in to an account that is suspended. Only those who know its password learn of it.
pub fn refusal(until: Option<DateTime<Utc>>, reason: Option<&str>) -> Error {
    let until = match until {
        Some(until) => format!("until {}", until.to_rfc3339_opts(SecondsFormat::Secs, true)),
        None => "until an administrator restores it".to_owned(),
    };
    let reason = reason.map_or(String::new(), |reason| format!(" The reason: {reason}"));
    Error::new(ErrorCode::Suspended).detail(format!("The account is suspended {until}.{reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_until_when_and_why() {
        let until = DateTime::from_timestamp(4_070_908_800, 0);
        let said = |until, reason| refusal(until, reason).detail.unwrap();
        assert_eq!(
            said(until, Some("Spam.")),
            "The account is suspended until 2099-01-01T00:00:00Z. The reason: Spam."
        );
        assert_eq!(said(None, None), "The account is suspended until an administrator restores it.");
    }
}
