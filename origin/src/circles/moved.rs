//! Presence follows a membership that has changed: at once where that works, and else within some minutes. Presence itself is
//! [`crate::presence`]'s.

use optimist_plane::ctx::Ctx;
use optimist_shared::ids::{Partition, Uuid};
use optimist_shared::keys::Key;

/// A new member, if present, is due to be shown in the circle.
pub async fn joined(ctx: &Ctx, user: Uuid) {
    let mut due = ::redis::cmd("ZADD");
    due.arg(Key::PresenceDue.of_partition(Partition::of(user))).arg("XX").arg(0).arg(user.to_string());
    // Whoever is present is shown anew every few minutes.
    let _ = ctx.redis.send([due]).await;
}

/// A former member is shown no longer.
pub async fn left(ctx: &Ctx, circle: Uuid, user: Uuid) {
    let remove = |key: String| {
        let mut remove = ::redis::cmd("ZREM");
        remove.arg(key).arg(user.to_string());
        remove
    };
    // Lists show members only, and both keys forget by themselves.
    let _ = ctx.redis.send([Key::online(circle), Key::typing(circle)].map(|key| remove(key.name()))).await;
}
