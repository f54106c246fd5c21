//! Charging limits: through the edge's scripts, or in memory when Redis cannot be asked.

use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::limits::{LIMITS, Limit, LimitRow, LimitState, Scope};
use optimist_shared::routes::Pattern;
use optimist_shared::scripts::limit::{Charge, Verdict, give_back};
use optimist_shared::session::{attempt_entry, autosave_entry, request_entry};

use crate::clock::now_ms;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::limits::charged::{Charged, refusal};
use crate::request::{Caller, RequestContext};

/// Charges a route's limits for its user or, on public routes, for the client's address.
pub async fn charge_route(
    ctx: &Ctx,
    request: &RequestContext,
    user: Option<Uuid>,
    idempotency_key: Option<&str>,
) -> Result<Charged> {
    let charge = charge_of(request, user, idempotency_key);
    charge_all(ctx, charge).await
}

/// Gives back what this request was charged, by the edge or here, where a limit counts successes: everything was as the caller
/// wanted it already.
pub async fn give_back_unused(ctx: &Ctx, caller: &Caller, idempotency_key: Option<&str>) {
    let charge = charge_of(&caller.request, Some(caller.user), idempotency_key);
    let keys = charge.refundable();
    if keys.is_empty() {
        return;
    }
    // It is counted in one of the two; the other does not know the entry.
    keys.iter().for_each(|key| ctx.limits.give_back(key, &charge.entry));
    // Without Redis the entry lapses with its window; the reason was logged.
    let _ = ctx.redis.call_one(&give_back(&keys, &charge.entry)).await;
}

/// The charge of a request: the same as the edge's.
fn charge_of(request: &RequestContext, user: Option<Uuid>, idempotency_key: Option<&str>) -> Charge {
    let route = request.route;
    let scope = if user.is_some() { Scope::User } else { Scope::Address };
    let rows = route.limits.iter().map(|limit| limit.row()).filter(|row| row.scope == scope).collect();
    let parameter = user.map_or_else(|| request.client.clone(), |user| user.to_string());
    let entry = match (user, idempotency_key) {
        (Some(user), _) if route.pattern == Pattern::AutoSave => {
            // The path's last id is that of the saved entity.
            autosave_entry(user, request.path.ids.last().unwrap_or(user), now_ms())
        }
        (Some(user), Some(key)) if route.is_idempotent => attempt_entry(user, route.name, key),
        _ => request_entry(&request.request_id),
    };
    Charge::new(rows, &parameter, entry)
}

/// Charges limits of one parameter together: all of them, or none.
pub async fn charge(
    ctx: &Ctx,
    rows: Vec<&'static LimitRow>,
    parameter: &str,
    entry: String,
) -> Result<Charged> {
    charge_all(ctx, Charge::new(rows, parameter, entry)).await
}

/// Charges all limits of a charge, or none.
pub async fn charge_all(ctx: &Ctx, charge: Charge) -> Result<Charged> {
    match charge_in_redis(ctx, &charge).await {
        Some(charged) => charged,
        None => ctx.limits.charge(charge, now_ms()),
    }
}

/// `None` when Redis cannot be asked, or its answer cannot be used.
pub async fn charge_in_redis(ctx: &Ctx, charge: &Charge) -> Option<Result<Charged>> {
    let mut reply = ctx.redis.call_one(&charge.call()).await.ok()?;
    let (outcome, states) = charge.read(&mut reply)?;
    let is_own = match outcome {
        Verdict::Refused(refused) => return Some(Err(refusal(refused.policy, refused.retry_after))),
        Verdict::Charged => true,
        Verdict::Found => false,
    };
    Some(Ok(Charged { charge: charge.clone(), states, in_memory: false, is_own }))
}

/// Gives a failed attempt back, where its limits' rows say so.
pub async fn settle(ctx: &Ctx, charged: &Charged, status: u16) {
    let keys = charged.refundable(status);
    if keys.is_empty() {
        return;
    }
    let entry = &charged.charge.entry;
    if charged.in_memory {
        keys.iter().for_each(|key| ctx.limits.give_back(key, entry));
        return;
    }
    // Without Redis the entry lapses with its window; the reason was logged.
    let _ = ctx.redis.call_one(&give_back(&keys, entry)).await;
}

/// Checks a token that the edge could not, and counts it against its address if it is bad. 429 for an address that has brought too
/// many bad ones: its good tokens share that fate.
///
/// Good tokens cost their address nothing, however many come at once: they wait for each other. A guess is counted before its
/// turn ends, so the guesses that an origin checks pass the limit by those under way at most.
pub async fn checking_token<T>(ctx: &Ctx, client: &str, check: impl Future<Output = Result<T>>) -> Result<T> {
    // A name of its own: a request that is sent again is another attempt.
    let charge = Charge::new(vec![Limit::BadTokens.row()], client, Uuid::now_v7().to_string());
    ctx.checks
        .in_turn(client, async {
            if let Some(refused) = charge.exhausted(&states_of(ctx, &charge).await) {
                return Err(refusal(refused.policy, refused.retry_after));
            }
            let result = check.await;
            if matches!(&result, Err(error) if error.code == ErrorCode::Unauthenticated) {
                // Whether or not it was the last one: this one has been checked.
                let _ = charge_all(ctx, charge).await;
            }
            result
        })
        .await
}

/// The state of every limit that counts a user, without charging any.
pub async fn peek(ctx: &Ctx, user: Uuid) -> Vec<LimitState> {
    let rows: Vec<&'static LimitRow> = LIMITS.iter().filter(|row| row.scope == Scope::User).collect();
    states_of(ctx, &Charge::new(rows, &user.to_string(), String::new())).await
}

/// The states of a charge's limits, without charging them.
pub async fn states_of(ctx: &Ctx, charge: &Charge) -> Vec<LimitState> {
    match ctx.redis.call_one(&charge.peek()).await {
        Ok(mut reply) => charge.states(&mut reply),
        Err(_) => ctx.limits.states(charge, now_ms()),
    }
}
