//! Locks people's numbers of notifications. Whoever changes several people's notifications does that first, so that they agree with
//! the numbers: a reader of one's own locks the same row.

use optimist_plane::error::Result;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;

/// The state that changes with them: see [`super::state`].
pub const STATE: &str = "notifications";

statements! {
    const LOCK: &str = "-- notifications::lock (5,000 rows)
select from notification_counts where user_id = any($1::uuid[]) order by user_id for update";
}

/// Locks the numbers of these people, whose subscribers are told of the change: those of one shard after those of another.
pub async fn lock_counts(tx: &Tx, people: &[Uuid]) -> Result<()> {
    tx.changes(STATE, people.iter().copied());
    for people in tx.together(people).await? {
        tx.query(LOCK, &[&people]).await?;
    }
    Ok(())
}
