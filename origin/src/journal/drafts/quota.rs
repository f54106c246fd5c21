//! The quota of drafts: how many bytes one person's drafts may have, wherever those are.
//!
//! The script that saves a draft adds up, from sizes that are counted here once an hour. While the region is off, Postgres adds up.
//! A sibling that a flush makes is never refused: no text is lost to the quota.

use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use optimist_shared::quotas::Quota;
use optimist_shared::scripts::Scalars as _;
use optimist_shared::scripts::drafts as script;

use crate::journal::drafts::flush::flush_of;

statements! {
    /// As many as the quota admits, and some that it did not ask for.
    const SIZES: &str = "-- drafts::sizes (1,124 rows)
select id, octet_length(sealed) from drafts where user_id = $1 and deleted_at is null
order by saved_at desc, id desc limit $2";
}

/// Whether the sizes that Redis has were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Within the last hour.
    Before,
    /// By this request: they are not to be counted again.
    Now,
    /// They cannot be: Postgres is away. The limit of saves alone holds.
    Never,
}

impl Counted {
    /// The bytes to compare with.
    pub fn most(self) -> Option<u64> {
        (self != Counted::Never).then_some(Quota::Drafts.row().most)
    }
}

/// The drafts of a person in Postgres, and what each counts of the quota.
async fn sizes(ctx: &Ctx, user: Uuid) -> Result<Vec<(Uuid, u64)>> {
    let row = Quota::Drafts.row();
    let limit = row.most_items() as i64 + 100;
    let rows = ctx.db.query(SIZES, &[&user, &limit]).await?;
    let size = |bytes: i32| row.counted(u64::try_from(bytes).unwrap_or(0));
    Ok(rows.iter().map(|row| (row.get(0), size(row.get(1)))).collect())
}

/// Counts a person's drafts, and notes their sizes in Redis. What waits there is flushed first.
pub async fn count(ctx: &Ctx, user: Uuid) -> Counted {
    let counted = async {
        flush_of(ctx, user).await?;
        sizes(ctx, user).await
    };
    match counted.await {
        Ok(sizes) => {
            if let Some(epoch) = ctx.region.vouched() {
                // If it is not noted, the next attempt of the save finds out why.
                let _ = ctx
                    .redis
                    .call_one(&script::count(user, epoch, &sizes))
                    .await
                    .map(|mut reply| reply.int());
            }
            Counted::Now
        }
        Err(error) => {
            tracing::debug!(code = error.code.as_str(), "drafts were not counted");
            Counted::Never
        }
    }
}

/// Refuses a draft that makes its person's drafts too large. It may become smaller.
pub async fn check(tx: &Tx, user: Uuid, draft: Uuid, sealed: &[u8]) -> Result<()> {
    let row = Quota::Drafts.row();
    let limit = row.most_items() as i64 + 100;
    let (mut before, mut others) = (0, 0);
    for stored in tx.query(SIZES, &[&user, &limit]).await? {
        let size = row.counted(u64::try_from(stored.get::<_, i32>(1)).unwrap_or(0));
        *(if stored.get::<_, Uuid>(0) == draft { &mut before } else { &mut others }) += size;
    }
    let after = row.counted(sealed.len() as u64);
    if after > before && others + after > row.most { Err(Error::over(Quota::Drafts)) } else { Ok(()) }
}
