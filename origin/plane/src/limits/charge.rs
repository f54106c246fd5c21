//! Charging limits: through the edge's scripts, or in memory when Redis cannot be asked.

use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::limits::{LIMITS, Limit, LimitRow, LimitState, Scope};
use optimist_shared::routes::{Method, Pattern};
use optimist_shared::scripts::describe_limits;
use optimist_shared::session::{attempt_entry, autosave_entry, request_entry};

use crate::clock::now_ms;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::limits::charged::{Charged, refusal};
use crate::limits::memory::Memory;
use crate::redis::{Call, Items};
use crate::request::RequestContext;

/// Charges a route's limits of its user or, for public routes, of the client's address.
pub async fn charge_route(
    ctx: &Ctx,
    request: &RequestContext,
    user: Option<Uuid>,
    idempotency_key: Option<&str>,
) -> Result<Charged> {
    let route = request.route;
    let scope = if user.is_some() { Scope::User } else { Scope::Address };
    let rows = route.limits.iter().map(|limit| limit.row()).filter(|row| row.scope == scope).collect();
    let parameter = user.map_or_else(|| request.client.clone(), |user| user.to_string());
    let entry = match (user, idempotency_key) {
        (Some(user), _) if route.pattern == Pattern::AutoSave => {
            autosave_entry(user, request.path.draft.unwrap_or_default(), now_ms())
        }
        (Some(user), Some(key)) if route.method == Method::Post => attempt_entry(user, route.name, key),
        _ => request_entry(&request.request_id),
    };
    charge(ctx, rows, &parameter, entry).await
}

/// Charges limits of one parameter together: all of them, or none.
pub async fn charge(
    ctx: &Ctx,
    rows: Vec<&'static LimitRow>,
    parameter: &str,
    entry: String,
) -> Result<Charged> {
    match charge_in_redis(ctx, rows.clone(), parameter, entry.clone()).await {
        Some(charged) => charged,
        None => ctx.limits.charge(rows, parameter, entry, now_ms()),
    }
}

/// `None` when Redis cannot be asked.
pub async fn charge_in_redis(
    ctx: &Ctx,
    rows: Vec<&'static LimitRow>,
    parameter: &str,
    entry: String,
) -> Option<Result<Charged>> {
    let keys: Vec<String> = rows.iter().map(|row| row.key(parameter)).collect();
    let description = describe_limits(&rows);
    let mut arguments: Vec<&[u8]> = vec![b"", entry.as_bytes()];
    arguments.extend(description.iter().map(Vec::as_slice));
    let call =
        Call { script: &ctx.redis.scripts.limit, keys: keys.iter().map(String::as_str).collect(), arguments };
    let mut values = ctx.redis.call(&[call]).await.ok()?;
    let mut items = Items::new(values.pop()?);
    let outcome = items.text();
    let (limit, window, wait) = (items.int(), items.int(), items.int());
    if outcome == "refused" {
        let row = usize::try_from(limit - 1).ok().and_then(|index| rows.get(index))?;
        let window = usize::try_from(window - 1).ok().and_then(|index| row.windows.get(index))?;
        return Some(Err(refusal(
            row.policy(window),
            u64::try_from(wait).unwrap_or(0).div_ceil(1000).max(1),
        )));
    }
    let windows = rows.iter().flat_map(|row| row.windows.iter().map(move |window| (row, window)));
    let states = windows.map(|(row, window)| row.state(window, items.int(), items.int())).collect();
    let is_own = outcome == "charged";
    Some(Ok(Charged { rows, keys, entry, states, in_memory: false, is_own }))
}

/// Gives the attempt back if it failed, and its limits' rows say so.
pub async fn settle(ctx: &Ctx, charged: &Charged, status: u16) {
    let keys = charged.refundable(status);
    if keys.is_empty() {
        return;
    }
    if charged.in_memory {
        keys.iter().for_each(|key| ctx.limits.give_back(key, &charged.entry));
        return;
    }
    let script = &ctx.redis.scripts.give_back;
    // Without Redis the entry lapses with its window; why was logged.
    let _ = ctx.redis.call(&[Call { script, keys, arguments: vec![charged.entry.as_bytes()] }]).await;
}

/// Checks a token that the edge could not, nor count in Redis. An address that has brought too many bad ones is refused
/// before, by memory: good tokens share their address's fate.
pub async fn checking_token<T>(
    memory: &Memory,
    client: &str,
    check: impl Future<Output = Result<T>>,
) -> Result<T> {
    // Of its own: a request that is sent again is another attempt.
    let (row, attempt) = (Limit::BadTokens.row(), Uuid::now_v7().to_string());
    memory.charge(vec![row], client, attempt.clone(), now_ms())?;
    let result = check.await;
    if !matches!(&result, Err(error) if error.code == ErrorCode::Unauthenticated) {
        memory.give_back(&row.key(client), &attempt);
    }
    result
}

/// The state of every limit that counts a user, charging none.
pub async fn peek(ctx: &Ctx, user: Uuid) -> Vec<LimitState> {
    let rows: Vec<&'static LimitRow> = LIMITS.iter().filter(|row| row.scope == Scope::User).collect();
    let keys: Vec<String> = rows.iter().map(|row| row.key(&user.to_string())).collect();
    let description = describe_limits(&rows);
    let mut arguments: Vec<&[u8]> = vec![b""];
    arguments.extend(description.iter().map(Vec::as_slice));
    let call =
        Call { script: &ctx.redis.scripts.peek, keys: keys.iter().map(String::as_str).collect(), arguments };
    match ctx.redis.call(&[call]).await {
        Ok(mut values) => {
            let mut items = Items::new(values.pop().unwrap_or(::redis::Value::Nil));
            let windows = rows.iter().flat_map(|row| row.windows.iter().map(move |window| (row, window)));
            windows.map(|(row, window)| row.state(window, items.int(), items.int())).collect()
        }
        Err(_) => ctx.limits.states(&rows, &keys, now_ms()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[tokio::test]
    async fn bad_tokens_of_an_address_are_counted_and_good_ones_are_not() {
        let memory = Memory::default();
        let admitted = Limit::BadTokens.row().windows[0].admitted;
        let check = async |result: Result<()>| {
            checking_token(&memory, "192.0.2.1", async { result }).await.map_err(|error| error.code)
        };
        for _ in 0..2 * admitted {
            assert_eq!(check(Ok(())).await, Ok(()));
        }
        for _ in 0..admitted {
            let bad = Err(Error::new(ErrorCode::Unauthenticated));
            assert_eq!(check(bad).await, Err(ErrorCode::Unauthenticated));
        }
        assert_eq!(check(Ok(())).await, Err(ErrorCode::RateLimited));
    }
}
