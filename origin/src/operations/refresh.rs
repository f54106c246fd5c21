//! Reads anew, before they are missed, the copies that most readers read first: the first page of discovery, the prompts, and
//! those of the busiest circles.
//!
//! It only drops copies and reads them through their own loaders.

use optimist_plane::cache::fence::drop_copies;
use optimist_plane::cache::read::read_through;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{BoundKey, Key};

statements! {
    /// The busiest circles of today and yesterday.
    const BUSIEST: &str = "-- jobs::busiest_circles (40,000 rows, uncapped: people active in two days)
select circle_id from activity where day >= current_date - 1
group by circle_id order by sum(posts + reactions + bit_count(visits)) desc, circle_id limit 200";
}

/// Returns how many keys it read.
pub async fn critical_keys(ctx: &Ctx) -> Result<u64> {
    let mut wanted = vec![Key::discovery(), Key::prompts()];
    for row in ctx.db.query(BUSIEST, &[]).await? {
        wanted.extend(of_circle(row.get(0)));
    }
    let mut done = 0;
    for key in wanted {
        // Counts are live: those in Redis are as new as any.
        if key.key() != Key::Counts {
            // Without Redis there is nothing to refresh.
            let Ok(_) = drop_copies(ctx, &[key.name()]).await else { return Ok(done) };
        }
        read_through(ctx, key).await?;
        done += 1;
    }
    Ok(done)
}

/// A circle's keys; its list of messages comes with their counts.
fn of_circle(circle: Uuid) -> [BoundKey; 4] {
    [Key::circle(circle), Key::circle_access(circle), Key::circle_members(circle), Key::counts(circle)]
}
