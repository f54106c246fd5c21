//! Installing in Redis what it lacks of messages' reactions: counts, and the whole state of one message.
//!
//! Several origins may install at once: the script keeps what is there, and a whole state needs its key's lease. Reading what
//! Redis has is [`super::live`]'s.

use std::time::Duration;

use ::redis::{Cmd, Value};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hooks;
use optimist_plane::redis::RedisDown;
use optimist_plane::region::switch::may_soon_vouch;
use optimist_plane::write_behind::open::{Opened, open, open_patiently};
use optimist_shared::ids::{Partition, Uuid};
use optimist_shared::keys::{Companions, Key};
use optimist_shared::reactions::Counts;
use optimist_shared::scripts::install::Installed;
use optimist_shared::scripts::lease;

use crate::reactions::snapshot::ReactionSnapshot;

/// How often to try again after another origin was faster: for longer than the lease of an origin that died lasts.
pub const ATTEMPTS: u32 = 160;
const COUNTS_ATTEMPTS: u32 = 5;
pub const AGAIN: Duration = Duration::from_millis(20);
/// Milliseconds that the lease lasts: longer than the snapshot may take.
const LEASE_MS: u64 = 2_500;

/// What Redis has after an attempt to install.
pub enum Ensured {
    /// The counts, in the order of the messages; and the whole state, where it is wanted. No counts if another has installed that
    /// meanwhile.
    Counts(Vec<(Uuid, Counts)>),
    /// The message that is wanted whole does not exist.
    NoMessage,
    /// Redis cannot be asked, or not at the moment.
    NoRedis,
}

/// Puts messages' counts into Redis where they are missing, and the whole state of one message. A caller who only wants counts
/// does not wait long: Postgres's are nearly as good.
pub async fn ensure_installed(
    ctx: &Ctx,
    circle: Uuid,
    messages: &[Uuid],
    whole: Option<Uuid>,
) -> Result<Ensured> {
    let partition = Partition::of(circle);
    let attempts = if whole.is_some() { ATTEMPTS } else { COUNTS_ATTEMPTS };
    let mut is_vouched = false;
    for attempt in 0..attempts {
        if attempt > 0 {
            tokio::time::sleep(AGAIN).await;
        }
        let Some(epoch) = ctx.region.vouched() else {
            if whole.is_some() && may_soon_vouch(ctx).await? {
                continue;
            }
            return Ok(Ensured::NoRedis);
        };
        is_vouched = true;
        let token = Uuid::now_v7().simple().to_string();
        if let Some(message) = whole {
            match take_lease(ctx, circle, message, &token).await {
                Ok(true) => {}
                Ok(false) if is_whole(ctx, circle, message, epoch).await => {
                    return Ok(Ensured::Counts(Vec::new()));
                }
                Ok(false) => continue,
                Err(RedisDown) => return Ok(Ensured::NoRedis),
            }
        }
        let snapshot = ReactionSnapshot::read(ctx, circle, messages, whole).await?;
        hooks::step("install.read").await;
        if let (Some(message), Some(ReactionSnapshot { exists: false, .. })) = (whole, &snapshot) {
            give_back(ctx, circle, message, &token).await;
            return Ok(Ensured::NoMessage);
        }
        let outcome = match &snapshot {
            Some(snapshot) => install(ctx, snapshot, epoch, &token).await,
            None => Ok(Installed::Closed),
        };
        match outcome {
            Ok(Installed::Done(counts)) => return Ok(Ensured::Counts(counts)),
            Ok(Installed::Late) => {}
            Ok(Installed::Closed) => {
                let is_open = match whole {
                    Some(_) => open_patiently(ctx, partition).await?,
                    None => open(ctx, partition).await? == Opened::Yes,
                };
                if !is_open {
                    return Ok(Ensured::NoRedis);
                }
            }
            Err(RedisDown) => return Ok(Ensured::NoRedis),
        }
    }
    if whole.is_some() && is_vouched { Err(Error::unavailable("The cache")) } else { Ok(Ensured::NoRedis) }
}

async fn install(
    ctx: &Ctx,
    snapshot: &ReactionSnapshot,
    epoch: u64,
    token: &str,
) -> Result<Installed, RedisDown> {
    let mut reply = ctx.redis.call_one(&snapshot.known.install(epoch, token)).await?;
    Ok(snapshot.known.read_installed(&mut reply))
}

/// Takes the lease of the message's state. `false` if another origin holds it.
async fn take_lease(ctx: &Ctx, circle: Uuid, message: Uuid, token: &str) -> Result<bool, RedisDown> {
    let lease = Companions::of(&Key::reactions(circle, message).name()).lease;
    let mut command = Cmd::new();
    command.arg("SET").arg(lease).arg(token).arg("NX").arg("PX").arg(LEASE_MS);
    let values = ctx.redis.send([command]).await?;
    Ok(matches!(values.first(), Some(Value::Okay)))
}

/// Whether Redis has the message's state of this epoch.
async fn is_whole(ctx: &Ctx, circle: Uuid, message: Uuid, epoch: u64) -> bool {
    let mut command = Cmd::new();
    command.arg("HGET").arg(Key::reactions(circle, message).name()).arg("@");
    let values = ctx.redis.send([command]).await.unwrap_or_default();
    matches!(values.first(), Some(Value::BulkString(of)) if *of == format!("{epoch:016x}").into_bytes())
}

async fn give_back(ctx: &Ctx, circle: Uuid, message: Uuid, token: &str) {
    let state = Key::reactions(circle, message).name();
    // Should it fail, the lease lapses by itself.
    let _ = ctx.redis.call_one(&lease::give_back(&state, &Companions::of(&state), token)).await;
}
