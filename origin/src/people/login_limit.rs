//! The limit of log-ins to one account.
//!
//! Redis counts it like any other limit. Without Redis, Postgres counts it rather than the memory of a process: each origin
//! would admit as many.

use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::limits::charge::charge_in_redis;
use optimist_plane::limits::charged::refusal;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use optimist_shared::limits::Limit;
use optimist_shared::scripts::limit::Charge;

statements! {
    const COUNT_ATTEMPT: &str = "-- limits::count_attempt
with old as (delete from login_attempts where account = $1 and attempted_at < clock_timestamp() - $2::bigint * interval '1 second'),
     recent as (select count(*) as attempts, min(attempted_at) as oldest from login_attempts
                where account = $1 and attempted_at >= clock_timestamp() - $2::bigint * interval '1 second'),
     added as (insert into login_attempts (account) select $1 from recent where attempts < $3 returning 1)
select exists (select from added), coalesce(extract(epoch from oldest - clock_timestamp())::bigint + $2::bigint, 0) from recent";
}

/// Counts an attempt to log in to an account: `account` is a digest of its e-mail. 429 beyond the limit.
pub async fn charge_login(ctx: &Ctx, account: &str) -> Result<()> {
    let row = Limit::LoginAccount.row();
    let charge = Charge::new(vec![row], account, Uuid::now_v7().simple().to_string());
    if let Some(charged) = charge_in_redis(ctx, &charge).await {
        return charged.map(drop);
    }
    let window = row.windows[0];
    let (seconds, admitted) = (i64::from(window.seconds), i64::from(window.admitted));
    let tx = Tx::begin(&ctx.db).await?;
    // Attempts of one account are counted one after another, so that each sees those before it.
    let counted = async {
        tx.lock(account).await?;
        tx.query_opt(COUNT_ATTEMPT, &[&account, &seconds, &admitted]).await
    }
    .await;
    let counted = tx.end(counted).await?;
    match counted {
        Some(row) if row.get::<_, bool>(0) => Ok(()),
        counted => {
            let wait = counted.map_or(1, |row| row.get::<_, i64>(1).max(1));
            Err(refusal(row.policy(&window), wait.cast_unsigned()))
        }
    }
}
