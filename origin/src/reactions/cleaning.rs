//! Removing reactions that were taken back.
//!
//! Their rows stay for a day, so that no older intent undoes them.

use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::{jobs, statements};

statements! {
    const CLEAN_REACTIONS: &str = "-- jobs::clean_reactions
with gone as (
    delete from reactions where ctid = any(array(
        select ctid from reactions where not is_on and reacted_at < now() - interval '1 day' limit $1))
    returning 1)
select count(*) from gone";
}

pub async fn clean_reactions(ctx: &Ctx) -> Result<u64> {
    jobs::clean(ctx, CLEAN_REACTIONS).await
}
