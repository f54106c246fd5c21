//! The limits of log-ins to one account: by address and in all, or by device for one that the account knows.
//!
//! Redis counts them like any other limit. Without Redis, Postgres counts them rather than the memory of a process: each origin
//! would admit as many.

use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::hooks;
use optimist_plane::limits::charge::charge_in_redis;
use optimist_plane::limits::charged::refusal;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use optimist_shared::limits::Limit;
use optimist_shared::scripts::limit::Charge;

statements! {
    /// Counts an attempt for each key, or for none if one of them has had `$2` in the last `$3` seconds: then it returns that
    /// one's place, from 1, and the seconds to wait.
    const COUNT_ATTEMPT: &str = "-- limits::count_attempt
with asked as (select * from unnest($1::text[], $2::bigint[]) with ordinality as asked (key, admitted, place)),
     old as (delete from login_attempts
             where account = any($1) and attempted_at < clock_timestamp() - $3::bigint * interval '1 second'),
     recent as (select key, admitted, place, count(attempted_at) as attempts, min(attempted_at) as oldest
                from asked left join login_attempts
                  on account = key and attempted_at >= clock_timestamp() - $3::bigint * interval '1 second'
                group by key, admitted, place),
     added as (insert into login_attempts (account)
               select key from recent where not exists (select from recent where attempts >= admitted))
select place, greatest(extract(epoch from oldest - clock_timestamp())::bigint + $3::bigint, 1)
from recent where attempts >= admitted order by place limit 1";
}

/// Counts an attempt to log in to an account, whose e-mail's digest is `account`: by the client's address and in all or, if
/// the client shows a device that the account knows, by device alone. 429 beyond a limit.
pub async fn charge_login(ctx: &Ctx, account: &str, client: &str, device: Option<Uuid>) -> Result<()> {
    let client = Some(client.to_owned()).filter(|_| !hooks::disabled("account-address"));
    let limits = match device.filter(|_| !hooks::disabled("device")) {
        Some(device) => vec![(Limit::LoginDevice, Some(device.to_string()))],
        None => vec![(Limit::LoginAccount, client), (Limit::LoginTotal, None)],
    };
    let rows = limits.iter().map(|(limit, _)| limit.row()).collect();
    let mut charge = Charge::new(rows, account, Uuid::now_v7().simple().to_string());
    for ((limit, part), key) in limits.iter().zip(&mut charge.keys) {
        if let Some(part) = part {
            *key = limit.row().key_of_part(account, part);
        }
    }
    match charge_in_redis(ctx, &charge).await {
        Some(charged) => charged.map(drop),
        None => charge_in_postgres(ctx, account, &charge).await,
    }
}

async fn charge_in_postgres(ctx: &Ctx, account: &str, charge: &Charge) -> Result<()> {
    // Each has one window, and they are equally long.
    let windows: Vec<_> = charge.rows.iter().map(|row| row.windows[0]).collect();
    let seconds = i64::from(windows[0].seconds);
    let admitted: Vec<i64> = windows.iter().map(|window| window.admitted.into()).collect();
    let tx = Tx::begin(&ctx.db).await?;
    // Attempts of one account are counted one after another, so that each sees those before it.
    let counted = async {
        tx.lock(account).await?;
        tx.query_opt(COUNT_ATTEMPT, &[&charge.keys, &admitted, &seconds]).await
    }
    .await;
    let Some(full) = tx.end(counted).await? else { return Ok(()) };
    let place = usize::try_from(full.get::<_, i64>(0) - 1).unwrap_or(0).min(windows.len() - 1);
    Err(refusal(charge.rows[place].policy(&windows[place]), full.get::<_, i64>(1).cast_unsigned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_windows_of_log_ins_are_equally_long() {
        let windows =
            [Limit::LoginAccount, Limit::LoginTotal, Limit::LoginDevice].map(|limit| limit.row().windows);
        assert!(windows.iter().all(|own| own.len() == 1 && own[0].seconds == windows[0][0].seconds));
    }
}
