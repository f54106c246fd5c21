//! The quotas of circles: each is counted in the transaction that adds to it, by a statement that stops at the quota.

use optimist_plane::error::{Error, Result};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use optimist_shared::quotas::Quota;

statements! {
    const COUNT_CIRCLES: &str = "-- circles::count_circles
select count(*) from (select from memberships where user_id = $1 and role <> 'banned' limit $2) held";

    const COUNT_INVITES: &str = "-- circles::count_invites
select count(*) from (select from usable_invites where circle_id = $1 limit $2) usable";

    const COUNT_BANS: &str = "-- circles::count_bans (5,000 rows)
select count(*) from (select from memberships where circle_id = $1 and role = 'banned' limit $2) banned";
}

/// Whether a person may join or create another circle. The transaction holds their lock.
pub async fn check_circles(tx: &Tx, user: Uuid) -> Result<()> {
    check(tx, COUNT_CIRCLES, user, Quota::Circles).await
}

/// Whether a circle may have another invitation. The transaction holds its lock.
pub async fn check_invites(tx: &Tx, circle: Uuid) -> Result<()> {
    check(tx, COUNT_INVITES, circle, Quota::Invites).await
}

/// Whether another person may be banned from a circle. The transaction holds its lock.
pub async fn check_bans(tx: &Tx, circle: Uuid) -> Result<()> {
    check(tx, COUNT_BANS, circle, Quota::Bans).await
}

async fn check(tx: &Tx, sql: &'static str, keeper: Uuid, quota: Quota) -> Result<()> {
    let most = quota.row().most;
    let count: i64 = tx.query_one(sql, &[&keeper, &most.cast_signed()]).await?.get(0);
    if count.cast_unsigned() < most { Ok(()) } else { Err(Error::over(quota)) }
}
